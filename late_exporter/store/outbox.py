"""The outbox: log events that are stored and not delivered yet.

An event is queued in the transaction that counts its observation, and deleted after its delivery.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import islice

from late_exporter.store.database import Database, Transaction, select_in
from late_exporter.store.records import Backlog, Observation, QueuedEvent

ADD = "INSERT INTO late_event (feed, queued, body) VALUES (?, ?, ?)"
OLDEST = "SELECT id, feed, body FROM late_event WHERE id > ? ORDER BY id LIMIT ?"
NUMBERS = "SELECT id, feed FROM late_event ORDER BY id"
BACKLOGS = "SELECT feed, count(*), min(queued) FROM late_event GROUP BY feed"
DELETE = "DELETE FROM late_event WHERE id IN {values}"


class Outbox:
    """The outbox of the workspaces of this process; each method is one transaction and raises StoreError.

    Args:
        database: Database of the state.
        workspaces: Returns the workspaces of this process by the ids of their feeds: others deliver their own events.
    """

    def __init__(self, database: Database, workspaces: Callable[[], Mapping[int, str]]) -> None:
        self._database = database
        self._workspaces = workspaces

    def read(self, limit: int) -> Sequence[QueuedEvent]:
        """Return the oldest events, in the order in which they were queued."""
        workspaces = self._workspaces()
        events = list[QueuedEvent]()
        after = 0
        with self._database.reading() as transaction:
            while len(events) < limit and (rows := transaction.execute(OLDEST, (after, limit)).fetchall()):
                after = rows[-1][0]
                events += [
                    QueuedEvent(number, workspaces[feed_id], body.encode())
                    for number, feed_id, body in rows
                    if feed_id in workspaces
                ]
        return events[:limit]

    def delete(self, numbers: Sequence[int]) -> None:
        """Delete events; those that are not there any more are ignored."""
        with self._database.transaction() as transaction:
            select_in(transaction, DELETE, numbers)

    def delete_oldest(self, keep: int) -> Mapping[str, int]:
        """Delete the oldest events, except the ``keep`` newest ones; return how many were deleted, by workspace."""
        excess = sum(backlog.event_count for backlog in self.backlogs().values()) - keep
        if excess <= 0:
            return {}
        workspaces = self._workspaces()
        with self._database.transaction() as transaction:
            rows = (row for row in transaction.execute(NUMBERS) if row[1] in workspaces)
            numbers, feed_ids = zip(*islice(rows, excess), strict=True)
            select_in(transaction, DELETE, numbers)
        return Counter(workspaces[feed_id] for feed_id in feed_ids)

    def backlogs(self) -> Mapping[str, Backlog]:
        """Return what is queued, by workspace; reads all events."""
        workspaces, backlogs = self._workspaces(), dict[str, Backlog]()
        with self._database.reading() as transaction:
            for feed_id, count, oldest in transaction.execute(BACKLOGS):
                if feed_id in workspaces:
                    other = backlogs.get(workspaces[feed_id], Backlog(0, oldest))
                    total = Backlog(count + other.event_count, min(oldest, other.oldest))
                    backlogs[workspaces[feed_id]] = total
        return backlogs


def queue_events(
    transaction: Transaction, feed_id: int, observations: Sequence[Observation], committed_at: float
) -> None:
    """Queue the events of new observations; ``committed_at`` is the time of the commit in Unix seconds."""
    queued = int(committed_at * 1000)
    rows = [(feed_id, queued, each.event.decode()) for each in observations if each.event is not None]
    transaction.executemany(ADD, rows)
