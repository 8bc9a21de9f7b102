"""Tests of shards: several exporters that share the workspaces, each with a state of its own."""

from __future__ import annotations

import http.client
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path

import pytest

from late_exporter.config.sharding import shard_of
from tests.e2e.late import KEY, LateServer
from tests.e2e.program import ROOT, ExporterProcess, wait_equal
from tests.support.samples import Samples

pytestmark = pytest.mark.e2e

LOGS = "late_publishing_logs_total"
WORKSPACES = ("brand-0", "brand-4")


def start_shard(
    folder: Path, late: LateServer, shard: int, total: int, *arguments: str, stack: ExitStack
) -> ExporterProcess:
    """Start a shard as a pod of a StatefulSet, with all workspaces in its configuration."""
    (folder / "late.key").write_text(KEY)
    rows = [f"- {{name: {name}, api_key_file: late.key}}" for name in WORKSPACES]
    (folder / "late.yml").write_text("\n".join(["workspaces:", *rows]))
    exporter = ExporterProcess.for_api(
        folder,
        late.url,
        "--config.file=late.yml",
        f"--total-shards={total}",
        *arguments,
        state=folder / f"state-{shard}.db",
        env={"POD_NAME": f"late-exporter-{shard}"},
    )
    return stack.enter_context(exporter)


def workspaces_of(samples: Samples) -> set[str]:
    """Return the workspaces of the samples."""
    return {value for _, labels in samples for name, value in labels if name == "workspace"}


def run_state(folder: Path, *words: str) -> tuple[int, str]:
    """Run the state command in a folder, and return its exit code and output."""
    command = [sys.executable, "-m", "late_exporter", "state", *words]
    env = {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, cwd=folder, env=env, capture_output=True, check=False, text=True, timeout=60)
    return result.returncode, result.stdout + result.stderr


def total_logs(shards: Sequence[ExporterProcess]) -> dict[str, float]:
    """Return the number of counted logs of each workspace, over all shards."""
    try:
        samples = [shard.scrape() for shard in shards]
    except (OSError, http.client.HTTPException):
        return {}
    return {name: sum(shard.sum(LOGS, workspace=name) for shard in samples) for name in WORKSPACES}


def test_a_workspace_moves_with_its_state(late: LateServer, tmp_path: Path, exit_stack: ExitStack) -> None:
    """One process becomes two shards: the workspace that moves is counted on, logs of the meantime included."""
    late.world.publish(300, over=600)
    assert [1, 0] == [shard_of(name, 2) for name in WORKSPACES]
    alone = start_shard(tmp_path, late, 0, 1, stack=exit_stack).wait_ready()
    wait_equal(dict.fromkeys(WORKSPACES, 300.0), lambda: total_logs([alone]))
    move = ("copy", "sqlite:///state-0.db", "sqlite:///state-1.db", "--workspace=brand-0")
    code, words = run_state(tmp_path, *move)
    assert (1, True) == (code, "in use by an exporter; stop it first" in words)
    assert 0 == alone.stop()
    # Logs that the API no longer shows are only in the state.
    late.world.delete_top(50)
    assert 0 == run_state(tmp_path, *move)[0]
    late.world.publish(5)
    shards = [start_shard(tmp_path, late, number, 2, stack=exit_stack).wait_ready() for number in range(2)]
    wait_equal(dict.fromkeys(WORKSPACES, 305.0), lambda: total_logs(shards))
    assert [{"brand-4"}, {"brand-0"}] == [workspaces_of(shard.scrape()) for shard in shards]
    for page in ("/", "/-/ready", "/config"):
        assert HTTPStatus.OK == shards[1].get(page).status
