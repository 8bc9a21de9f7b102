"""Every example of every command's help runs as written."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from late_exporter.commands.catalogue import COMMANDS
from late_exporter.simulator import LogList
from tests.e2e.late import KEY, LateServer
from tests.e2e.program import ExporterProcess, http_get, wait_until
from tests.support.status_api import post_list

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
    "LATE_EXPORTER_SIMULATE__HISTORY": "1d",
    "LATE_EXPORTER_STATE__URL": "sqlite://",
    "LATE_EXPORTER_WEB__UNAUTHENTICATED_PATHS": "/metrics,/-/healthy",
}
"""Replaces ports and states that another process may use, and a history that takes seconds to simulate."""


@pytest.fixture
def example(exit_stack: ExitStack, tmp_path: Path, late: LateServer) -> Callable[[str], ExporterProcess]:
    """Start an example in a folder with the files that it names, with a running exporter or server if it needs one."""
    (tmp_path / "late.key").write_text(KEY)
    (tmp_path / "late.yml").write_text("poll: {interval: 1m}\n")
    (tmp_path / "workspaces.yml").write_text("workspaces: [{name: agency, api_key_file: late.key}]\n")

    def start(line: str) -> ExporterProcess:
        command, *_ = words = shlex.split(line)
        env = {**ANYWHERE, "LATE_EXPORTER_API__BASE_URL": late.url}
        if "--workspace" in words:
            env["LATE_EXPORTER_CONFIG__FILE"] = "workspaces.yml"
        elif "--api.key-file" not in words:
            env["ZERNIO_API_KEY"] = KEY
        if "webhooks" in words:
            late.api.generation = "zernio"  # the only one that has them
            late.world.archives.lists["webhooks"] = LogList([DELIVERY])
        if command in ("audit", "state"):
            env["LATE_EXPORTER_STATE__URL"] = "sqlite:///state.db"
            with ExporterProcess(tmp_path, "run", "--once", env=env) as program:
                assert program.wait_exit() == 0, program.stderr
        if command == "state" and "backup" not in words:
            for name in ("late.db", "late-backup.db"):
                shutil.copy(tmp_path / "state.db", tmp_path / name)
        if command in ("healthcheck", "status", "accounts"):
            listening = "--web.listen-address=127.0.0.1:0"
            exporter = exit_stack.enter_context(ExporterProcess(tmp_path, "run", listening, env=env))
            env["LATE_EXPORTER_WEB__LISTEN_ADDRESS"] = exporter.url.removeprefix("http://")
            wait_until(lambda: exporter.stderr.count("first sync complete") == 2)
        return exit_stack.enter_context(ExporterProcess(tmp_path, *words, env=env))

    return start


def ending_by_itself(name: str, line: str) -> bool:
    """Return whether a command ends without a signal."""
    return "--once" in line or name not in (*SERVING, "simulate")


@pytest.mark.parametrize("line", [line for name, line in EXAMPLES if ending_by_itself(name, line)])
def test_examples_that_end(late: LateServer, example: Callable[[str], ExporterProcess], line: str) -> None:
    """Such an example prints something, logs no warning, and exits with 0, or with 1 for problems."""
    post = shlex.split(line)[1] if line.startswith("post ") else "p1"
    kind: dict[str, Any] = {"postId": post, "accountUsername": "@acmecorp", "status": "failed"}
    late.world.publish(3, over=60, **kind)
    late.world.add_connection("disconnect")
    targets = [{"platform": "instagram", "accountId": "gone"}]
    late.status_documents["/v1/posts"] = lambda params: post_list(str(params["status"]), platforms=targets)
    program = example(line)

    assert int("--check" in line) == program.wait_exit(), program.stderr
    assert not re.search("error|warn", program.stderr)
    assert program.stdout
    if "--format json" in line:
        assert [json.loads(text) for text in program.stdout.splitlines()]


@pytest.mark.parametrize(
    "line", [line for name, line in EXAMPLES if name in SERVING and not ending_by_itself(name, line)]
)
def test_examples_that_serve(example: Callable[[str], ExporterProcess], line: str) -> None:
    """Such an example serves metrics, and exits with 0 on SIGTERM."""
    program = example(line)

    assert program.get("/-/healthy").status == 200
    assert "late_exporter_build_info" in program.get("/metrics").text
    assert program.stop() == 0


@pytest.mark.parametrize("line", [line for name, line in EXAMPLES if name == "simulate"])
def test_examples_that_simulate(example: Callable[[str], ExporterProcess], line: str) -> None:
    """Such an example responds like Late, and exits with 0 on SIGTERM."""
    program = example(line)
    words = wait_until(lambda: [word for word in program.stderr.split() if word.startswith("address=")])
    url = words[0].removeprefix("address=")

    path = "/v1/posts/logs" if "--generation late" in line else "/v1/logs"
    assert http_get(f"{url}/api{path}", {"Authorization": f"Bearer {KEY}"}).status == 200
    assert f"export LATE_EXPORTER_API__BASE_URL={url}/api\n" in program.stdout
    (key,) = [line.partition("=")[2] for line in program.stdout.splitlines() if "ZERNIO_API_KEY=" in line]
    assert http_get(f"{url}/api{path}", {"Authorization": f"Bearer {key}"}).status == 200
    assert program.stop() == 0
