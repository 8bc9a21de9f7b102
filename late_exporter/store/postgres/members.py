"""The members that share a state in PostgreSQL, and the owners of its workspaces."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

from late_exporter.errors import StoreInUse
from late_exporter.model import Scope
from late_exporter.store.membership import ClaimedFeed, ClusterView, Member
from late_exporter.store.postgres import queries
from late_exporter.store.postgres.database import BEGIN, REPLICA_NAME, SETTINGS, Database, DeadlineConnection
from late_exporter.store.postgres.restored import end_regressed

DEADLINE_SECONDS = 3.0
"""Longest time of an operation; a process that is stopped waits for it."""

STUCK_SECONDS = 5.0
"""Time after which a transaction that waits for its client is assumed to be cut off."""

LOCK_TIMEOUT = "SET LOCAL lock_timeout = '1s'"

# A workspace is left out while a transaction of its previous owner is incomplete, so that others need not wait for it.
# Nothing is claimed from a state that has lost heartbeats: the next one marks it, so that no lower counters are shown.
CLAIM_WORKSPACES = """
    WITH free AS (
        SELECT workspace FROM late_workspace WHERE owner IS NULL AND workspace = ANY(%(workspaces)s::text[])
            AND NOT EXISTS (SELECT FROM late_member WHERE id = %(member)s AND beat < %(heartbeat)s)
        ORDER BY workspace FOR UPDATE SKIP LOCKED
    ), locked AS (
        SELECT id, workspace FROM late_scope WHERE workspace IN (SELECT workspace FROM free)
        ORDER BY id FOR UPDATE SKIP LOCKED
    ), available AS (
        SELECT f.workspace FROM free f
        WHERE (SELECT count(*) FROM late_scope s WHERE s.workspace = f.workspace)
            = (SELECT count(*) FROM locked l WHERE l.workspace = f.workspace)
    )
    UPDATE late_workspace w SET owner = %(member)s, token = %(token)s
    FROM available a WHERE w.workspace = a.workspace
"""

# A replica sends each transaction at once. One that the server has waited for that long was cut off in between, and
# would hold its locks until the server finds its connection dead, which takes hours by default.
END_STUCK = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND usename = current_user AND application_name = %s
        AND state <> 'idle' AND wait_event = 'ClientRead' AND xact_start < clock_timestamp() - make_interval(secs => %s)
"""

# A feed that is not in the state yet is added, so that each row has the token of the claim from the beginning.
ADD_FEEDS = """
    INSERT INTO late_scope (workspace, feed, token)
    SELECT w.workspace, f.feed, w.token FROM late_workspace w CROSS JOIN unnest(%(feeds)s::text[]) AS f(feed)
    WHERE w.owner = %(member)s AND w.token = %(token)s ORDER BY 1, 2 ON CONFLICT DO NOTHING
"""

CLAIM_FEEDS = """
    UPDATE late_scope s SET token = w.token FROM late_workspace w
    WHERE w.workspace = s.workspace AND w.owner = %(member)s AND w.token = %(token)s
    RETURNING s.workspace, s.feed, s.token, s.id, s.revision, s.logs
"""

ADD_WORKSPACES = (
    "INSERT INTO late_workspace (workspace) SELECT * FROM unnest(%s::text[]) ORDER BY 1 ON CONFLICT DO NOTHING"
)
REMOVE = (
    "DELETE FROM late_member WHERE id IN"
    " (SELECT id FROM late_member WHERE id = %s AND beat = %s FOR UPDATE SKIP LOCKED) RETURNING id"
)
RELEASE = "UPDATE late_workspace SET owner = NULL WHERE owner = %s AND workspace = ANY(%s::text[])"
SESSIONS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s"
    " AND pid <> pg_backend_pid()"
)


class PostgresMembership:
    """The members that share a state, over a connection of its own: a long operation must not delay a heartbeat.

    Args:
        url: URL of the database.
        password_file: File with the password.
    """

    def __init__(self, url: str, password_file: Path | None = None) -> None:
        self._database = Database(url, password_file, application_name=REPLICA_NAME)
        self._last_heartbeats: dict[int, int] = {}

    def join(self, member_id: int, name: str) -> None:
        statement = "INSERT INTO late_member (id, name) VALUES (%s, %s) ON CONFLICT DO NOTHING"
        self._write((statement, (member_id, name)))

    def send_heartbeat(self, member_id: int) -> ClusterView | None:
        def update(connection: DeadlineConnection) -> ClusterView | None:
            # One round trip: a member that is paused in between would hold locks.
            with connection.pipeline():
                connection.execute(BEGIN)
                connection.execute(SETTINGS)
                connection.execute(LOCK_TIMEOUT)
                updated = connection.execute("UPDATE late_member SET beat = beat + 1 WHERE id = %s", (member_id,))
                members = connection.execute("SELECT id, name, beat FROM late_member ORDER BY id")
                owners = connection.execute("SELECT workspace, owner FROM late_workspace ORDER BY workspace")
                connection.execute("COMMIT")
            if not updated.rowcount:
                return None
            return ClusterView([Member(*row) for row in members], dict(owners.fetchall()))

        view = self._database.run(update, DEADLINE_SECONDS)
        if view is not None:
            (own_heartbeat,) = (member.heartbeat for member in view.members if member.member_id == member_id)
            if own_heartbeat <= self._last_heartbeats.get(member_id, 0):
                end_regressed(self._database)
            self._last_heartbeats[member_id] = own_heartbeat
        return view

    def add_workspaces(self, workspaces: Iterable[str]) -> None:
        self._write((ADD_WORKSPACES, (list(workspaces),)))

    def remove(self, members: Iterable[Member]) -> AbstractSet[int]:
        rows = list(members)
        removed = self._write(*((REMOVE, (member.member_id, member.heartbeat)) for member in rows))
        if len(removed) < len(rows):
            self._end_stuck_sessions()
        return frozenset(row[0] for row in removed)

    def claim(self, member_id: int, workspaces: Iterable[str], feeds: Iterable[str]) -> Sequence[ClaimedFeed]:
        names = list(workspaces)
        # The same token if the transaction is repeated, which then finds what the first one has claimed.
        parameters = {
            "member": member_id,
            "workspaces": names,
            "feeds": list(feeds),
            "token": secrets.randbits(62),
            "heartbeat": self._last_heartbeats.get(member_id, 0),
        }
        rows = self._write(*((statement, parameters) for statement in (CLAIM_WORKSPACES, ADD_FEEDS, CLAIM_FEEDS)))
        claimed_feeds = [ClaimedFeed(Scope(workspace, feed), *row) for workspace, feed, *row in rows]
        if len({scope.workspace for scope, *_ in claimed_feeds}) < len(names):
            self._end_stuck_sessions()
        return claimed_feeds

    def release(self, member_id: int, workspaces: Iterable[str]) -> None:
        self._write((RELEASE, (member_id, list(workspaces))))

    def leave(self, member_id: int) -> None:
        self._write(("DELETE FROM late_member WHERE id = %s", (member_id,)))

    def close(self) -> None:
        self._database.close()

    def _end_stuck_sessions(self) -> None:
        self._write((END_STUCK, (REPLICA_NAME, STUCK_SECONDS)))

    def _write(self, *statements: tuple[str, Any]) -> list[tuple[Any, ...]]:
        return self._database.transact((LOCK_TIMEOUT, ()), *statements, seconds=DEADLINE_SECONDS)


def require_no_replicas(database: Database, connection: DeadlineConnection) -> None:
    """Remove the members that are left of replicas that were killed; raise StoreInUse if there are running ones."""
    names = [name for (name,) in connection.execute("SELECT name FROM late_member ORDER BY name")]
    if not names:
        return
    if queries.one(connection, SESSIONS, (REPLICA_NAME,))[0]:
        raise StoreInUse(
            f"{database.name} is shared by the replicas {', '.join(names)}; start with --state.replicas, or stop them"
        )
    connection.execute("DELETE FROM late_member")
