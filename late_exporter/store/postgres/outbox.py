"""The outbox of a state in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from late_exporter.model import Backlog, QueuedEvent
from late_exporter.store.postgres.database import Database

# Only events of feeds that this process has claimed, so that two processes do not deliver the same ones.
OWN_EVENTS = "late_event e JOIN late_scope s ON s.id = e.scope WHERE s.token = %(token)s"

READ = f"SELECT e.id, s.workspace, e.queued, e.body FROM {OWN_EVENTS} ORDER BY e.id LIMIT %(limit)s"  # noqa: S608 - constants

DELETE_OLDEST = f"""
    WITH newest AS (
        SELECT e.id FROM {OWN_EVENTS} ORDER BY e.id DESC OFFSET %(keep)s LIMIT 1
    ), deleted AS (
        DELETE FROM late_event e USING late_scope s
        WHERE s.id = e.scope AND s.token = %(token)s AND e.id <= (SELECT id FROM newest) RETURNING s.workspace
    ) SELECT workspace, count(*) FROM deleted GROUP BY workspace
"""  # noqa: S608 - constants

BACKLOGS = f"SELECT s.workspace, count(*), min(e.queued) FROM {OWN_EVENTS} GROUP BY s.workspace"  # noqa: S608 - constants


class PostgresOutbox:
    """The outbox of the feeds that have a fencing token.

    Args:
        database: Database of the state.
        token: Fencing token of the process.
    """

    def __init__(self, database: Database, token: int) -> None:
        self._database = database
        self._token = token

    def read(self, limit: int) -> Sequence[QueuedEvent]:
        parameters = {"token": self._token, "limit": limit}
        rows = self._database.run(lambda connection: connection.execute(READ, parameters).fetchall())
        return [QueuedEvent(*row) for row in rows]

    def delete(self, numbers: Sequence[int]) -> None:
        self._database.run(
            lambda connection: connection.execute("DELETE FROM late_event WHERE id = ANY(%s)", (list(numbers),))
        )

    def delete_oldest(self, keep: int) -> Mapping[str, int]:
        parameters = {"token": self._token, "keep": keep}
        return dict(self._database.run(lambda connection: connection.execute(DELETE_OLDEST, parameters).fetchall()))

    def backlogs(self) -> Mapping[str, Backlog]:
        parameters = {"token": self._token}
        rows = self._database.run(lambda connection: connection.execute(BACKLOGS, parameters).fetchall())
        return {workspace: Backlog(count, oldest) for workspace, count, oldest in rows}
