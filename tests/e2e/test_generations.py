"""Tests with an API of generation zernio: on-call commands, checks, and the switch from late."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.late import KEY, LateServer
from tests.e2e.program import ExporterProcess, wait_equal, wait_until
from tests.support.clock import DAY

pytestmark = pytest.mark.e2e

LOGS = "late_publishing_logs_total"
FAILURE = {"errorCode": "RATE_LIMITED", "errorMessage": "Rate limit exceeded"}


@pytest.fixture
def run_command(exit_stack: ExitStack, tmp_path: Path, late: LateServer) -> Callable[..., ExporterProcess]:
    """Return a function that starts a command with the API and the state of ``run``."""
    late.api.generation = "zernio"

    def start(*arguments: str) -> ExporterProcess:
        env = {"LATE_API_KEY": KEY, "LATE_EXPORTER_API__BASE_URL": late.url}
        env["LATE_EXPORTER_STATE__URL"] = f"sqlite:///{tmp_path / 'state.db'}"
        return exit_stack.enter_context(ExporterProcess(tmp_path, *arguments, env=env))

    return start


def test_a_post_and_logs(late: LateServer, run_command: Callable[..., ExporterProcess]) -> None:
    """Post and logs show the same as with generation late."""
    late.world.publish(150, over=600)
    late.world.publish(postId="p1", platform="tiktok", status="failed", response=FAILURE)
    late.world.publish(postId="p1", response={"platformPostUrl": "https://example.org/p/1"})
    post, unknown, logs, back, feed = (
        run_command(*fragments.split())
        for fragments in (
            "post p1",
            "post nobody",
            "logs --action publish --limit 0 --format json",
            "logs --since 90d --status failed --api.generation zernio",
            "logs --feed webhooks --api.generation late",
        )
    )

    assert (0, "") == (post.wait_exit(), post.stderr)
    assert [
        "instagram: published https://example.org/p/1",
        "tiktok: failed after 1 attempt (RATE_LIMITED)",
    ] == post.stdout.splitlines()[-2:]
    assert 1 == unknown.wait_exit()
    assert "has no logs of a post nobody: the API keeps logs for 90 days" in unknown.stderr
    assert (0, 152, "") == (logs.wait_exit(), len(logs.stdout.splitlines()), logs.stderr)
    assert {"post.published", "post.failed"} == {json.loads(line)["action"] for line in logs.stdout.splitlines()}
    assert (0, 2) == (back.wait_exit(), len(back.stdout.splitlines()))
    assert 2 == feed.wait_exit()
    assert "--feed: generation late of the API has no webhooks logs, only publishing, connections" in feed.stderr


def test_following(late: LateServer, run_command: Callable[..., ExporterProcess]) -> None:
    """A new log is shown once."""
    late.world.publish(5)
    program = run_command("logs", "--follow", "--poll.interval=100ms", "--format=json")
    wait_equal(5, lambda: len(program.stdout.splitlines()))
    with late.lock:
        late.world.publish(2)
    wait_equal(7, lambda: len(program.stdout.splitlines()))
    request_count = len(late.requests)
    wait_until(lambda: len(late.requests) > request_count + 2)
    assert 7 == len(program.stdout.splitlines())


def test_check_and_audit(
    late: LateServer, run_command: Callable[..., ExporterProcess], start_exporter: Callable[..., ExporterProcess]
) -> None:
    """After a run the audit finds no difference, and the check names the generation."""
    late.world.publish(250, over=DAY, kinds=[{}, {"status": "failed", "response": FAILURE}, {"status": "pending"}])
    late.world.add_connection()
    program = start_exporter()
    wait_equal(250.0, lambda: program.scrape().sum(LOGS))
    program.wait_ready()
    check, audit = run_command("check", "--web.listen-address=127.0.0.1:0"), run_command("audit")

    assert 0 == check.wait_exit(), check.stdout
    endpoint_lines = {line[9:].split("  ")[0]: line.split("  ", 2)[-1].strip() for line in check.stdout.splitlines()}
    assert "default publishing generation      zernio: /v1/logs?type=publishing 200, newest log 20" in check.stdout
    assert "; late: /v1/posts/logs 404: the API has no /v1/posts/logs" in check.stdout
    assert "250 logs" in endpoint_lines["default /v1/logs?type=publishing"]
    assert (0, "") == (audit.wait_exit(), audit.stderr), audit.stdout
    assert ["default publishing: no difference", "default connections: no difference"] == [
        line for line in audit.stdout.splitlines() if line.startswith("default")
    ]


def test_a_switch(
    late: LateServer, run_command: Callable[..., ExporterProcess], start_exporter: Callable[..., ExporterProcess]
) -> None:
    """A switch to zernio counts nothing twice; an audit before the first start is rejected, a later one is clean."""
    late.api.generation = "late"
    late.world.publish(350, over=DAY, kinds=[{}, {"status": "failed", "response": FAILURE}])
    late.world.add_connection()
    program = start_exporter()
    wait_equal(350.0, lambda: program.scrape().sum(LOGS))
    program.wait_ready().stop()
    late.api.generation = "zernio"
    check, early = run_command("check", "--web.listen-address=127.0.0.1:0"), run_command("audit")
    assert (0, 1) == (check.wait_exit(), early.wait_exit())
    assert "the state was counted from late; of zernio, only newer logs will count" in check.stdout
    assert "the API has generation zernio, but the state was counted from late; start the exporter" in early.stdout

    program.start()
    program.wait_ready()
    wait_equal(1.0, lambda: program.scrape().sum("late_exporter_api_generation_info", generation="zernio"))
    audit = run_command("audit")
    assert 0 == audit.wait_exit(), audit.stdout
    assert 350 == program.scrape().sum(LOGS)
