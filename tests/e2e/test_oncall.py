"""Tests of the on-call commands as processes, with a real HTTP API."""

from __future__ import annotations

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
