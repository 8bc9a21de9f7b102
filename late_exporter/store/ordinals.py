"""Number the logs without ids that differ in nothing but their status.

The ordinal belongs to the log, not to its place on a page or to its status: alike logs of a page are matched to the
stored ones with the fewest new observations, so the result does not depend on the order of the page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TypeAlias

import msgspec

from late_exporter.model import PENDING, LogEntry

Statuses: TypeAlias = Mapping[str, AbstractSet[str]]
"""Counted statuses by key."""

ORDINAL_AT = 26
"""Place of the dot before the ordinal in a key: after the creation time, a hyphen and a digest."""


def has_ordinal(key: str) -> bool:
    """Return whether a key ends in an ordinal among alike logs."""
    # Called for each log of each page, for which a regular expression is too slow.
    return key[ORDINAL_AT : ORDINAL_AT + 1] == "." and key[13:14] == "-" and key[14] != "#" and key[:13].isdigit()


def without_ordinal(key: str) -> str:
    """Return what the keys of alike logs have in common, or the whole key if it has no ordinal."""
    return key.rpartition(".")[0] if has_ordinal(key) else key


def unnumbered_keys(entries: Iterable[LogEntry], statuses: Statuses) -> set[str]:
    """Return the keys whose ordinals depend on other stored logs: those of alike logs, and of new observations."""
    bases = {entry.key: _base(entry.key) for entry in entries if has_ordinal(entry.key)}
    if not bases:
        return set()
    counts = Counter(bases[entry.key] for entry in entries if entry.key in bases)
    return {
        entry.key
        for entry in entries
        if entry.key in bases and (counts[bases[entry.key]] > 1 or entry.status not in statuses.get(entry.key, ()))
    }


def number_entries(entries: Sequence[LogEntry], statuses: Statuses) -> tuple[LogEntry, ...]:
    """Return the entries of a page with the ordinals of the stored logs that they are.

    Args:
        entries: Logs of a page.
        statuses: Counted statuses of the stored logs that are alike.
    """
    logs: dict[str, dict[int, AbstractSet[str]]] = {}
    for key, names in statuses.items():
        if has_ordinal(key):
            logs.setdefault(_base(key), {})[int(key.rpartition(".")[2])] = names
    groups: dict[str, list[int]] = {}
    for index, entry in enumerate(entries):
        if has_ordinal(entry.key):
            groups.setdefault(_base(entry.key), []).append(index)
    numbered_entries = list(entries)
    for base, indexes in groups.items():
        row_statuses = [entries[index].status for index in indexes]
        is_alone = len(indexes) == 1 and base not in logs
        ordinals = [0] if is_alone else _Group(logs.get(base, {})).assign(row_statuses)
        for index, ordinal in zip(indexes, ordinals, strict=True):
            key = f"{base}.{ordinal}"
            if key != entries[index].key:
                numbered_entries[index] = msgspec.structs.replace(entries[index], key=key)
    return tuple(numbered_entries)


def changed_alike_keys(entries: Iterable[LogEntry], statuses: Statuses) -> set[str]:
    """Return the keys of known logs that have another status on a page, if alike logs are known or on the page.

    One of the alike logs may have changed, or another one may be new: only all logs of their time show which.
    """
    changed_keys = {
        entry.key
        for entry in entries
        if has_ordinal(entry.key) and entry.status not in statuses.get(entry.key, {entry.status})
    }
    if not changed_keys:  # as of most pages
        return changed_keys
    counts = Counter(_base(key) for key in {*statuses, *(entry.key for entry in entries)})
    return {key for key in changed_keys if counts[_base(key)] > 1}


def _base(key: str) -> str:
    return key.rpartition(".")[0]


class _Group:
    """Alike stored logs: their statuses by ordinal. Each stored observation is used for one row."""

    def __init__(self, logs: Mapping[int, AbstractSet[str]]) -> None:
        self._logs = logs
        self._used: set[int] = set()
        self._used_statuses: set[tuple[int, str]] = set()

    def assign(self, row_statuses: Sequence[str]) -> Sequence[int]:
        """Return an ordinal for each row, by the rules from the surest to the weakest."""
        ordinals: dict[int, int] = {}
        rows = sorted(range(len(row_statuses)), key=lambda row: row_statuses[row])
        for rule in (self._has_status, self._has_settled, self._is_outdated, self._has_changed):
            for row in rows:
                ordinal = None if row in ordinals else self._find(row_statuses[row], rule)
                if ordinal is not None:
                    ordinals[row] = ordinal
        for row in rows:
            if row not in ordinals:
                ordinals[row] = self._next_ordinal()
        return [ordinals[row] for row in range(len(row_statuses))]

    def _find(self, status: str, rule: Callable[[str, int, AbstractSet[str]], bool]) -> int | None:
        for ordinal in sorted(self._logs):
            if rule(status, ordinal, self._logs[ordinal]):
                self._used.add(ordinal)
                self._used_statuses.add((ordinal, status))
                return ordinal
        return None

    def _has_status(self, status: str, ordinal: int, statuses: AbstractSet[str]) -> bool:
        is_current = status in statuses and (status != PENDING or statuses == {PENDING})
        return is_current and (ordinal, status) not in self._used_statuses

    def _has_settled(self, status: str, ordinal: int, statuses: AbstractSet[str]) -> bool:
        return status != PENDING and statuses == {PENDING} and ordinal not in self._used

    def _is_outdated(self, status: str, ordinal: int, statuses: AbstractSet[str]) -> bool:
        return status == PENDING and PENDING in statuses and ordinal not in self._used

    def _has_changed(self, status: str, ordinal: int, _statuses: AbstractSet[str]) -> bool:
        return status != PENDING and ordinal not in self._used

    def _next_ordinal(self) -> int:
        ordinal = 0
        while ordinal in self._logs or ordinal in self._used:
            ordinal += 1
        self._used.add(ordinal)
        return ordinal
