"""Alike logs of a page are taken for the stored ones with the fewest new observations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

import pytest
from hypothesis import given
from hypothesis import strategies as st

from late_exporter.model import LogEntry
from late_exporter.store.known_logs import identify
from late_exporter.store.ordinals import number_entries, unnumbered_keys
from late_exporter.store.uncommitted import UncommittedLogs

BASE = "1730455200000-ba9876543210"
P, S, F = "pending", "success", "failed"


def entries(*statuses: str, base: str = BASE) -> list[LogEntry]:
    """Return alike logs, numbered per status as the decoder does."""
    counts = Counter[str]()
    result = []
    for status in statuses:
        result.append(LogEntry(key=f"{base}.{counts[status]}", status=status))
        counts[status] += 1
    return result


def numbered(page: list[LogEntry], *stored: set[str]) -> list[tuple[int, str]]:
    """Return ordinal and status of each log of a page, given the statuses of the stored logs."""
    statuses = {f"{BASE}.{ordinal}": names for ordinal, names in enumerate(stored)}
    return [(int(entry.key.rpartition(".")[2]), entry.status) for entry in number_entries(page, statuses)]


@pytest.mark.parametrize(
    ("page", "stored", "expected"),
    [
        ([P, P], [], [0, 1]),
        ([P, S], [], [0, 1]),
        ([S, P], [{P, S}], [0, 1]),
        ([P], [{P, S}], [0]),
        ([P, S, P, P], [{P}] * 4, [0, 3, 1, 2]),
        ([S, S], [{P}, {P, S}], [1, 0]),
        ([F, P], [{P}, {P}], [1, 0]),
        ([F, S], [{F, P, S}], [0, 0]),
        ([F], [{S}], [0]),
        ([F, S], [{S}], [1, 0]),
        ([S, S, S], [{S}], [0, 1, 2]),
        ([P], [{S}], [1]),
        ([P, P], [{F}, {S}, {P}], [2, 3]),
    ],
)
def test_numbers(page: list[str], stored: list[set[str]], expected: list[int]) -> None:
    """The same status is the same log, a final status settles a pending log, and what is left is new."""
    assert expected == [ordinal for ordinal, _ in numbered(entries(*page), *stored)]


class MemoryRows(dict[str, frozenset[str]]):
    """Statuses of stored logs by key."""

    def stored_statuses(self, keys: Sequence[str]) -> Mapping[str, frozenset[str]]:
        return {key: self[key] for key in keys if key in self}

    def rows_at(self, prefixes: AbstractSet[str]) -> Iterable[tuple[str, str]]:
        return [(key, name) for key, names in self.items() if key[:14] in prefixes for name in names]


def test_logs_that_are_not_committed_keep_their_numbers() -> None:
    """A page that repeats one of two alike logs gives it the number that it had beside the other one."""
    read_logs = UncommittedLogs()
    page = identify(MemoryRows(), entries(F, S), read_logs).entries
    read_logs.add(page)
    (repeated,) = identify(MemoryRows(), entries(S), read_logs).entries
    assert repeated in page


STATUSES = st.sampled_from([P, S, F])


@given(st.lists(st.sets(STATUSES, min_size=1)), st.lists(STATUSES), st.randoms(use_true_random=False))
def test_the_order_of_a_page_does_not_matter(stored: list[set[str]], page: list[str], random: object) -> None:
    """The observations are the same in any order, and the page adds nothing when it is read again."""
    result = numbered(entries(*page), *stored)
    shuffled = list(page)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    again = numbered(entries(*shuffled), *stored)
    count = len(stored) + len(page)
    logs = [set(stored[n]) if n < len(stored) else set() for n in range(count)]
    assert Counter(result) == Counter(again)
    for ordinal, status in result:
        logs[ordinal].add(status)
    before = [set(names) for names in logs]
    while logs and not logs[-1]:
        logs.pop()
    for ordinal, status in numbered(entries(*page), *logs):
        before[ordinal].add(status)
    assert before[: len(logs)] == logs


def test_keys_that_need_a_number() -> None:
    """Logs that are new or alike; a known one without a twin, and one with an id, keep their keys."""
    known, new = (LogEntry(key=f"1730455200000-ba987654321{digit}.0", status=S) for digit in "12")
    with_id = LogEntry(key="1730455200000-#5", status=S)
    page = [known, new, with_id, *entries(S, F)]
    statuses = {known.key: {S}, f"{BASE}.0": {S, F}}
    assert {new.key, f"{BASE}.0"} == unnumbered_keys(page, statuses)
