"""Tests of the simulated API of generation ``late`` with a client of the vendor, over HTTP."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import httpx
import pytest
import uvicorn
from late import Late  # type: ignore[import-untyped]
from late.client.exceptions import (  # type: ignore[import-untyped]
    LateAPIError,
    LateAuthenticationError,
    LateNotFoundError,
    LateRateLimitError,
)
from late.models._generated.models import ConnectionLog, PostLog  # type: ignore[import-untyped]

from late_exporter.simulator import SimulatedApi, SimulatedWorld

pytestmark = pytest.mark.e2e

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()
KEY = "sk_" + "0123456789abcdef" * 4


@contextmanager
def serve_api(api: SimulatedApi) -> Iterator[str]:
    """Serve an API on a free port and yield its base URL. The socket listens before the server runs."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(api, log_level="warning", date_header=False, lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/api"
        finally:
            server.should_exit = True
            thread.join(10)


@pytest.fixture(scope="module")
def world() -> SimulatedWorld:
    """Return a world with a history of a week that does not advance."""
    return SimulatedWorld(1, NOW)


@pytest.fixture(scope="module")
def url(world: SimulatedWorld) -> Iterator[str]:
    """Return the base URL of the world's API."""
    with serve_api(SimulatedApi(world, clock=lambda: NOW)) as base_url:
        yield base_url


@pytest.fixture
def late(url: str) -> Late:
    """Return the client."""
    return Late(KEY, base_url=url, max_retries=1)


def test_publishing_logs(late: Late, world: SimulatedWorld) -> None:
    """The client reads the whole publishing list, and its models accept every row."""
    total = len(world.publishing)
    for skip in range(0, total, 2000):
        page = late.logs.list_posts_logs(limit=100, skip=skip)
        logs = [PostLog.model_validate(log) for log in page["logs"]]
        assert [row["_id"] for row in world.publishing.rows[skip : skip + 100]] == [log.field_id for log in logs]
        assert total == page["pagination"]["total"]


def test_every_row_fits_the_models(world: SimulatedWorld) -> None:
    """Every row of a week fits the client's models."""
    logs = [PostLog.model_validate(row) for row in world.publishing.rows]
    events = [ConnectionLog.model_validate(row) for row in world.connections.rows]
    assert (len(world.publishing), len(world.connections)) == (len(logs), len(events))
    assert all(log.createdAt and log.platform and log.action and log.status for log in logs)
    assert all(event.createdAt and event.platform and event.eventType for event in events)


def test_filters(late: Late) -> None:
    """The API supports the client's filters."""
    page = late.logs.list_posts_logs(
        status="failed", platform="instagram", action="publish", days=3, search="unavailable"
    )
    logs = [PostLog.model_validate(log) for log in page["logs"]]
    assert {("instagram", "failed", 503)} == {
        (log.platform.value, log.status.value, log.statusCode) for log in logs if log.platform and log.status
    }


def test_connection_logs(late: Late) -> None:
    """The client reads the connection logs, including disconnects."""
    page = late.logs.list_connection_logs(event_type="disconnect", limit=100)
    logs = [ConnectionLog.model_validate(log) for log in page["logs"]]
    assert page["pagination"]["total"] == len(logs) > 0
    assert {"disconnect"} == {log.eventType.value for log in logs if log.eventType}
    assert all(log.accountId for log in logs)


def test_post_logs(late: Late, world: SimulatedWorld) -> None:
    """The client reads the logs of one post."""
    post = next(row["postId"]["_id"] for row in world.publishing.rows if row["action"] == "retry")
    answer = late.logs.get_post_logs(post)
    logs = [PostLog.model_validate(log) for log in answer["logs"]]
    assert len(world.publishing.rows_of_post(post)) == answer["count"] == len(logs)
    assert {post} == {answer["postId"], *(log.postId for log in logs)}


def test_rejections(url: str, late: Late) -> None:
    """The client raises its own errors for rejected requests."""
    with pytest.raises(LateAuthenticationError):
        Late("sk_wrong", base_url=url).logs.list_posts_logs()
    with pytest.raises(LateNotFoundError):
        late.logs.get_post_logs("none")
    with pytest.raises(LateAPIError, match="Invalid query"):
        late.logs.list_posts_logs(limit=101)


def test_rate_limit(world: SimulatedWorld) -> None:
    """The client reads the quota from the headers and raises an error when it is used up."""
    with serve_api(SimulatedApi(world, clock=lambda: NOW, rate_limit=1)) as url:
        late = Late(KEY, base_url=url)
        late.logs.list_posts_logs(limit=1)
        assert (1, 0) == (late.rate_limit_info["limit"], late.rate_limit_info["remaining"])
        with pytest.raises(LateRateLimitError):
            late.logs.list_posts_logs(limit=1)


def test_head(url: str) -> None:
    """HEAD is answered as GET without a body."""
    response, head = (
        httpx.request(method, f"{url}/v1/posts/logs", headers={"Authorization": f"Bearer {KEY}"})
        for method in ("GET", "HEAD")
    )
    assert (200, b"") == (head.status_code, head.content)
    assert response.headers["Content-Length"] == head.headers["Content-Length"]
    assert ["Tue, 24 Nov 2026 12:00:00 GMT"] == head.headers.get_list("Date")
