"""Every example of every command's help, run as it is written."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from late_exporter.config.commands import COMMANDS
from late_exporter.simulator import LogList
from tests.e2e.late import KEY, LateServer
from tests.e2e.program import ExporterProcess, http_get, wait_until

pytestmark = pytest.mark.e2e

EXAMPLES = [(command.name, line) for command in COMMANDS.values() for line, _ in command.examples]
SERVING = ("run", "demo")

DELIVERY = {
    "type": "webhooks",
    "action": "webhook.failed",
    "status": "failed",
    "created_at": datetime.now(UTC).isoformat(),
}

ANYWHERE = {
    "LATE_EXPORTER_WEB__LISTEN_ADDRESS": "127.0.0.1:0",
    "LATE_EXPORTER_SIMULATE__LISTEN_ADDRESS": "127.0.0.1:0",
    "LATE_EXPORTER_STATE__URL": "sqlite://",
}
"""In place of the ports and the state that are meant, which others may use."""


@pytest.fixture
def example(exit_stack: ExitStack, tmp_path: Path, late: LateServer) -> Callable[[str], ExporterProcess]:
    """Starts an example in a folder that has the files it names, with an exporter that runs beside it."""
    (tmp_path / "late.key").write_text(KEY)
    (tmp_path / "late.yml").write_text("poll: {interval: 1m}\n")
    (tmp_path / "workspaces.yml").write_text("workspaces: [{name: agency, api_key_file: late.key}]\n")

    def start(line: str) -> ExporterProcess:
        words = shlex.split(line)
        env = {**ANYWHERE, "LATE_EXPORTER_API__BASE_URL": late.url}
        if "--workspace" in words:
            env["LATE_EXPORTER_CONFIG__FILE"] = "workspaces.yml"
        elif "--api.key-file" not in words:
            env["LATE_API_KEY"] = KEY
        if "webhooks" in words:
            late.api.generation = "zernio"  # the only one that has them
            late.world.archives.activity = {"webhooks": LogList([DELIVERY])}
        if words[0] in ("audit", "backfill"):
            env["LATE_EXPORTER_STATE__URL"] = "sqlite:///state.db"
            assert 0 == exit_stack.enter_context(ExporterProcess(tmp_path, "run", "--once", env=env)).wait_exit()
        if words[0] == "healthcheck":
            listening = ("--web.listen-address=unix:late.sock", "--web.listen-address=127.0.0.1:0")
            exporter = exit_stack.enter_context(ExporterProcess(tmp_path, "run", *listening, env=env))
            env["LATE_EXPORTER_WEB__LISTEN_ADDRESS"] = exporter.url.removeprefix("http://")
        if words[0] == "state":
            env["LATE_EXPORTER_STATE__URL"] = "sqlite:///state.db"
            with ExporterProcess(tmp_path, "run", "--once", env=env) as counting:
                assert 0 == counting.wait_exit()
            if "backup" not in words:
                shutil.copy(tmp_path / "state.db", tmp_path / "late-backup.db")
        return exit_stack.enter_context(ExporterProcess(tmp_path, *words, env=env))

    return start


def ending_by_itself(name: str, line: str) -> bool:
    """Whether a command ends when it has done what was asked."""
    return "--once" in line or (name not in (*SERVING, "simulate") and "--follow" not in line)


def test_every_command_has_examples() -> None:
    """Nobody has to guess how a command is used, and each example is one of it."""
    assert set(COMMANDS) == {name for name, _ in EXAMPLES}
    assert [] == [line for name, line in EXAMPLES if shlex.split(line)[0] != name]


@pytest.mark.parametrize("line", [line for name, line in EXAMPLES if ending_by_itself(name, line)])
def test_examples_that_end(late: LateServer, example: Callable[[str], ExporterProcess], line: str) -> None:
    """They print something or write a file, warn of nothing, and end with 0."""
    post = shlex.split(line)[1] if line.startswith("post ") else "p1"
    kind: dict[str, Any] = {"postId": post, "accountUsername": "@acmecorp", "status": "failed"}
    late.world.publish(3, over=60, **kind)
    late.world.connect("disconnect")
    program = example(line)

    assert 0 == program.wait_exit(), program.stderr
    assert not re.search("error|warn", program.stderr)
    words = shlex.split(line)
    file = words[words.index("--output") + 1] if "--output" in words else words[-1]
    assert program.stdout or (program.folder / file).stat().st_size
    if "--format json" in line:
        assert [
            json.loads(text)
            for text in ([program.stdout] if ("metrics" in line or "check" in line) else program.stdout.splitlines())
        ]


@pytest.mark.parametrize(
    "line", [line for name, line in EXAMPLES if name in SERVING and not ending_by_itself(name, line)]
)
def test_examples_that_serve(example: Callable[[str], ExporterProcess], line: str) -> None:
    """They serve metrics, and end with 0 when told to."""
    program = example(line)

    assert 200 == program.get("/-/healthy").status
    assert "late_exporter_build_info" in program.get("/metrics").text
    assert 0 == program.stop()


@pytest.mark.parametrize("line", [line for name, line in EXAMPLES if name == "simulate"])
def test_examples_that_simulate(example: Callable[[str], ExporterProcess], line: str) -> None:
    """They answer like Late, and end with 0 when told to."""
    program = example(line)
    words = wait_until(lambda: [word for word in program.stderr.split() if word.startswith("address=")])
    url = words[0].removeprefix("address=")

    assert 200 == http_get(f"{url}/api/v1/posts/logs", {"Authorization": f"Bearer {KEY}"}).status
    assert 0 == program.stop()


@pytest.mark.parametrize("line", [line for _, line in EXAMPLES if "--follow" in line])
def test_examples_that_follow(late: LateServer, example: Callable[[str], ExporterProcess], line: str) -> None:
    """They show a log, and end with 0 on Ctrl-C."""
    late.world.publish(platform="tiktok", status="failed")
    program = example(line)
    wait_until(lambda: "tiktok" in program.stdout, describe=lambda: program.stderr)

    assert 0 == program.stop(signal.SIGINT)
    assert "" == program.stderr
