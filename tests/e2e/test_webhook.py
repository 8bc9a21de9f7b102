"""Tests of webhooks to a running exporter: new logs are on ``/metrics`` long before the next poll."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from late_exporter.ingest.webhooks import sign
from tests.e2e.late import LateServer
from tests.e2e.program import ExporterProcess, wait_equal

pytestmark = pytest.mark.e2e

SECRET = "whsec_" + "5eed" * 8
HASH = "$2y$10$" + "a" * 21 + "O" + "a" * 31
FAILURES = "late_publishing_failures_total"
RECEIVED = "late_exporter_webhooks_received_total"
REFUSED = "late_exporter_webhooks_rejected_total"


def post(program: ExporterProcess, event: str, *, secret: str = SECRET) -> int:
    """Send a webhook like Late, and return the status of the response."""
    timestamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    body = json.dumps({"id": timestamp, "event": event, "timestamp": timestamp, "post": {"id": "p"}}).encode()
    address = urlsplit(program.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
    try:
        headers = {"Content-Type": "application/json", "X-Late-Signature": sign(body, secret)}
        connection.request("POST", "/webhook", body, headers)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.fixture
def program(start_exporter: Callable[..., ExporterProcess], tmp_path: Path, late: LateServer) -> ExporterProcess:
    """Return an exporter with a poll interval of a minute that has polled once, with and without basic auth."""
    secret, web = tmp_path / "secret", tmp_path / "web.yml"
    secret.write_text(f"{SECRET}\n")
    web.write_text(f"basic_auth_users: {{alice: {HASH}}}\nauth_excluded_paths: [/metrics, /-/ready]\n")
    late.world.publish(3, over=60)
    arguments = ("--webhook.path=/webhook", f"--webhook.secret-file={secret}", f"--web.config.file={web}")
    started = start_exporter(*arguments, "--status.feeds=none", interval="1m").wait_ready()
    wait_equal(3.0, lambda: started.scrape().sum("late_publishing_logs_total"))
    return started


def insert_failure(late: LateServer) -> None:
    """Insert a failed log."""
    with late.lock:
        late.world.publish(1, status="failed", statusCode=500)


def test_a_failure_is_shown_once_its_webhook_has_come(program: ExporterProcess, late: LateServer) -> None:
    """After a webhook the log is counted once within seconds, and so is the webhook."""
    assert 401 == program.get("/").status
    insert_failure(late)
    assert 204 == post(program, "post.failed")
    wait_equal(1.0, lambda: program.scrape().sum(FAILURES), timeout=20.0)
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
    wait_equal(1.0, lambda: program.scrape().sum(FAILURES), timeout=20.0)
    assert 20 == program.scrape().sum(REFUSED, reason="signature")


def test_the_secret_changes_while_it_runs(program: ExporterProcess, tmp_path: Path) -> None:
    """A changed secret file is read again, no secret is logged, and counts survive a restart."""
    (tmp_path / "secret").write_text("another-secret-of-the-webhook")
    assert 401 == post(program, "post.scheduled")
    assert 204 == post(program, "post.scheduled", secret="another-secret-of-the-webhook")
    wait_equal(1.0, lambda: program.scrape().sum(RECEIVED), timeout=20.0)
    program.kill()
    assert 1 == program.start().wait_ready().scrape().sum(RECEIVED, event="post.scheduled")
    assert SECRET not in program.stderr
    assert "another-secret" not in program.stderr
