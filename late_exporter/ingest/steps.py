"""What the reader is asked to do, what it asks for in turn, and what it remembers from poll to poll."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Mapping
from typing import TypeAlias

import msgspec

from late_exporter.model import Coverage, KnownLogs, LogEntry, LogPage, PendingLog

__all__ = ["Ask", "Count", "Drift", "Find", "Plan", "Position", "Read", "Roll", "Seen", "Step", "Steps", "Walk"]


class Read(msgspec.Struct, frozen=True):
    """Step: read a page of the list. Sent back: Seen."""

    skip: int
    status: str | None = None


class Ask(msgspec.Struct, frozen=True):
    """Step: read the logs of one post. Sent back: Seen, or None where there is no such post."""

    post_id: str


class Find(msgspec.Struct, frozen=True):
    """Step: read a page of the logs created at a time, in milliseconds. Sent back: Seen."""

    created: int
    skip: int = 0


class Count(msgspec.Struct, frozen=True):
    """Step: count these entries and make the coverage durable with them. Sent back: None.

    ``walked``: only a walk over known ground found them, though polls before could have. ``midway``: the page ended
    among logs of one time, where it is hard to go on at another time.
    """

    entries: tuple[LogEntry, ...]
    coverage: Coverage | None = None
    gone: tuple[str, ...] = ()
    walked: bool = False
    midway: bool = False


class Seen(msgspec.Struct, frozen=True):
    """A page, and what the state knew of its logs."""

    page: LogPage
    known: KnownLogs

    @property
    def entries(self) -> tuple[LogEntry, ...]:
        """The entries of the page."""
        return self.page.entries

    def fresh(self, horizon: int) -> tuple[LogEntry, ...]:
        """The sightings that the state does not know, of logs that are in scope."""
        return tuple(
            entry
            for entry in self.entries
            if entry.status not in self.known.statuses.get(entry.key, ())
            and (entry.created is None or entry.created >= horizon)
        )


Step: TypeAlias = Read | Ask | Find | Count
"""What the reader asks for."""

Steps: TypeAlias = Generator[Step, Seen | None, None]
"""What the reader yields and is sent."""


class Position(msgspec.Struct, frozen=True):
    """Where the next page begins: it has to hold one of ``anchors``, or to span the time ``created``.

    ``keys`` are those of the page before; ``repeats``: how many pages in a row have held the same logs.
    """

    skip: int = 0
    keys: frozenset[str] = frozenset()
    created: int = 0
    repeats: int = 0
    anchors: frozenset[str] = frozenset()


class Walk(msgspec.Struct):
    """A walk over known ground in search of logs that were missed; it goes on from poll to poll.

    Args:
        sought: Stop once so many have been found; None: however many there are.
        lower: Stop at logs before this time; None: walk to the end of the list.
        since: When known ground had last been reached as the walk began; a log may have come late after that.
        begun: API time in milliseconds at which a walk over the whole list began; 0 where it is none, or where some of
            what it found could not be saved.
    """

    sought: int | None = None
    lower: int | None = None
    since: int = 0
    begun: int = 0
    position: Position = Position()
    done: bool = False


class Roll(msgspec.Struct):
    """The list of pending logs, of which each poll reads a page: where the next one begins, and who was listed.

    ``blind``: the list cannot be asked for the logs of a time, though it should.
    """

    skip: int = 0
    listed: set[str] = msgspec.field(default_factory=set)
    blind: bool = False


class Plan(msgspec.Struct, kw_only=True):
    """What a poll is to do.

    Args:
        now: API time in milliseconds; it may be set anew until the first page is there.
        retention: How long the API keeps a log, in milliseconds.
        lookback: How far back the first sync reads, in milliseconds.
        coverage: As last made durable; None before the first sync.
        pendings: Logs that were pending when last seen.
        waking: The first poll of a process: logs may have come late while nobody looked.
        posts: How many posts, or times, may be asked for what became of their pending logs.
        generation: Of the API that is read.
        windowed: The list can be asked for the logs of a time; there are no posts to ask for then.
        strides: How many pages a walk may read, and how many one that seeks something.
        walk: The walk under way; the poll may begin one.
        drift: Judges ``pagination.total``.
        found: New logs that the poll has read.
        roll: How far the list of pending logs has been read.
    """

    now: int
    retention: int
    lookback: int
    coverage: Coverage | None
    pendings: Mapping[str, PendingLog]
    waking: bool = False
    posts: int = 10
    generation: str = "late"
    windowed: bool = False
    strides: tuple[int, int] = (1, 10)
    walk: Walk | None = None
    drift: Drift
    found: set[str] = msgspec.field(default_factory=set)
    roll: Roll = msgspec.field(default_factory=Roll)


class Drift:
    """Tells from ``pagination.total`` that the API shows more logs than the state holds.

    Logs that are deleted make the surplus of the API fall at any time, and expiring ones make it uncertain; a surplus
    that is surely above all of the last minutes means that a log came in where nobody looked.
    """

    WINDOW = 180_000

    def __init__(self) -> None:
        self._recent: deque[tuple[int, int]] = deque()

    def excess(self, now: int, least: int, most: int) -> int:
        """How many logs more than usual the API shows; ``least`` and ``most`` bound its total minus the logs held."""
        while len(self._recent) > 1 and self._recent[0][0] < now - self.WINDOW:
            self._recent.popleft()
        usual = max((surplus for _, surplus in self._recent), default=least)
        self._recent.append((now, most))
        return max(0, least - usual)
