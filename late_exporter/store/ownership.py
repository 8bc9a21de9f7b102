"""Which workspaces of a PostgreSQL state this process owns: PostgreSQL decides, and no clock does.

The rules that make it safe:

1. A process has one session, see ``PostgresDatabase``. It owns a workspace while that session has
   an advisory lock of the id of the workspace's row.
2. After the lock, in a further statement, it writes the rows of the workspace and reads its state
   from them; nothing of that is shown before the write is acknowledged. (The snapshot of a
   statement is older than a lock that it takes.)
3. All commits of a workspace run in the session: one that has ended writes nothing. Only what is
   acknowledged is shown.
4. If anything fails, the session is closed, and nothing is sent again on another one. That ends
   what is left of the previous ones, refuses a state that a newer version has upgraded, locks, and
   compares revisions: a workspace that another session has changed, or of which a commit is durable
   without an answer, is loaded again.
5. Each scrape asks the session once, after it has arrived, and shows what the session has locked
   before.

Everything else only decides how soon a workspace is owned again. docs/development/decisions.md has
the reasons.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from late_exporter.errors import StoreError
from late_exporter.health import MemberHealth
from late_exporter.log import Logger
from late_exporter.store.database import Transaction, select_in
from late_exporter.store.migrations import open_state
from late_exporter.store.postgres import LOCKED, PostgresDatabase
from late_exporter.store.store import ADD_WORKSPACE, Store

LOCKS = (
    "SELECT application_name, l.number, l.pid = pg_backend_pid() FROM"  # noqa: S608 - constants
    f" ({LOCKED}) AS l LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid"
)
TRY_LOCK = (
    "SELECT name, pg_try_advisory_lock((SELECT lock_class FROM late_state), id::integer)"
    " FROM late_workspace WHERE name IN {values}"
)
UNLOCK = (
    "SELECT pg_advisory_unlock((SELECT lock_class FROM late_state), id::integer)"
    " FROM late_workspace WHERE name IN {values}"
)
NAMES = "SELECT id, name FROM late_workspace"
REVISIONS = (
    "UPDATE late_feed SET revision = revision + 1 WHERE id IN {values} RETURNING id, revision"
)

# A process that is paused or cut off keeps its locks. All states of a session have to be covered;
# no timeout of the server does: it may be idle, in a transaction, amid a message, or unable to send
# a reply.
END_SILENT_SESSIONS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"  # noqa: S608 - constants
    f" WHERE pid IN (SELECT pid FROM ({LOCKED}) AS l) AND pid <> pg_backend_pid()"
    " AND greatest(state_change, query_start) < clock_timestamp() - make_interval(secs => ?)"
)


class ClusterView(NamedTuple):
    """Who owns what, and which workspaces this process should take and give away next.

    Args:
        members: The replicas.
        unowned: Configured workspaces without an owner.
    """

    members: Sequence[MemberHealth] = ()
    unowned: Sequence[str] = ()
    take: AbstractSet[str] = frozenset()
    give: AbstractSet[str] = frozenset()


class Ownership:
    """The workspaces that this process owns.

    It is used in the thread of the store, and raises StoreError.

    Args:
        store: Store of the database, whose session has the locks. It need not be connected.
        database: PostgreSQL database.
        is_shared: Whether other replicas may own workspaces, too.
        lease: Seconds of silence after which the sessions of other replicas are ended.
        logger: Logger of upgrades.
    """

    def __init__(
        self,
        store: Store,
        database: PostgresDatabase,
        *,
        is_shared: bool,
        lease: float,
        logger: Logger | None = None,
    ) -> None:
        self._store = store
        self._database = database
        self.is_shared = is_shared
        self._lease = lease
        self._logger = logger
        self._was_connected = database.is_connected
        self._workspaces: frozenset[str] = frozenset()
        self._free_before: AbstractSet[str] = frozenset()

    @property
    def has_session(self) -> bool:
        return self._database.is_connected

    def confirm(self) -> frozenset[str]:
        """Return the workspaces that may be shown: those that the session still owns."""
        workspaces = self._workspaces
        self._database.require_session()
        return workspaces

    def reconnect(self) -> frozenset[str]:
        """Begin a session if there is none.

        Return the workspaces that are still owned and unchanged. Those that are missing must be
        loaded again before they are polled.
        """
        if self.has_session:
            return self._workspaces
        former = self._workspaces
        self._free_before |= former
        try:
            open_state(
                self._database,
                is_shared=self.is_shared,
                creates=not self._was_connected,
                logger=self._logger,
            )
            unchanged = self._unchanged(self._lock(former))
            self._unlock(former - unchanged)
        except BaseException:  # The next attempt begins with another session.
            self._database.close()
            raise
        self._was_connected = True
        self._workspaces = unchanged
        return unchanged

    def look(self, groups: Mapping[str, str]) -> ClusterView:
        """End silent sessions; return who owns what, and the next moves.

        Args:
            groups: Group of each configured workspace; workspaces of one group have one owner, as
                they share a key.
        """
        with self._database.transaction() as session:
            session.execute(END_SILENT_SESSIONS, (self._lease,))
            names = _add_workspaces(session, groups.keys())
            locks = session.execute(LOCKS).fetchall()

        mine: set[str] = set()
        own_name = self._database.session_name
        owners = {own_name: mine}
        for session_name, number, is_mine in locks:
            if session_name == own_name and not is_mine:
                continue  # An earlier session of this process that has not ended is no replica.
            owned = mine if is_mine else owners.setdefault(session_name or "", set())
            if number in names:
                owned.add(names[number])
        if self._workspaces != mine:
            self._database.close()
            raise StoreError(
                f"{self._database.name}: the session has other locks than it should have"
            )

        unowned = groups.keys() - set[str]().union(*owners.values())
        take, give = self._plan(groups, unowned, len(owners))
        not_configured = self._workspaces - groups.keys()
        members = [
            MemberHealth(
                name=name.rpartition(" ")[2],
                is_self=name == own_name,
                workspaces=tuple(sorted(owned)),
            )
            for name, owned in sorted(owners.items())
        ]
        return ClusterView(members, sorted(unowned), take, give | not_configured)

    def _plan(
        self, groups: Mapping[str, str], free: AbstractSet[str], member_count: int
    ) -> tuple[AbstractSet[str], AbstractSet[str]]:
        """Return the workspaces to take and to give away.

        No replica has more than its share of groups.
        """
        all_groups = {*groups.values()}
        mine = {groups[name] for name in groups.keys() & self._workspaces}

        # Not what has just become free: its owner may be about to lock it again.
        settled = free & self._free_before if self.is_shared else free
        self._free_before = free
        candidates = sorted(all_groups - {groups[name] for name in groups.keys() - settled})
        room = math.ceil(len(all_groups) / member_count) - len(mine)
        chosen = random.sample(candidates, len(candidates))[: max(0, room)]
        surplus = random.sample(sorted(mine), max(0, -room))

        kept = mine.union(chosen).difference(surplus)
        take = {name for name in free if groups[name] in kept}
        return take, {name for name in self._workspaces if groups.get(name) in surplus}

    def take(self, names: Collection[str]) -> frozenset[str]:
        """Lock free workspaces; return all that are owned. Their state has to be loaded then."""
        self._workspaces |= self._lock(names)
        return self._workspaces

    def give(self, names: Collection[str]) -> None:
        """Unlock workspaces, which must not be polled any more."""
        self._workspaces -= frozenset(names)
        self._unlock(names)

    def _lock(self, names: Collection[str]) -> frozenset[str]:
        with self._database.reading() as session:
            rows = select_in(session, TRY_LOCK, sorted(names))
            return frozenset(name for name, is_locked in rows if is_locked)

    def _unlock(self, names: Collection[str]) -> None:
        for name in names:
            self._store.forget(name)
        with self._database.reading() as session:
            list(select_in(session, UNLOCK, sorted(names)))

    def _unchanged(self, names: AbstractSet[str]) -> frozenset[str]:
        """Return the workspaces whose feeds have the revisions that this process has left."""
        feeds = {
            feed.id: (name, feed)
            for name in names
            for feed in self._store.feeds.get(name, {}).values()
        }
        with self._database.transaction() as session:
            revisions = dict(select_in(session, REVISIONS, [*feeds]))
        changed = set[str]()
        for feed_id, (name, feed) in feeds.items():
            feed.revision += 1
            if revisions.get(feed_id) != feed.revision:
                changed.add(name)
        return frozenset(names) - changed


def _add_workspaces(session: Transaction, configured: AbstractSet[str]) -> Mapping[int, str]:
    """Add the workspaces that the state lacks; return all names by id."""
    names: dict[int, str] = dict(session.execute(NAMES).fetchall())
    # An attempt to add one that exists uses up an id, and is a write.
    new = configured - {*names.values()}
    if not new:
        return names
    session.executemany(ADD_WORKSPACE, [(name,) for name in sorted(new)])
    return dict(session.execute(NAMES).fetchall())
