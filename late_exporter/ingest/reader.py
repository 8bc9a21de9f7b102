"""Which pages of a log list to read, and when to stop.

The reader knows neither network nor database nor clock. It is a generator: it yields a step, and is sent what came of
it. Closing it between two steps is always safe, because every Count carries the coverage that is true with it.

The list is read from its newest end. Known ground is what Coverage.head and the logs below it cover; the stretch
between what was just read and known ground is a gap, and a gap is remembered until it has been read to its end. So a
first sync, a catch-up after an outage and a catch-up that died half-way are one and the same thing.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence

import msgspec

from late_exporter.errors import BadPayload
from late_exporter.ingest.steps import Ask, Count, Find, Plan, Position, Read, Seen, Step, Steps, Walk
from late_exporter.model import PENDING, Coverage, Gap, ListPosition, LogEntry, PendingLog

__all__ = ["LATE_WINDOW", "LIMIT", "poll"]

LIMIT = 100
"""Logs on a page; the most the API gives."""

LATE_WINDOW = 3_600_000
"""A log may appear this much later than its createdAt says: its row is written when the attempt ends."""

OVERLAP = 2
"""Rows that two pages share at least, so that a shift between the two reads is noticed."""

NEARBY = 1000
"""Milliseconds by which the logs of a time may be beside it."""

REPEATS = 3
"""Pages that may in a row hold the same logs as the one before, at another place."""

LEAPS = 40
"""How often a page is looked for that joins the one before, on a list that moves."""


def poll(plan: Plan) -> Steps:
    """One poll of a feed: the newest logs, the gaps, the pending ones, and a stretch of a walk."""
    if plan.walk is None and plan.waking and plan.coverage and plan.coverage.newest:
        # Begun before anything is read, so that it outlives a poll that fails.
        reached = plan.coverage.caught_up_at
        plan.walk = Walk(lower=min(plan.coverage.newest.created, reached or plan.now) - LATE_WINDOW, since=reached)
    head = yield from _read(0)
    coverage, position = yield from _count_head(plan, head)
    for gap in coverage.gaps:
        coverage = yield from _fill(plan, coverage, gap, position)
        position = None
    if not coverage.is_synced:
        coverage = yield from _complete_sync(plan, coverage)
    met = {entry.key for entry in head.entries}
    yield from _settle(plan, coverage, [log for key, log in plan.pendings.items() if key not in met])
    yield from _look_around(plan, coverage, head)


def _count_head(plan: Plan, head: Seen) -> Generator[Step, Seen | None, tuple[Coverage, Position | None]]:
    """Count the first page; where it does not reach known ground, what lies between becomes a gap."""
    before = plan.coverage or _nothing(plan, head)
    lower = before.newest.created if before.newest else before.retention_floor
    new = sum(entry.key not in head.known.statuses for entry in head.entries)
    sunk = tuple(msgspec.structs.replace(gap, depth=gap.depth + new) for gap in before.gaps)
    coverage = msgspec.structs.replace(before, newest=_ground(head) or before.newest, gaps=sunk)
    position = None
    if _ended(head) or _reached(head, lower) or (before.newest and _leaves(head, before.retention_floor)):
        coverage = _checked(coverage, plan, before.caught_up_at)
    else:
        position = _position(0, head)
        gap = Gap(_bottom(head), lower, position.skip, before.caught_up_at)
        coverage = msgspec.structs.replace(coverage, gaps=(gap, *sunk))
    yield Count(_newly(plan, head, before.retention_floor), coverage)
    return coverage, position


def _nothing(plan: Plan, head: Seen) -> Coverage:
    """The coverage before the first sync; a clock that puts the newest log beyond the retention is not believed."""
    newest = max(_dated(head.entries), default=plan.now)
    now = plan.now if newest > plan.now - plan.retention else newest
    horizon = now - min(plan.lookback, plan.retention)
    return Coverage(retention_floor=horizon, complete_since=horizon, generation=plan.generation)


def _fill(
    plan: Plan, coverage: Coverage, gap: Gap, position: Position | None
) -> Generator[Step, Seen | None, Coverage]:
    """Read a gap to its end; every page makes it smaller, and durably so."""
    upper = frozenset((gap.upper.key,))
    anchors = frozenset() if plan.windowed else upper
    here = position or Position(max(0, gap.depth - OVERLAP), upper, gap.upper.created, anchors=anchors)
    while gap in coverage.gaps:
        seen, skip = yield from _join(here)
        following = _position(skip, seen, here)
        stuck = _stuck(here, following)
        if stuck and len(here.keys) >= LIMIT:
            raise BadPayload(f"the list of logs does not move on at skip={following.skip}")
        if stuck or _ended(seen) or _reached(seen, gap.lower, below=True):
            remaining = tuple(other for other in coverage.gaps if other != gap)
            coverage = _checked(msgspec.structs.replace(coverage, gaps=remaining), plan, gap.last_complete_at)
        else:
            smaller = Gap(_bottom(seen, gap.upper), gap.lower, following.skip, gap.last_complete_at)
            gaps = tuple(smaller if other == gap else other for other in coverage.gaps)
            coverage = msgspec.structs.replace(coverage, gaps=gaps)
            gap, here = smaller, following
        yield Count(_newly(plan, seen, coverage.retention_floor), coverage, midway=_is_tied(seen))
    return coverage


def _newly(plan: Plan, seen: Seen, horizon: int) -> tuple[LogEntry, ...]:
    fresh = seen.fresh(horizon)
    plan.found.update(entry.key for entry in fresh if entry.key not in seen.known.statuses)
    return fresh


def _complete_sync(plan: Plan, coverage: Coverage) -> Generator[Step, Seen | None, Coverage]:
    coverage = msgspec.structs.replace(coverage, is_synced=True, published_at=plan.now)
    yield Count((), coverage)
    return coverage


def _settle(plan: Plan, coverage: Coverage, waiting: Sequence[PendingLog]) -> Steps:
    """Learn what became of pending logs that the first page did not show."""
    if not waiting:
        return
    unlisted = yield from _unlisted(plan, coverage, waiting)
    lost = tuple(log.key for log in unlisted if not (log.created if plan.windowed else log.post_id))
    if lost:
        yield Count((), gone=lost)
    yield from _find(plan, coverage, unlisted) if plan.windowed else _ask(plan, coverage, unlisted)


def _ask(plan: Plan, coverage: Coverage, waiting: Sequence[PendingLog]) -> Steps:
    """Ask the posts of some logs for what became of them."""
    by_post: dict[str, set[str]] = {}
    for log in waiting:
        if log.post_id:
            by_post.setdefault(log.post_id, set()).add(log.key)
    for post_id in list(by_post)[: plan.posts]:
        seen = yield Ask(post_id)
        entries = seen.entries if seen else ()
        gone = by_post[post_id] - {entry.key for entry in entries} if len(entries) < LIMIT else set()
        yield Count(seen.fresh(coverage.retention_floor) if seen else (), gone=tuple(sorted(gone)))


def _find(plan: Plan, coverage: Coverage, waiting: Sequence[PendingLog]) -> Steps:
    """Look at the times of some logs for what became of them; a list that shows others too is left to the walks."""
    by_time: dict[int, set[str]] = {}
    for log in waiting:
        if log.created:
            by_time.setdefault(log.created, set()).add(log.key)
    for created in [] if plan.roll.blind else list(by_time)[: plan.posts]:
        shown: set[str] = set()
        ended, skip = False, 0
        while not ended:
            seen = yield Find(created, skip)
            if seen is None or any(abs(other - created) > NEARBY for other in _dated(seen.entries)):
                plan.roll.blind = True
                return
            yield Count(seen.fresh(coverage.retention_floor))
            if shown.issuperset(entry.key for entry in seen.entries) and not _ended(seen):
                return  # it does not move on, and has not shown all
            shown.update(entry.key for entry in seen.entries)
            ended, skip = _ended(seen), skip + max(1, len(seen.entries) - OVERLAP)
        yield Count((), gone=tuple(sorted(by_time[created] - shown)))


def _unlisted(
    plan: Plan, coverage: Coverage, waiting: Sequence[PendingLog]
) -> Generator[Step, Seen | None, Sequence[PendingLog]]:
    """The logs of ``waiting`` that the API no longer lists as pending."""
    roll = plan.roll
    seen = yield from _read(roll.skip, PENDING)
    fresh = seen.fresh(coverage.retention_floor)
    if fresh:
        yield Count(fresh)
    roll.listed.update(entry.key for entry in seen.entries if entry.status == PENDING)
    if not _ended(seen):
        roll.skip += max(1, len(seen.entries) - OVERLAP)
        return []
    listed, roll.listed, roll.skip = roll.listed, set(), 0
    return [log for log in waiting if log.key not in listed]


def _look_around(plan: Plan, coverage: Coverage, head: Seen) -> Steps:
    """Walk over known ground where that is due, and where the API shows more than is known."""
    excess = _excess(plan, head)
    if plan.walk is None and excess:
        plan.walk = Walk(sought=excess)
    if plan.walk is None:
        return
    if _ended(head):
        plan.walk.done = True
        return
    if not plan.walk.position.keys:
        plan.walk.position = _position(0, head)
    usual, urgent = plan.strides
    yield from _walk(plan, plan.walk, coverage, usual if plan.walk.sought is plan.walk.lower is None else urgent)


def _excess(plan: Plan, head: Seen) -> int:
    before = plan.coverage
    if head.page.total is None or before is None or before.gaps or not before.is_synced:
        return 0
    least = head.page.total - head.known.stored_count - len(plan.found)
    return plan.drift.excess(plan.now, least, least + head.known.expiring_count)


def _walk(plan: Plan, walk: Walk, coverage: Coverage, strides: int) -> Steps:
    if not walk.since and plan.coverage:
        walk.since = plan.coverage.caught_up_at
    lower = coverage.retention_floor if walk.lower is None else walk.lower
    for _ in range(strides):
        seen, skip = yield from _join(walk.position)
        fresh = seen.fresh(coverage.retention_floor)
        for entry in fresh:
            yield Count((entry,), walked=entry.created is not None and entry.created < walk.since - LATE_WINDOW)
        if walk.sought is not None:
            walk.sought -= sum(entry.key not in plan.found | seen.known.statuses.keys() for entry in fresh)
        following = _position(skip, seen, walk.position)
        found = walk.sought is not None and walk.sought <= 0
        walk.done = found or _stuck(walk.position, following) or _ended(seen) or _below(seen, lower)
        walk.position = following
        if walk.done:
            return


def _read(skip: int, status: str | None = None) -> Generator[Step, Seen | None, Seen]:
    """A page; read once more where it ends the list while its ``total`` says that the list goes on."""
    seen = yield Read(skip, status)
    if seen is not None and _ended(seen) and (seen.page.total or 0) > skip + len(seen.entries):
        seen = yield Read(skip, status)
    if seen is None:
        raise BadPayload("the API does not know its own list of logs")
    return seen


def _join(position: Position) -> Generator[Step, Seen | None, tuple[Seen, int]]:
    """The page that goes on at ``position`` without leaving out a row, and where it begins.

    Where the list has moved since, the page is sought by time: first in growing leaps, then in halves. A page that
    begins too high repeats rows, which is harmless; one that begins too low would leave some out. So a page that tells
    no time is taken for one that begins too low.
    """
    skip, leap = position.skip, LIMIT // 2
    high, low = 0, None
    for _ in range(LEAPS):
        seen = yield from _read(skip)
        if skip == 0 or not position.keys or _joins(seen, position):
            return seen, skip
        if not _dated(seen.entries) or _below(seen, position.created + 1):
            # The list may have moved up since a page was seen to begin high enough.
            low, high = skip, high if high < skip else 0
        elif skip == high:
            return seen, skip
        else:
            high, low = skip, low if low is not None and low > skip else None
        leap *= 2
        if low is None:
            skip += leap
        elif high:
            skip = (high + low) // 2
        else:
            skip = max(0, skip - leap)
    seen = yield from _read(0)
    return seen, 0


def _joins(seen: Seen, position: Position) -> bool:
    times = _dated(seen.entries)
    if times and times[0] > position.created >= times[-1]:
        return True
    return any(entry.key in position.anchors for entry in seen.entries)


def _position(skip: int, seen: Seen, before: Position | None = None) -> Position:
    """Where to go on after a page: on its last rows, and on all that share the time of the last one."""
    entries = seen.entries
    if not entries:
        return Position(skip)
    last = entries[-1].created
    ties = 0
    for entry in reversed(entries):
        if entry.created != last:
            break
        ties += 1
    overlap = min(max(OVERLAP, ties + seen.page.without_ids), max(1, len(entries) // 2))
    keys = anchors = frozenset(entry.key for entry in entries)
    repeats = before.repeats + 1 if before and keys == before.keys else 0
    if seen.page.without_ids and overlap > ties:
        # Logs that are told apart by number alone may be others of the same time.
        anchors = frozenset(entry.key for entry in entries[:-ties])
    return Position(skip + len(entries) - overlap, keys, _bottom(seen).created, repeats, anchors)


def _stuck(here: Position, following: Position) -> bool:
    """Whether pages bring nothing but what the one before had: the end of a list that denies it.

    Once, or further up, it may be a list that has moved by just as much.
    """
    if here.keys != following.keys or following.skip < here.skip:
        return False
    return following.skip == here.skip or following.repeats > REPEATS


def _is_tied(seen: Seen) -> bool:
    """Whether a page of logs that are told apart by number alone has those of one time only."""
    times = {entry.created for entry in seen.entries}
    return seen.page.without_ids and len(times) == 1


def _reached(seen: Seen, lower: int, *, below: bool = False) -> bool:
    """Known ground is reached by a known log below ``lower``, or where everything is below it.

    Of the logs at ``lower`` itself some may be new, and others known only since this gap is being read: where all of a
    page are known, that will do, unless ``below`` asks for more.
    """
    known = [entry for entry in seen.entries if entry.key in seen.known.statuses]
    times = _dated(known)
    if any(created < lower for created in times) or _below(seen, lower):
        return True
    return not below and lower in times and len(known) == len(seen.entries)


def _leaves(seen: Seen, horizon: int) -> bool:
    """Whether a page that runs from new to old ends out of scope."""
    times = _dated(seen.entries)
    return bool(times) and times[0] > times[-1] and times[-1] < horizon


def _below(seen: Seen, limit: int) -> bool:
    times = _dated(seen.entries)
    return bool(times) and max(times) < limit


def _ended(seen: Seen) -> bool:
    rows = len(seen.entries)
    if rows == 0:
        return True
    return rows < LIMIT and seen.page.has_more is not True


def _dated(entries: Iterable[LogEntry]) -> list[int]:
    return [entry.created for entry in entries if entry.created is not None]


def _ground(head: Seen) -> ListPosition | None:
    """The middle of the first page: one row with a wrong time must not move known ground."""
    marks = sorted((entry.created, entry.key) for entry in head.entries if entry.created is not None)
    return ListPosition(*marks[len(marks) // 2]) if marks else None


def _bottom(seen: Seen, otherwise: ListPosition | None = None) -> ListPosition:
    for entry in reversed(seen.entries):
        if entry.created is not None:
            return ListPosition(entry.created, entry.key)
    return otherwise or ListPosition(0, "")


def _checked(coverage: Coverage, plan: Plan, since: int) -> Coverage:
    """The coverage after known ground was reached; what expired unread since ``since`` is lost."""
    start = coverage.complete_since
    if since and since < plan.now - plan.retention:
        start = max(start, plan.now - plan.retention)
    return msgspec.structs.replace(
        coverage, complete_since=start, caught_up_at=coverage.caught_up_at if coverage.gaps else plan.now
    )
