"""The outbox: log events that are stored and not delivered yet.

An event is queued in the transaction that counts its observation, and deleted after its delivery.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from sqlite3 import Connection
from typing import Protocol

import msgspec

from late_exporter.model import Backlog, Observation, QueuedEvent
from late_exporter.store.queries import store_errors


class Outbox(Protocol):
    """The outbox of the workspaces of this process; each method is one transaction and raises StoreError."""

    def read(self, limit: int) -> Sequence[QueuedEvent]:
        """Return the oldest events, in the order in which they were queued."""

    def delete(self, numbers: Sequence[int]) -> None:
        """Delete events; those that are not there any more are ignored."""

    def delete_oldest(self, keep: int) -> Mapping[str, int]:
        """Delete the oldest events, except the ``keep`` newest ones; return how many were deleted, by workspace."""

    def backlogs(self) -> Mapping[str, Backlog]:
        """Return what is queued, by workspace; reads all events."""


class SqliteOutbox:
    """The outbox of a state in SQLite.

    Args:
        connection: Connection of the store, in autocommit mode.
        name: Name of the state in errors.
    """

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._name = name

    def read(self, limit: int) -> Sequence[QueuedEvent]:
        with store_errors(self._name):
            rows = self._connection.execute(
                "SELECT event.id, workspace, queued, body FROM event JOIN scope ON scope.id = event.scope"
                " ORDER BY event.id LIMIT ?",
                (limit,),
            )
            return [QueuedEvent(*row) for row in rows]

    def delete(self, numbers: Sequence[int]) -> None:
        with store_errors(self._name):
            self._connection.execute(
                "DELETE FROM event WHERE id IN (SELECT value FROM json_each(?))",
                (msgspec.json.encode(numbers).decode(),),
            )

    def delete_oldest(self, keep: int) -> Mapping[str, int]:
        with store_errors(self._name):
            row = self._connection.execute("SELECT id FROM event ORDER BY id DESC LIMIT 1 OFFSET ?", (keep,)).fetchone()
            if row is None:
                return {}
            deleted = self._connection.execute(
                "SELECT workspace, count(*) FROM event JOIN scope ON scope.id = event.scope WHERE event.id <= ?"
                " GROUP BY workspace",
                row,
            ).fetchall()
            self._connection.execute("DELETE FROM event WHERE id <= ?", row)
            return dict(deleted)

    def backlogs(self) -> Mapping[str, Backlog]:
        with store_errors(self._name):
            rows = self._connection.execute(
                "SELECT workspace, count(*), min(queued) FROM event JOIN scope ON scope.id = event.scope"
                " GROUP BY workspace"
            )
            return {workspace: Backlog(count, oldest) for workspace, count, oldest in rows}


def queue_events(
    connection: Connection, scope_id: int, observations: Sequence[Observation], committed_at: float
) -> None:
    """Queue the events of new observations, within the transaction of the caller.

    Args:
        connection: Connection to the state.
        scope_id: Id of the feed.
        observations: New observations.
        committed_at: Time of the commit in Unix seconds.
    """
    queued_at = int(committed_at * 1000)
    if rows := [(scope_id, queued_at, each.event) for each in observations if each.event is not None]:
        connection.executemany("INSERT INTO event (scope, queued, body) VALUES (?, ?, ?)", rows)
