"""The outbox: log events that are stored and not delivered yet.

An event is queued in the transaction that counts its observation, and deleted after its delivery.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec

from late_exporter.store.database import Database, Transaction, select_in
from late_exporter.store.records import Backlog, Observation, QueuedEvent

ADD = "INSERT INTO late_event (feed, queued, body) VALUES (?, ?, ?)"
# The own feeds are the keys of a JSON object: one parameter, however many there are. Without IS TRUE, PostgreSQL may
# compare each event with each feed.
OWN = "(feed IN (SELECT CAST(key AS BIGINT) FROM json_each(?))) IS TRUE"
OLDEST = f"SELECT id, feed, body FROM late_event WHERE {OWN} ORDER BY id LIMIT ?"  # noqa: S608 - a constant
NUMBERS = f"SELECT id, feed FROM late_event WHERE {OWN} ORDER BY id LIMIT ?"  # noqa: S608 - a constant
BACKLOGS = f"SELECT feed, count(*), min(queued) FROM late_event WHERE {OWN} GROUP BY feed"  # noqa: S608 - a constant
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
        with self._database.reading() as transaction:
            rows = transaction.execute(OLDEST, (_encode(workspaces), limit)).fetchall()
        return [QueuedEvent(number, workspaces[feed_id], body.encode()) for number, feed_id, body in rows]

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
            rows = transaction.execute(NUMBERS, (_encode(workspaces), excess)).fetchall()
            select_in(transaction, DELETE, [number for number, _ in rows])
        return Counter(workspaces[feed_id] for _, feed_id in rows)

    def backlogs(self) -> Mapping[str, Backlog]:
        """Return what is queued, by workspace; reads all events."""
        workspaces, backlogs = self._workspaces(), dict[str, Backlog]()
        with self._database.reading() as transaction:
            for feed_id, count, oldest in transaction.execute(BACKLOGS, (_encode(workspaces),)):
                other = backlogs.get(workspaces[feed_id], Backlog(0, oldest))
                total = Backlog(count + other.event_count, min(oldest, other.oldest))
                backlogs[workspaces[feed_id]] = total
        return backlogs


def _encode(workspaces: Mapping[int, str]) -> str:
    return msgspec.json.encode(dict.fromkeys(workspaces)).decode()


def queue_events(
    transaction: Transaction, feed_id: int, observations: Sequence[Observation], committed_at: float
) -> None:
    """Queue the events of new observations; ``committed_at`` is the time of the commit in Unix seconds."""
    queued = int(committed_at * 1000)
    rows = [(feed_id, queued, each.event.decode()) for each in observations if each.event is not None]
    transaction.executemany(ADD, rows)
