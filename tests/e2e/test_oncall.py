"""Tests of the on-call commands as processes, with a real HTTP API."""

from __future__ import annotations

import csv
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from late_exporter.api.generation import UNUSABLE_HINT
from tests.e2e.late import KEY, HttpExchange, LateServer, respond_with
from tests.e2e.program import DEFAULT_TIMEOUT, ROOT, ExporterProcess, start_process, wait_equal, wait_until

pytestmark = pytest.mark.e2e

HOSTILE = "=cmd()\x1b]0;owned\x07\x1b[2J\r\n\u202egnp.exe\ud83d\x9b31m"
FAILURE = {"errorCode": "RATE_LIMITED", "errorMessage": "Rate limit exceeded"}


@pytest.fixture
def run_command(exit_stack: ExitStack, tmp_path: Path, late: LateServer) -> Callable[..., ExporterProcess]:
    """Return a function that starts a command with the API."""

    def start(*arguments: str, **env: str) -> ExporterProcess:
        return exit_stack.enter_context(
            ExporterProcess(
                tmp_path, *arguments, env={"LATE_API_KEY": KEY, "LATE_EXPORTER_API__BASE_URL": late.url, **env}
            )
        )

    return start


def test_post(late: LateServer, run_command: Callable[..., ExporterProcess]) -> None:
    """A failed post is shown with its attempts and its outcome; the exit code is 0."""
    late.world.publish(postId="p1", platform="tiktok", status="failed", response=FAILURE)
    late.world.publish(
        postId="p1", platform="tiktok", action="retry", attemptNumber=2, status="failed", response=FAILURE
    )
    late.world.publish(postId="p1", response={"platformPostUrl": "https://example.org/p/1"})
    program = run_command("post", "p1")

    assert (0, "") == (program.wait_exit(), program.stderr)
    lines = program.stdout.splitlines()
    assert "Post p1" == lines[0]
    assert [
        "instagram: published https://example.org/p/1",
        "tiktok: failed after 2 attempts (RATE_LIMITED)",
    ] == lines[-2:]
    assert 2 == program.stdout.count("RATE_LIMITED: Rate limit exceeded")
    assert ["/v1/logs", "/v1/posts/logs", "/v1/posts/p1/logs"] == late.paths()


@pytest.mark.parametrize(
    ("arguments", "code", "expected_message"),
    [
        (("post", "nobody"), 1, "the workspace default has no logs of a post nobody: "),
        (("post", "../logs?limit=1#x"), 1, "the workspace default has no logs of a post ../logs?limit=1#x: "),
        (("post", ".."), 2, "POST_ID: not the id of a post"),
        (("post",), 2, "POST_ID is missing"),
        (("post", "p", "--workspace", "x"), 2, '--workspace "x": no such workspace; choose from default'),
        (("logs", "--platform", "myspace"), 1, "400: Invalid query; platform must be one of: "),
        (("logs", "--follow", "--status", "lost"), 1, "400: Invalid query; status must be one of: "),
    ],
    ids=range(7),
)
def test_usage_errors(
    run_command: Callable[..., ExporterProcess], arguments: tuple[str, ...], code: int, expected_message: str
) -> None:
    """A usage error is one line."""
    program = run_command(*arguments)

    assert (code, "") == (program.wait_exit(), program.stdout)
    assert program.stderr.startswith(f"late-exporter: error: {expected_message}")
    assert 1 == len(program.stderr.splitlines())


def test_ids_stay_in_the_path(late: LateServer, run_command: Callable[..., ExporterProcess]) -> None:
    """An id with special characters leads to no other endpoint."""
    run_command("post", "../logs?limit=1#x").wait_exit()

    assert ["/v1/logs", "/v1/posts/logs", "/v1/posts/..%2Flogs%3Flimit%3D1%23x/logs"] == late.paths()


@pytest.mark.parametrize("command", [("post", "p1"), ("logs",), ("logs", "--follow")], ids=" ".join)
@pytest.mark.parametrize(
    ("status", "expected_message"),
    [
        (401, "401: the API key was rejected: no"),
        (429, "429: no"),
        (
            500,
            f"no log list can be read: /v1/logs?type=publishing 500: no; /v1/posts/logs 500: no; {UNUSABLE_HINT}",
        ),
    ],
)
def test_api_errors(
    late: LateServer,
    run_command: Callable[..., ExporterProcess],
    command: tuple[str, ...],
    status: int,
    expected_message: str,
) -> None:
    """An error of the API is one line, and the exit code is 1."""
    late.fault = respond_with(status, {"error": "no"})
    program = run_command(*command)

    assert (1, "", f"late-exporter: error: {expected_message}\n") == (
        program.wait_exit(),
        program.stdout,
        program.stderr,
    )


def test_workspaces(late: LateServer, run_command: Callable[..., ExporterProcess], tmp_path: Path) -> None:
    """A command uses the key of the chosen workspace."""
    (tmp_path / "a").write_text("sk_" + "a" * 64)
    (tmp_path / "b").write_text(KEY)
    (tmp_path / "late.yml").write_text("workspaces: [{name: a, api_key_file: a}, {name: b, api_key_file: b}]")
    late.world.publish(postId="p1")
    config = ("--config.file", "late.yml")
    unnamed, rejected, good = (
        run_command(*command, *config, LATE_API_KEY="")
        for command in (("logs",), ("post", "p1", "--workspace", "a"), ("post", "p1", "--workspace=b"))
    )

    assert (2, "late-exporter: error: --workspace: required, because there are several: a, b\n") == (
        unnamed.wait_exit(),
        unnamed.stderr,
    )
    assert 1 == rejected.wait_exit()
    assert 0 == good.wait_exit()


def test_logs_as_a_table(late: LateServer, run_command: Callable[..., ExporterProcess]) -> None:
    """The newest matching logs are printed, with a note about more."""
    late.world.publish(150, over=600, kinds=[{"status": "failed", "response": FAILURE}, {}])
    program = run_command("logs", "--status", "failed", "--limit", "5")

    assert 0 == program.wait_exit()
    assert 6 == len(program.stdout.splitlines())
    assert "late-exporter: these are the newest 5; --limit 0 shows all\n" == program.stderr


def test_no_logs(run_command: Callable[..., ExporterProcess]) -> None:
    """Without a match the output is empty and the exit code is 0."""
    program = run_command("logs", "--format", "csv")

    assert (0, "", "late-exporter: no log matches\n") == (program.wait_exit(), program.stdout, program.stderr)


@pytest.mark.parametrize("locale", [{}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}], ids=str)
def test_formats_are_exact(
    late: LateServer, run_command: Callable[..., ExporterProcess], locale: dict[str, str]
) -> None:
    """JSON and CSV are complete and in UTF-8 in every locale."""
    late.world.publish(130, over=600, accountUsername="Bäckerei 🥨")
    lines, table = (run_command("logs", "--limit", "0", "--format", form, **locale) for form in ("json", "csv"))

    assert (0, 0) == (lines.wait_exit(), table.wait_exit())
    assert [dict(row) for row in late.world.rows] == [json.loads(line) for line in lines.stdout.splitlines()]
    assert late.world.ids == [row["log_id"] for row in csv.DictReader(table.stdout.splitlines())]
    assert {"Bäckerei 🥨"} == {row["username"] for row in csv.DictReader(table.stdout.splitlines())}


@pytest.mark.parametrize(
    "arguments",
    [
        "post p1",
        "post p1 --format json",
        "logs",
        "logs --format json",
        "logs --format csv",
        "logs --feed connections",
        "logs --feed connections --format json",
    ],
)
def test_hostile_texts(late: LateServer, run_command: Callable[..., ExporterProcess], arguments: str) -> None:
    """No text of the API or of users sends control characters to the terminal, and the key is never shown."""
    text = f"{HOSTILE}{KEY}"
    inner = dict.fromkeys(("errorCode", "errorMessage", "rawBody", "platformPostUrl", "code", "message", text), text)
    outer = dict.fromkeys(("platform", "action", "eventType", "status", "accountUsername", "createdAt", text), text)
    row = {"_id": text, "postId": {"_id": "p1", "content": text}, "response": inner, "error": inner, **outer}
    # The simulator's JSON encoder rejects a lone surrogate.
    late.fault = respond_with(200, json.dumps({"logs": [row], "pagination": {"total": 1, "hasMore": False}}))
    program = run_command(*arguments.split(), "--api.generation=late")

    assert 0 == program.wait_exit(), program.stderr
    assert program.stdout.replace("\n", "").isprintable()
    assert KEY[:20] not in program.stdout + program.stderr
    assert "owned" in program.stdout


def test_following(late: LateServer, run_command: Callable[..., ExporterProcess]) -> None:
    """New logs are shown as they arrive, also after an outage; SIGINT ends with exit code 0 and no message."""
    late.world.publish(3)
    program = run_command("logs", "--follow", "--poll.interval", "100ms", "--format", "json")
    wait_equal(late.world.ids[::-1], lambda: log_ids(program))
    late.fault = respond_with(503, {"error": "down"})
    wait_until(lambda: "503: down; retrying in 0.2 s" in program.stderr)
    with late.lock:
        late.world.publish(150)
        (pending,) = late.world.publish(status="pending")
    late.fault = None
    wait_equal(late.world.ids[::-1], lambda: log_ids(program))
    with late.lock:
        late.world.change(pending, "failed")
    wait_equal([*late.world.ids[::-1], pending], lambda: log_ids(program))

    assert "failed" == json.loads(program.stdout.splitlines()[-1])["status"]
    assert 0 == program.stop(signal.SIGINT)
    assert {"late-exporter"} == {line.partition(":")[0] for line in program.stderr.splitlines()}


def log_ids(program: ExporterProcess) -> list[str]:
    """Return the ids of the complete JSON lines."""
    complete = program.stdout.rpartition("\n")[0]
    return [json.loads(line)["_id"] for line in complete.splitlines()]


def test_following_ends_on_sigterm(late: LateServer, run_command: Callable[..., ExporterProcess]) -> None:
    """SIGTERM ends following with exit code 0."""
    late.world.publish()
    program = run_command("logs", "--follow")
    wait_until(lambda: program.stdout.count("\n") == 2)

    assert (0, "") == (program.stop(), program.stderr)


@pytest.mark.parametrize("arguments", ["logs --limit 0", "logs --follow --poll.interval 100ms", "post p1"])
def test_a_closed_pipe(late: LateServer, tmp_path: Path, arguments: str) -> None:
    """The command ends silently if the reader of its output has ended."""
    late.world.publish(3000, over=600, postId="p1")
    env = {
        "LATE_API_KEY": KEY,
        "LATE_EXPORTER_API__BASE_URL": late.url,
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
    }
    command = f"'{sys.executable}' -m late_exporter {arguments} | head -n 1"
    bash = ["bash", "-o", "pipefail", "-c", command]
    with start_process(bash, env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while process.poll() is None:
            with late.lock:
                late.world.publish()
            late.pause(0.05)
        outputs = process.communicate()
    assert (0, b"") == (process.returncode, outputs[1])
    assert 1 == len(outputs[0].splitlines())


def test_a_terminal(late: LateServer, tmp_path: Path) -> None:
    """On a terminal the output has colours and fits the width."""
    late.world.publish(postId="p1", status="failed", response=FAILURE)
    plain = {"LATE_API_KEY": KEY, "LATE_EXPORTER_API__BASE_URL": late.url, "PYTHONPATH": str(ROOT), "COLUMNS": "60"}

    assert "\x1b[31mfailed" in run_in_terminal(tmp_path, {**plain, "TERM": "xterm"})
    assert "\x1b" not in run_in_terminal(tmp_path, {**plain, "TERM": "dumb"})
    lines = run_in_terminal(tmp_path, {**plain, "TERM": "xterm", "NO_COLOR": "1"}).splitlines()
    assert [] == [line for line in lines if len(line) > 60 or "\x1b" in line]
    assert "tiktok" not in "".join(lines)


def test_progress_in_a_terminal(late: LateServer, tmp_path: Path) -> None:
    """A run that polls once shows how far it is; the metrics on standard output stay clean."""
    late.world.publish(50, over=60)
    released = threading.Event()

    def wait(exchange: HttpExchange) -> None:
        assert released.wait(DEFAULT_TIMEOUT)
        late.respond(exchange)

    late.fault = wait
    env = {"LATE_API_KEY": KEY, "LATE_EXPORTER_API__BASE_URL": late.url, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    arguments = ("run", "--once", "--state.url", "sqlite://")
    output = run_in_terminal(
        tmp_path, env, *arguments, on_output=lambda text: released.set() if "reading logs" in text else None
    )
    assert "reading logs 0 logs read" in output
    assert output.endswith("\r\x1b[K")


def run_in_terminal(
    folder: Path, env: dict[str, str], *arguments: str, on_output: Callable[[str], object] = str
) -> str:
    """Return what a command shows in a terminal, by default on standard output; call back with all output so far."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "late_exporter", *(arguments or ("post", "p1"))]
    streams = {"stderr": theirs, "stdout": subprocess.DEVNULL} if arguments else {"stdout": theirs}
    with start_process(command, **streams, env={"PATH": os.environ["PATH"], **env}, cwd=folder) as process:
        os.close(theirs)
        output = b""
        while piece := _piece(ours):
            output += piece
            on_output(output.decode(errors="replace"))
        process.wait(DEFAULT_TIMEOUT)
    os.close(ours)
    assert 0 == process.returncode
    return output.decode().replace("\r\n", "\n")


def _piece(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other end is closed
        return b""


def test_beside_a_running_exporter(
    late: LateServer, start_exporter: Callable[..., ExporterProcess], run_command: Callable[..., ExporterProcess]
) -> None:
    """The commands lock nothing, and the exporter keeps counting."""
    late.world.publish(5, postId="p1")
    program = start_exporter().wait_ready()
    for command in (("logs",), ("post", "p1")):
        request_count = run_command(*command)
        assert 0 == request_count.wait_exit(), request_count.stderr
    late.world.publish(2)

    wait_equal(7.0, lambda: program.scrape().sum("late_publishing_logs_total"))
    assert 1.0 == program.scrape().sum("late_up", feed="publishing")


def test_a_quota_that_is_used_up(late: LateServer, run_command: Callable[..., ExporterProcess]) -> None:
    """Following waits for the reset after a 429."""
    late.world.publish()
    program = run_command("logs", "--follow", "--poll.interval", "100ms")
    wait_until(lambda: program.stdout.count("\n") == 2)

    def refuse(exchange: HttpExchange) -> None:
        exchange.send(429, b'{"error": "slow down"}', {"Retry-After": "30"})

    late.fault = refuse
    wait_until(lambda: "429: slow down" in program.stderr)
    request_count = len(late.requests)
    late.pause(0.5)

    assert request_count == len(late.requests)
    assert 0 == program.stop(signal.SIGINT)
