"""Logs that have expired are deleted, some with each commit; no other ever is."""

from __future__ import annotations

import random

import pytest

from late_exporter.store import Store, rows
from tests.support.store import NOW, SCOPE, commit, log_count, observation

HOUR = 3_600_000


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "PRUNE_SECONDS", 0.0)


@pytest.mark.parametrize("key", ["in time", "at random"])
def test_logs_that_have_expired_are_deleted(store: Store, key: str) -> None:
    """As wholes, whatever their keys are; the counters stay."""
    times = range(NOW - 30 * 60_000, NOW + 30 * 60_000, 20_000)
    draw = random.Random(1)
    logs = {f"{at:014}" if key == "in time" else f"{draw.getrandbits(96):024x}": at for at in times}
    commit(store, *(observation(name, created=at) for name, at in logs.items()))
    commit(store, *(observation(name, "failed", at) for name, at in [*logs.items()][::2]))
    result = commit(store, prune_before=NOW + 30_000)
    expected = {name for name, at in logs.items() if at >= NOW + 30_000}
    assert expected == store.lookup(SCOPE, [*logs]).keys()
    assert len(expected) == result.log_count == store.size("acme")[0]
    assert (len(times), len(times) // 2) == (log_count(store), log_count(store, "failed"))


def test_a_few_logs_are_read_with_each_commit(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read in turn, so that all are reached behind any number that stay, again and again."""
    monkeypatch.setattr(rows, "PRUNE_LOGS", 100)
    for turn in range(2):
        due = [observation(f"b{turn}{number}", created=NOW - HOUR) for number in range(50)]
        commit(store, *(observation(f"a{turn}{number:03}") for number in range(250)), *due)
        log_counts = [commit(store, prune_before=NOW).log_count for _ in range(8)]
        assert log_counts[0] == 300 + 250 * turn
        assert log_counts[-1] == 250 + 250 * turn
        assert store.lookup(SCOPE, [each.entry.key for each in due]) == {}
