"""Tests of webhooks to a running exporter: new logs are on ``/metrics`` long before the next poll."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import bcrypt
import pytest

from late_exporter.ingest.webhooks import sign
from tests.e2e.late import LateServer
from tests.e2e.program import ExporterProcess, wait_equal

pytestmark = pytest.mark.e2e

SECRET = "whsec_" + "5eed" * 8
PASSWORD = "correct horse"
FAILURES = "late_publishing_failures_total"
RECEIVED = "late_exporter_webhooks_received_total"
REFUSED = "late_exporter_webhooks_rejected_total"


def webhook(event: str, *, age: timedelta = timedelta()) -> bytes:
    """Return the body of a webhook as Zernio sends it, of an event some time ago."""
    timestamp = (datetime.now(UTC) - age).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"id": str(uuid4()), "event": event, "timestamp": timestamp, "post": {"id": "p"}}).encode()


def post(program: ExporterProcess, event: str, *, secret: str = SECRET, path: str = "/webhook") -> int:
    """Send a new webhook, and return the status of the response."""
    address, body = urlsplit(program.url), webhook(event)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
    try:
        headers = {"Content-Type": "application/json", "X-Zernio-Signature": sign(body, secret)}
        connection.request("POST", path, body, headers)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.fixture
def program(start_exporter: Callable[..., ExporterProcess], tmp_path: Path, late: LateServer) -> ExporterProcess:
    """Return an exporter with a poll interval of a minute that has polled once, and needs a password for its pages."""
    late.world.publish(3, over=60)
    started = start_exporter(*webhook_flags(tmp_path), "--status.feeds=none", interval="1m").wait_ready()
    wait_equal(3.0, lambda: started.scrape().sum("late_publishing_logs_total"))
    return started


def webhook_flags(folder: Path) -> tuple[str, ...]:
    """Write the secret and the users, and return the flags that name the files."""
    (folder / "secret").write_text(f"{SECRET}\n")
    users = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    (folder / "web.yml").write_text(f"basic_auth_users: {{zernio: {users}}}\n")
    return (
        "--webhook.path=/webhook",
        f"--webhook.secret-file={folder / 'secret'}",
        f"--web.config.file={folder / 'web.yml'}",
        "--web.unauthenticated-paths=/metrics,/-/ready",
    )


def insert_failure(late: LateServer) -> None:
    """Insert a failed log."""
    with late.lock:
        late.world.publish(1, status="failed", statusCode=500)


def test_a_failure_is_shown_once_its_webhook_has_come(program: ExporterProcess, late: LateServer) -> None:
    """After a webhook the log is counted once within seconds, and so is the webhook."""
    assert 401 == program.get("/").status
    insert_failure(late)
    assert 204 == post(program, "post.failed")
    wait_equal(1.0, lambda: program.scrape().sum(FAILURES))
    samples = program.scrape()
    assert (1, 0) == (samples.sum(RECEIVED, event="post.failed"), samples.sum(REFUSED))
    assert 1 == samples.sum("late_exporter_webhook_lag_seconds_count")
    assert 4 == samples.sum("late_publishing_logs_total")


def test_a_forged_webhook_wakes_nothing(program: ExporterProcess, late: LateServer) -> None:
    """A webhook with a wrong signature triggers no request and is counted as rejected; a valid one still works."""
    insert_failure(late)
    request_count = len(late.requests)
    assert [401] * 20 == [post(program, "post.failed", secret="guess") for _ in range(20)]
    threading.Event().wait(3.0)
    assert request_count == len(late.requests)
    assert 0 == program.scrape().sum(FAILURES)
    assert 204 == post(program, "post.failed")
    wait_equal(1.0, lambda: program.scrape().sum(FAILURES))
    assert 20 == program.scrape().sum(REFUSED, reason="signature")
