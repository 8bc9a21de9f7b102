"""The outbox of a state in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from late_exporter.model import Backlog, QueuedEvent
from late_exporter.store.postgres.database import Database

# Only events of feeds that this process has claimed, so that two processes do not deliver the same ones.
OWN_EVENTS = "late_event e JOIN late_scope s ON s.id = e.scope WHERE s.token = ANY(%(tokens)s)"

READ = f"SELECT e.id, s.workspace, e.queued, e.body FROM {OWN_EVENTS} ORDER BY e.id LIMIT %(limit)s"  # noqa: S608 - constants

DELETE_OLDEST = f"""
    WITH newest AS (
        SELECT e.id FROM {OWN_EVENTS} ORDER BY e.id DESC OFFSET %(keep)s LIMIT 1
    ), deleted AS (
        DELETE FROM late_event e USING late_scope s
        WHERE s.id = e.scope AND s.token = ANY(%(tokens)s) AND e.id <= (SELECT id FROM newest) RETURNING s.workspace
    ) SELECT workspace, count(*) FROM deleted GROUP BY workspace
"""  # noqa: S608 - constants

BACKLOGS = f"SELECT s.workspace, count(*), min(e.queued) FROM {OWN_EVENTS} GROUP BY s.workspace"  # noqa: S608 - constants


class PostgresOutbox:
    """The outbox of the feeds that have some fencing tokens.

    Args:
        database: Database of the state.
        tokens: Returns the fencing tokens of the feeds of this process.
    """

    def __init__(self, database: Database, tokens: Callable[[], Collection[int]]) -> None:
        self._database = database
        self._tokens = tokens

    def read(self, limit: int) -> Sequence[QueuedEvent]:
        parameters = {"tokens": list(self._tokens()), "limit": limit}
        rows = self._database.run(lambda connection: connection.execute(READ, parameters).fetchall())
        return [QueuedEvent(*row) for row in rows]

    def delete(self, numbers: Sequence[int]) -> None:
        self._database.run(
            lambda connection: connection.execute("DELETE FROM late_event WHERE id = ANY(%s)", (list(numbers),))
        )

    def delete_oldest(self, keep: int) -> Mapping[str, int]:
        parameters = {"tokens": list(self._tokens()), "keep": keep}
        return dict(self._database.run(lambda connection: connection.execute(DELETE_OLDEST, parameters).fetchall()))

    def backlogs(self) -> Mapping[str, Backlog]:
        parameters = {"tokens": list(self._tokens())}
        rows = self._database.run(lambda connection: connection.execute(BACKLOGS, parameters).fetchall())
        return {workspace: Backlog(count, oldest) for workspace, count, oldest in rows}
