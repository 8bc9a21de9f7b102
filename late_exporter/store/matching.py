"""Recognizes logs that have come to be known by another key: after a switch of the API's generation.

In generation ``late`` a log has an id; in ``zernio`` it has none, or one day perhaps another one. What a log has in
common with itself is when it was created, its mark, and its status. So what the state holds under keys of another form
is what the API shows now, as far as it goes: each held log is recognized once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple, TypeAlias

from late_exporter.model import PENDING, LogEntry

__all__ = ["StoredLogs", "interim_key", "match_logs", "time_prefix"]

FORM = re.compile(r"(\d{13}-)([0-9a-f]{12})?([@#=])(.*)", re.DOTALL)
"""When a log was created, its mark where that is known, and its name: an id of late, an id of zernio, or neither."""


class _Name(NamedTuple):
    """A key in its parts."""

    time: str
    mark: str | None
    form: str
    rest: str


class _Pair(NamedTuple):
    """A log that is shown and one that is held, which may be the same."""

    entry: LogEntry
    shown: _Name
    key: str
    held: _Name
    statuses: Mapping[str, str | None]

    @property
    def is_possible(self) -> bool:
        """Whether they are of one time and one mark, and of different forms."""
        shown, held = self.shown, self.held
        return shown.time == held.time and held.mark in (shown.mark, None) and shown.form != held.form

    @property
    def has_its_id(self) -> bool:
        """Whether both generations give it the same id."""
        return self.held.form != "=" != self.shown.form and self.held.rest == self.shown.rest

    @property
    def is_of_its_status(self) -> bool:
        """Whether it may still be in a status that it was counted in: what has settled does not go back."""
        status = self.entry.status
        return status in self.statuses and (status != PENDING or self.statuses.keys() == {PENDING})

    @property
    def has_its_detail(self) -> bool:
        """Whether it was counted as what it is shown as."""
        return self.is_of_its_status and self.statuses[self.entry.status] == self.entry.status_fingerprint != ""

    def is_elsewhere(self, present: AbstractSet[tuple[str, str]]) -> bool:
        """Whether it was counted as something else, that is not among the times and details of a page."""
        detail = self.statuses.get(self.entry.status)
        return (
            detail is not None and detail != self.entry.status_fingerprint and (self.held.time, detail) not in present
        )

    @property
    def has_settled(self) -> bool:
        """Whether it waited for what it has become."""
        return self.statuses.keys() == {PENDING}

    @property
    def has_its_mark(self) -> bool:
        """Whether its mark says what it is."""
        return self.held.mark is not None or self.is_of_its_status


StoredLogs: TypeAlias = Mapping[str, Mapping[str, str | None]]
"""Logs by key: their statuses, and the detail that each was counted with, where that is known."""

_Rule: TypeAlias = Callable[[_Pair], bool]

FEW = 3
"""Times on a page at which logs are held with other details: so many mean that the generations tell details unlike."""


def interim_key(key: str, created: int | None, mark: str | None) -> str:
    """The key that a log of generation ``late`` has from a switch on, until it is recognized."""
    return f"{created or 0:013d}-{mark or ''}@{key}"


def time_prefix(key: str) -> str | None:
    """How the keys of all logs begin that were created at the time of this one; None where that cannot be told."""
    name = _name(key)
    return name.time if name else None


def match_logs(
    entries: Sequence[LogEntry], stored_logs: StoredLogs, *, has_pending: bool, fingerprints_agree: bool = False
) -> dict[str, LogEntry]:
    """Which logs that are held are which that are shown, by the keys under which they are held.

    The surest come first. Where both generations tell details alike, a log that was counted with another one is
    another log, unless that one is on the page too: logs that are alike may have been taken for each other.

    Args:
        entries: Of one page.
        stored_logs: The logs that are held for the times of these.
        has_pending: A log may change its status; else the mark says as much as the status.
        fingerprints_agree: Both generations are known to tell details alike.
    """
    page = _Page(entries, stored_logs)
    page.claim(lambda pair: pair.has_its_id)
    if not has_pending:
        page.claim(lambda pair: pair.has_its_mark)
        return page.found
    fingerprints_agree |= any(entry.status != PENDING for entry in page.claim(lambda pair: pair.has_its_detail))
    present = {(time, entry.status_fingerprint) for entry in entries if (time := time_prefix(entry.key))}
    if fingerprints_agree or page.times(lambda pair: pair.is_elsewhere(present)) < FEW:
        page.claim(lambda pair: pair.is_of_its_status and not pair.is_elsewhere(present))
    else:
        page.claim(lambda pair: pair.is_of_its_status)
    page.claim(lambda pair: pair.has_settled)
    return page.found


class _Page:
    """The logs of a page that are not known by their keys, and those that are held and not shown.

    ``found``: which of the one are which of the others.
    """

    def __init__(self, entries: Sequence[LogEntry], held: StoredLogs) -> None:
        shown = {entry.key for entry in entries}
        self._held = held
        self._free = {key: name for key in sorted(held, key=_marked_first) if key not in shown and (name := _name(key))}
        self._strangers = {
            (entry.key, entry.status): entry for entry in entries if entry.status not in held.get(entry.key, ())
        }
        self.found: dict[str, LogEntry] = {}

    def claim(self, rule: _Rule) -> Sequence[LogEntry]:
        """Find logs by a rule; gives those that were shown."""
        claimed = []
        for entry in list(self._strangers.values()):
            match = next((pair for pair in self._pairs(entry) if rule(pair)), None)
            if match is not None:
                self.found[match.key] = entry
                del self._free[match.key], self._strangers[entry.key, entry.status]
                claimed.append(entry)
        return claimed

    def times(self, rule: _Rule) -> int:
        """At how many times a rule might find logs."""
        return len({pair.shown.time for entry in self._strangers.values() for pair in self._pairs(entry) if rule(pair)})

    def _pairs(self, entry: LogEntry) -> Iterator[_Pair]:
        shown = _name(entry.key)
        if shown is None:
            return
        for key, name in self._free.items():
            pair = _Pair(entry, shown, key, name, self._held[key])
            if pair.is_possible:
                yield pair


def _name(key: str) -> _Name | None:
    match = FORM.fullmatch(key)
    return _Name(*match.groups()) if match else None


def _marked_first(key: str) -> tuple[bool, str]:
    name = _name(key)
    return name is None or name.mark is None, key
