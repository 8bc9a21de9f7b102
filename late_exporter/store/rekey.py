"""Re-key stored logs after a switch of the API generation; no other module knows about former keys.

A switch gives all logs of a feed interim keys that sort by time. When a page then contains a log without a stored key,
it is matched to a stored log of the same time, which gets the new key. Pages without new logs cost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from sqlite3 import Connection

from late_exporter.model import LogEntry
from late_exporter.store.matching import interim_key, match_logs, matched_statuses, time_prefix
from late_exporter.store.queries import MINUTE, stored_statuses

# Only a log that was matched by its status fingerprint keeps the fingerprint. The newest logs are matched first.
FINGERPRINTS_AGREE = (
    "SELECT EXISTS (SELECT 1 FROM observation WHERE scope = ? AND status_fingerprint IS NOT NULL"
    " AND status <> 'pending' AND instr(key, '=') ORDER BY key DESC)"
)
HAS_KEY = "SELECT EXISTS (SELECT 1 FROM observation WHERE scope = ? AND key = ?)"


def match_columns(entry: LogEntry) -> tuple[str | None, str | None]:
    """Return the columns ``fingerprint`` and ``status_fingerprint``; both are empty if the key has the fingerprint."""
    return (entry.fingerprint, entry.status_fingerprint) if entry.fingerprint else (None, None)


def assign_interim_keys(connection: Connection, scope_id: int) -> None:
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


def find_matches(
    connection: Connection,
    scope_id: int,
    entries: Sequence[LogEntry],
    statuses: Mapping[str, set[str]],
    *,
    has_pending: bool,
) -> dict[str, LogEntry]:
    """Return the entries that are stored under a former key, by that key."""
    new_keys = [entry.key for entry in entries if entry.status not in statuses.get(entry.key, ())]
    stored_logs: dict[str, dict[str, str | None]] = {key: dict.fromkeys(names) for key, names in statuses.items()}
    for prefix in {prefix for key in new_keys if (prefix := time_prefix(key))}:
        rows = connection.execute(
            "SELECT key, status, status_fingerprint FROM observation WHERE scope = ? AND key >= ? AND key < ?",
            (scope_id, prefix, f"{prefix}~"),
        )
        for key, status, status_fingerprint in rows:
            stored_logs.setdefault(key, {})[status] = status_fingerprint
    if len(stored_logs) == len(statuses) and not any(
        entry.former and entry.former.key in statuses for entry in entries
    ):
        return {}
    (agree,) = connection.execute(FINGERPRINTS_AGREE, (scope_id,)).fetchone()
    return match_logs(entries, stored_logs, has_pending=has_pending, fingerprints_agree=bool(agree))


def apply_matches(connection: Connection, scope_id: int, matches: Mapping[str, LogEntry], *, has_pending: bool) -> None:
    """Give the stored logs that ``find_matches`` returned their new keys."""
    execute = connection.execute
    for key, entry in matches.items():
        (has_new_key,) = execute(HAS_KEY, (scope_id, entry.key)).fetchone()
        rows = execute("SELECT status FROM observation WHERE scope = ? AND key = ?", (scope_id, key)).fetchall()
        names = matched_statuses(entry, key, [status for (status,) in rows], has_pending=has_pending)
        for former_status, status in names.items():
            # If both keys are stored in the same status, the former row stays.
            execute(
                "UPDATE OR IGNORE observation SET key = ?1, status = ?2, status_fingerprint ="
                " CASE WHEN status_fingerprint = ?5 THEN status_fingerprint END"
                " WHERE scope = ?3 AND key = ?4 AND status = ?6",
                (entry.key, status, scope_id, key, entry.status_fingerprint, former_status),
            )
        execute("UPDATE OR REPLACE pending SET key = ? WHERE scope = ? AND key = ?", (entry.key, scope_id, key))
        (has_former_key,) = execute(HAS_KEY, (scope_id, key)).fetchone()
        if has_new_key and not has_former_key:
            # Logs that differ in their status only have become one.
            execute("UPDATE scope SET logs = logs - 1 WHERE id = ?", (scope_id,))
            minute = None if entry.created is None else entry.created // MINUTE
            execute("UPDATE logs_per_minute SET logs = logs - 1 WHERE scope = ? AND minute = ?", (scope_id, minute))


def preview(
    connection: Connection,
    scope_id: int,
    entries: Sequence[LogEntry],
    statuses: Mapping[str, set[str]],
    *,
    has_pending: bool,
) -> tuple[dict[str, set[str]], frozenset[str]]:
    """Return the stored statuses as if the logs were re-keyed, and the former keys, without changing the state."""
    matches = find_matches(connection, scope_id, entries, statuses, has_pending=has_pending)
    former_statuses = stored_statuses(connection, scope_id, list(matches))
    result = {key: set(names) for key, names in statuses.items()}
    for key, entry in matches.items():
        names = matched_statuses(entry, key, former_statuses[key], has_pending=has_pending)
        result.setdefault(entry.key, set()).update(names.values())
    return result, frozenset(matches)
