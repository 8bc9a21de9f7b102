"""Recognizes logs that have come to be known by another key: after a switch of the API's generation.

In generation ``late`` a log has an id; in ``zernio`` it has none, or one day perhaps another one. What a log has in
common with itself is when it was created, its mark, and its status. So what the state holds under keys of another form
is what the API shows now, as far as it goes: each held log is recognized once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from late_exporter.model import PENDING, Entry

__all__ = ["Held", "adopted", "recognize", "time_of"]

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

    entry: Entry
    shown: _Name
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
    def has_its_detail(self) -> bool:
        """Whether it was counted as what it is shown as."""
        return self.statuses.get(self.entry.status) == self.entry.detail != ""

    @property
    def has_its_status(self) -> bool:
        """Whether it was counted in the status that it is shown in."""
        return self.entry.status in self.statuses

    @property
    def has_settled(self) -> bool:
        """Whether it waited for what it has become."""
        return self.statuses.keys() == {PENDING}

    @property
    def has_its_mark(self) -> bool:
        """Whether its mark says what it is."""
        return self.held.mark is not None or self.has_its_status


Held: TypeAlias = Mapping[str, Mapping[str, str | None]]
"""Logs by key: their statuses, and the detail that each was counted with, where that is known."""

_Rule: TypeAlias = Callable[[_Pair], bool]

SETTLING: Sequence[_Rule] = (
    lambda pair: pair.has_its_id,
    lambda pair: pair.has_its_detail,
    lambda pair: pair.has_its_status,
    lambda pair: pair.has_settled,
)
LASTING: Sequence[_Rule] = (lambda pair: pair.has_its_id, lambda pair: pair.has_its_mark)
"""The surest first; of logs that change their status, and of those that do not."""


def adopted(key: str, created: int | None, mark: str | None) -> str:
    """The key that a log of generation ``late`` has from a switch on, until it is recognized."""
    return f"{created or 0:013d}-{mark or ''}@{key}"


def time_of(key: str) -> str | None:
    """How the keys of all logs begin that were created at the time of this one; None where that cannot be told."""
    name = _name(key)
    return name.time if name else None


def recognize(entries: Sequence[Entry], held: Held, *, settles: bool) -> dict[str, Entry]:
    """Which logs that are held are which that are shown, by the keys under which they are held.

    Args:
        entries: Of one page.
        held: The logs that are held for the times of these.
        settles: A log may change its status; else the mark says as much as the status.
    """
    shown = {entry.key for entry in entries}
    free = {key: name for key in sorted(held, key=_marked_first) if key not in shown and (name := _name(key))}
    strangers = {entry.key: entry for entry in entries if entry.key not in held}
    found: dict[str, Entry] = {}
    for rule in SETTLING if settles else LASTING:
        for entry in list(strangers.values()):
            match = next((key for key, pair in _pairs(entry, free, held) if rule(pair)), None)
            if match is not None:
                found[match] = entry
                del free[match], strangers[entry.key]
    return found


def _pairs(entry: Entry, free: Mapping[str, _Name], held: Held) -> Iterator[tuple[str, _Pair]]:
    shown = _name(entry.key)
    if shown is None:
        return
    for key, name in free.items():
        pair = _Pair(entry, shown, name, held[key])
        if pair.is_possible:
            yield key, pair


def _name(key: str) -> _Name | None:
    match = FORM.fullmatch(key)
    return _Name(*match.groups()) if match else None


def _marked_first(key: str) -> tuple[bool, str]:
    name = _name(key)
    return name is None or name.mark is None, key
