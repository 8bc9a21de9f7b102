"""The observations of one feed in a SQLite state, and changes of their keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from sqlite3 import Connection
from typing import NamedTuple

import msgspec

from late_exporter.store import queries
from late_exporter.store.matching import interim_key
from late_exporter.store.rekey import RekeyPlan

# Only a log that was matched by its status fingerprint keeps the fingerprint. The newest logs are matched first.
FINGERPRINTS_AGREE = (
    "SELECT EXISTS (SELECT 1 FROM observation WHERE scope = ? AND status_fingerprint IS NOT NULL"
    " AND status <> 'pending' AND (instr(key, '=') OR instr(key, '+')) ORDER BY key DESC)"
)

# CROSS JOIN keeps the order: a search in the table for each prefix.
ROWS_AT = (
    "SELECT o.key, o.status, o.status_fingerprint FROM json_each(?2) AS prefix CROSS JOIN observation o"
    " WHERE o.scope = ?1 AND o.key >= prefix.value AND o.key < prefix.value || '~'"
)


class SqliteRows(NamedTuple):
    """The observations of one feed."""

    connection: Connection
    scope_id: int

    def stored_statuses(self, keys: Sequence[str]) -> Mapping[str, frozenset[str]]:
        return queries.stored_statuses(self.connection, self.scope_id, keys)

    def rows_at(self, prefixes: AbstractSet[str]) -> Iterator[tuple[str, str, str | None]]:
        yield from self.connection.execute(ROWS_AT, (self.scope_id, msgspec.json.encode(sorted(prefixes)).decode()))

    def fingerprints_agree(self) -> bool:
        (agree,) = self.connection.execute(FINGERPRINTS_AGREE, (self.scope_id,)).fetchone()
        return bool(agree)

    def assign_interim_keys(self) -> None:
        connection, scope_id = self.connection, self.scope_id
        connection.create_function("interim_key", 3, interim_key, deterministic=True)
        connection.execute(
            "UPDATE pending SET key = (SELECT interim_key(o.key, o.created, o.fingerprint) FROM observation o"
            " WHERE o.scope = pending.scope AND o.key = pending.key LIMIT 1) WHERE scope = ?",
            (scope_id,),
        )
        connection.execute(
            "UPDATE observation SET key = interim_key(key, created, fingerprint), fingerprint = NULL WHERE scope = ?",
            (scope_id,),
        )

    def apply(self, plan: RekeyPlan) -> None:
        """Give stored logs their new keys."""
        connection, scope_id = self.connection, self.scope_id
        connection.executemany(
            "UPDATE observation SET key = ?3, status = ?4, status_fingerprint ="
            " CASE WHEN ?5 IS NULL OR status_fingerprint = ?5 THEN status_fingerprint END"
            " WHERE scope = ?6 AND key = ?1 AND status = ?2",
            [(*rename, scope_id) for rename in plan.renames],
        )
        connection.executemany(
            "INSERT OR IGNORE INTO pending VALUES (?, ?, ?, ?, ?, ?)",
            [(scope_id, e.key, e.created or 0, e.platform, e.action, e.post_id) for e in plan.new_pending],
        )
        connection.executemany(
            "UPDATE OR REPLACE pending SET key = ? WHERE scope = ? AND key = ?",
            [(new_key, scope_id, key) for key, new_key in plan.pending_renames.items()],
        )
        connection.execute("UPDATE scope SET logs = logs + ? WHERE id = ?", (plan.log_count, scope_id))
        connection.executemany(
            "UPDATE logs_per_minute SET logs = logs + ? WHERE scope = ? AND minute = ?",
            [(change, scope_id, minute) for minute, change in plan.minutes.items()],
        )
