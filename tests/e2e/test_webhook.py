"""A webhook to a running exporter: new logs are on ``/metrics`` long before the next poll."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import bcrypt
import pytest

from late_exporter.ingest.webhooks import sign
from tests.e2e.late import LateServer
from tests.e2e.program import ExporterProcess, http_request, wait_equal

pytestmark = pytest.mark.e2e

SECRET = "whsec_" + "5eed" * 8


def post_webhook(program: ExporterProcess, event: str, *, secret: str = SECRET) -> int:
    """Send a new webhook as Zernio does, and return the status of the response."""
    timestamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    body = json.dumps({"id": str(uuid4()), "event": event, "timestamp": timestamp, "post": {"id": "p"}}).encode()
    headers = {"Content-Type": "application/json", "X-Zernio-Signature": sign(body, secret)}
    return http_request("POST", f"{program.url}/webhook", headers, body).status


def test_a_failure_is_shown_once_its_webhook_has_come(
    late: LateServer, start_exporter: Callable[..., ExporterProcess], tmp_path: Path
) -> None:
    """Between two polls, a minute apart, its log is counted once, and so is the webhook, which needs a secret only."""
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    password = bcrypt.hashpw(b"correct horse", bcrypt.gensalt(4)).decode()
    (tmp_path / "web.yml").write_text(f"basic_auth_users: {{zernio: {password}}}\n")
    late.world.publish(3, over=60)
    program = start_exporter(
        "--webhook.path=/webhook",
        f"--webhook.secret-file={tmp_path / 'secret'}",
        f"--web.config.file={tmp_path / 'web.yml'}",
        "--web.unauthenticated-paths=/metrics,/-/ready",
        "--status.feeds=none",
        interval="1m",
    ).wait_ready()
    wait_equal(3.0, lambda: program.scrape().sum("late_publishing_logs_total"))
    assert 401 == program.get("/").status
    with late.lock:
        late.world.publish(1, status="failed", statusCode=500)
    assert 401 == post_webhook(program, "post.failed", secret="guess")
    assert 204 == post_webhook(program, "post.failed")
    wait_equal(1.0, lambda: program.scrape().sum("late_publishing_failures_total"))
    samples = program.scrape()
    assert 1 == samples.sum("late_exporter_webhooks_received_total", event="post.failed")
    assert 1 == samples.sum("late_exporter_webhooks_rejected_total", reason="signature")
    assert 1 == samples.sum("late_exporter_webhook_lag_seconds_count")
    assert 4 == samples.sum("late_publishing_logs_total")
