"""Logs that were read but are not committed yet, which a look-up treats as counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache

from late_exporter.model import LogEntry

TIME_PREFIX_LENGTH = 14
"""Number of characters of the creation time at the start of a key without an id, with the hyphen."""


def time_prefix(key: str) -> str | None:
    """Return the prefix that all keys of the same creation time share; None if the key does not sort by time."""
    return key[:TIME_PREFIX_LENGTH] if key[TIME_PREFIX_LENGTH - 1 : TIME_PREFIX_LENGTH] == "-" else None


class UncommittedLogs:
    """Statuses of logs, by key and by the creation time in it: a catch-up has read thousands of other logs."""

    def __init__(self) -> None:
        self._statuses: dict[str, frozenset[str]] = {}
        self._keys_by_time: dict[str, list[str]] = {}

    def add(self, entries: Iterable[LogEntry]) -> None:
        for entry in entries:
            key = entry.key
            known = self._statuses.get(key)
            if known is None and (prefix := time_prefix(key)):
                self._keys_by_time.setdefault(prefix, []).append(key)
            self._statuses[key] = with_status(known, entry.status)

    def beside(self, entries: Sequence[LogEntry]) -> UncommittedLogs:
        """Return some other logs together with the uncommitted ones of their times."""
        logs = UncommittedLogs()
        for prefix in {entry.key[:TIME_PREFIX_LENGTH] for entry in entries} & self._keys_by_time.keys():
            keys = logs._keys_by_time[prefix] = list(self._keys_by_time[prefix])
            logs._statuses.update((key, self._statuses[key]) for key in keys)
        logs.add(entries)
        return logs

    @property
    def is_empty(self) -> bool:
        return not self._statuses

    def statuses_of(self, key: str) -> frozenset[str]:
        return self._statuses.get(key, frozenset())

    def logs_at(self, prefixes: AbstractSet[str]) -> Iterator[tuple[str, frozenset[str]]]:
        """Yield key and statuses of the logs whose keys begin with the prefix of a time."""
        for prefix in prefixes:
            for key in self._keys_by_time.get(prefix, ()):
                yield key, self._statuses[key]


NO_UNCOMMITTED_LOGS = UncommittedLogs()


@lru_cache(256)
def with_status(statuses: frozenset[str] | None, status: str) -> frozenset[str]:
    """Return the statuses of a log, None for a new one, with one more; it is the same object for all logs."""
    return frozenset((status,)) if statuses is None else statuses | {status}
