from __future__ import annotations

from pathlib import Path

import pytest

from late_exporter.config.settings import Settings
from late_exporter.config.sharding import pod_ordinal, shard_of
from late_exporter.config.sources import load
from late_exporter.errors import ConfigError

NAMES = [f"brand-{number}" for number in range(3000)]


def load_shard(folder: Path, environ: dict[str, str] | None = None, command: str = "run", **flags: str) -> Settings:
    """Return settings with ten workspaces, of which the last two have the same key."""
    for number in range(10):
        (folder / f"key-{number}").write_text("sk_" + f"{min(number, 8):064x}")
    rows = [f"- {{name: brand-{number}, api_key_file: key-{number}, profile_id: p{number}}}" for number in range(10)]
    (folder / "late.yml").write_text("\n".join(["workspaces:", *rows]))
    given = {name.replace("_", "-"): [text] for name, text in flags.items()}
    return load(command, {"config.file": [str(folder / "late.yml")], **given}, environ or {})


def shard_in(settings: Settings) -> tuple[int | None, int]:
    """Return the shard of some settings, and the number of shards."""
    return settings.sharding.shard, settings.sharding.total_shards


def test_the_assignment_never_changes() -> None:
    """A released assignment is part of every state: another one would move workspaces away from their counters."""
    assert [1, 2, 2, 2, 0, 1] == [shard_of(name, 3) for name in NAMES[:6]]


@pytest.mark.parametrize("total", range(1, 6))
def test_a_further_shard_moves_only_its_own_workspaces(total: int) -> None:
    """No workspace moves between the shards that were there before."""
    moved = [name for name in NAMES if shard_of(name, total) != shard_of(name, total + 1)]
    assert {total} == {shard_of(name, total + 1) for name in moved}
    assert 0.85 < len(moved) * (total + 1) / len(NAMES) < 1.15


def test_shards_share_the_workspaces(tmp_path: Path) -> None:
    """Each workspace is in exactly one shard; without shards all of them are in one process."""
    settings = [load_shard(tmp_path, shard=str(shard), total_shards="3") for shard in range(3)]
    names = sorted(workspace.name for shard in settings for workspace in shard.workspaces)
    everything = load_shard(tmp_path)
    assert names == sorted(workspace.name for workspace in everything.workspaces)
    keys = [(workspace.name, workspace.key_text) for workspace in everything.workspaces]
    assert [keys] * 3 == [[(each.name, each.key_text) for each in shard.all_workspaces] for shard in settings]


def test_commands_that_need_no_state_read_every_workspace(tmp_path: Path) -> None:
    """The logs of a workspace of another shard can be printed, but not audited."""
    environ = {"LATE_EXPORTER_SHARDING__SHARD": "0", "LATE_EXPORTER_SHARDING__TOTAL_SHARDS": "3"}
    counts = [len(load_shard(tmp_path, environ, command).workspaces) for command in ("logs", "audit", "run")]
    assert 10 == counts[0] > counts[1] == counts[2]


def test_shards_share_the_quota_of_a_key(tmp_path: Path) -> None:
    """The quota of a key is divided among the shards that use it."""
    assert {1} == {workspace.key_shards for workspace in load_shard(tmp_path).workspaces}
    shards = {shard_of(name, 5) for name in ("brand-8", "brand-9")}
    assert 2 == len(shards)
    divided = load_shard(tmp_path, shard="0", total_shards="5").all_workspaces
    assert {"brand-8": 2, "brand-9": 2} == {each.name: each.key_shards for each in divided if each.key_shards > 1}
    assert {"brand-8": 2, "brand-9": 2} == {each.name: each.key_users for each in divided if each.key_users > 1}


def test_ordinal_of_a_pod() -> None:
    """Pods of a StatefulSet end with their number, those of a Deployment usually do not."""
    ordinals: dict[str, int | None] = {"late-exporter-0": 0, "late-exporter-12.late-exporter.monitoring.svc": 12}
    ordinals |= dict.fromkeys(("late-exporter-7d9f8b6c5-x2x4", "late-exporter-01", ""))
    assert ordinals == {name: pod_ordinal(name) for name in ordinals}


def test_the_name_of_the_pod_gives_the_shard(tmp_path: Path) -> None:
    """The flag wins over the name."""
    environ = {"POD_NAME": "late-exporter-2"}
    assert (2, 3) == shard_in(load_shard(tmp_path, environ, total_shards="3"))
    assert (0, 3) == shard_in(load_shard(tmp_path, environ, total_shards="3", shard="0"))
    assert (None, 1) == shard_in(load_shard(tmp_path, environ))
    assert (0, 1) == shard_in(load_shard(tmp_path, environ, total_shards="1", shard="0"))


TOO_HIGH = "must be less than --total-shards, {}, because shards are numbered from 0"
NO_SHARDS = 'replicas share all workspaces, and shards have a state each; drop it, or drop --total-shards "2"'
NOT_NUMBERED = 'the POD_NAME "x" does not end with a number, as in late-exporter-0'
REPLICAS = {"state.url": "postgresql://late@db.example/late", "state.replicas": "true"}


@pytest.mark.parametrize(
    ("flags", "name", "problem"),
    [
        ({"shard": "0"}, "", '--shard "0": needs --total-shards, the number of shards'),
        ({"shard": "3", "total_shards": "3"}, "", f'--shard "3": {TOO_HIGH.format(3)}'),
        ({"total_shards": "2"}, "late-exporter-2", f'POD_NAME "late-exporter-2": {TOO_HIGH.format(2)}'),
        ({"total_shards": "2"}, "x", f'--total-shards "2": needs --shard, because {NOT_NUMBERED}'),
        ({"shard": "1", "total_shards": "2", **REPLICAS}, "", f'--state.replicas "true": {NO_SHARDS}'),
    ],
    ids=range(5),
)
def test_wrong_shards(tmp_path: Path, flags: dict[str, str], name: str, problem: str) -> None:
    """A mistake names the option or the variable, and the remedy."""
    with pytest.raises(ConfigError) as caught:
        load_shard(tmp_path, {"POD_NAME": name} if name else {}, **flags)
    assert [problem] == list(caught.value.problems)
