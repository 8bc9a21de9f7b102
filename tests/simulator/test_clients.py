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


def test_every_row_fits_the_models(world: SimulatedWorld) -> None:
    """Every row of a week fits the client's models."""
    logs = [PostLog.model_validate(row) for row in world.publishing.rows]
    events = [ConnectionLog.model_validate(row) for row in world.connections.rows]
    assert (len(world.publishing), len(world.connections)) == (len(logs), len(events))
    assert all(log.createdAt and log.platform and log.action and log.status for log in logs)
    assert all(event.createdAt and event.platform and event.eventType for event in events)


def test_rejections(url: str, late: Late) -> None:
    """The client raises its own errors for rejected requests."""
    with pytest.raises(LateAuthenticationError):
        Late("sk_wrong", base_url=url).logs.list_posts_logs()
    with pytest.raises(LateNotFoundError):
        late.logs.get_post_logs("none")
    with pytest.raises(LateAPIError, match="Invalid query"):
        late.logs.list_posts_logs(limit=101)


def test_head(url: str) -> None:
    """HEAD is answered as GET without a body."""
    response, head = (
        httpx.request(method, f"{url}/v1/posts/logs", headers={"Authorization": f"Bearer {KEY}"})
        for method in ("GET", "HEAD")
    )
    assert (200, b"") == (head.status_code, head.content)
    assert response.headers["Content-Length"] == head.headers["Content-Length"]
    assert ["Tue, 24 Nov 2026 12:00:00 GMT"] == head.headers.get_list("Date")
