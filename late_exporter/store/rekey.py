"""Find the stored logs of a page, and re-key those with former keys; no other module knows about former keys.

A switch gives all logs of a feed interim keys that sort by time. When a page then contains a log without a stored key,
it is matched to a stored log of the same time, which gets the new key. Pages without new logs cost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from sqlite3 import Connection
from typing import NamedTuple

from late_exporter.model import PENDING, LogEntry
from late_exporter.store.matching import (
    StoredLogs,
    interim_key,
    match_logs,
    matched_statuses,
    split_logs,
    time_prefix,
    undecided_times,
)
from late_exporter.store.ordinals import number_entries, unnumbered_keys
from late_exporter.store.queries import MINUTE, stored_statuses

# Only a log that was matched by its status fingerprint keeps the fingerprint. The newest logs are matched first.
FINGERPRINTS_AGREE = (
    "SELECT EXISTS (SELECT 1 FROM observation WHERE scope = ? AND status_fingerprint IS NOT NULL"
    " AND status <> 'pending' AND (instr(key, '=') OR instr(key, '+')) ORDER BY key DESC)"
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


class IdentifiedPage(NamedTuple):
    """Logs of a page with their final keys.

    Args:
        statuses: Counted statuses by key; a missing key is a new log.
        stored_logs: Stored logs on the page, and those with the creation times of its new and alike logs, as for
            ``match_logs``.
    """

    entries: tuple[LogEntry, ...]
    statuses: Mapping[str, frozenset[str]]
    stored_logs: StoredLogs


def identify(
    connection: Connection, scope_id: int, entries: Sequence[LogEntry], uncommitted: Mapping[str, AbstractSet[str]]
) -> IdentifiedPage:
    """Find the stored logs of a page, and number the logs that are alike.

    Args:
        connection: Connection to the state.
        scope_id: Feed of a workspace.
        entries: Logs of the page.
        uncommitted: Statuses by key of logs that were read but are not committed yet.
    """
    statuses = stored_statuses(connection, scope_id, [entry.key for entry in entries])
    unnumbered = unnumbered_keys(entries, statuses)
    new_keys = {entry.key for entry in entries if entry.status not in statuses.get(entry.key, ())}
    stored_logs: dict[str, dict[str, str | None]] = {key: dict.fromkeys(names) for key, names in statuses.items()}
    if not unnumbered and not new_keys:
        known = {key: frozenset(names) for key, names in statuses.items()}
        return IdentifiedPage(tuple(entries), known, stored_logs)
    for prefix in {prefix for key in new_keys | unnumbered if (prefix := time_prefix(key))}:
        rows = connection.execute(
            "SELECT key, status, status_fingerprint FROM observation WHERE scope = ? AND key >= ? AND key < ?",
            (scope_id, prefix, f"{prefix}~"),
        )
        for key, status, status_fingerprint in rows:
            stored_logs.setdefault(key, {})[status] = status_fingerprint
    if unnumbered:
        alike = {key: set(names) for key, names in stored_logs.items()}
        for key, names in uncommitted.items():
            alike.setdefault(key, set()).update(names)
        entries = number_entries(entries, alike)
    page_keys = {entry.key for entry in entries}
    known = {key: frozenset(names) for key, names in stored_logs.items() if key in page_keys}
    return IdentifiedPage(tuple(entries), known, stored_logs)


def find_matches(
    connection: Connection,
    scope_id: int,
    page: IdentifiedPage,
    *,
    has_pending: bool,
    partial_times: AbstractSet[int] = frozenset(),
) -> dict[str, LogEntry]:
    """Return the entries that are stored under a former key, by that key.

    Args:
        connection: Connection to the state.
        scope_id: Feed of a workspace.
        page: Logs of the page.
        has_pending: Whether logs can change their status.
        partial_times: Creation times of which the page may lack logs.
    """
    has_former = any(entry.former and entry.former.key in page.stored_logs for entry in page.entries)
    if len(page.stored_logs) == len(page.statuses) and not has_former:
        return {}
    (agree,) = connection.execute(FINGERPRINTS_AGREE, (scope_id,)).fetchone()
    return match_logs(
        page.entries,
        page.stored_logs,
        has_pending=has_pending,
        fingerprints_agree=bool(agree),
        partial_times=_time_prefixes(partial_times),
    )


def find_undecided_times(
    page: IdentifiedPage,
    matches: Mapping[str, LogEntry],
    uncommitted: Mapping[str, AbstractSet[str]],
    *,
    has_pending: bool,
    partial_times: AbstractSet[int],
) -> frozenset[int]:
    """Return the partial times whose logs can only be recognised together."""
    if not partial_times or len(page.stored_logs) == len(page.statuses):
        return frozenset()
    undecided = undecided_times(
        page.entries,
        page.stored_logs,
        matches,
        has_pending=has_pending,
        partial_times=_time_prefixes(partial_times),
        uncommitted=uncommitted,
    )
    return frozenset(created for created in partial_times if f"{created:013d}-" in undecided)


def _time_prefixes(times: AbstractSet[int]) -> frozenset[str]:
    return frozenset(f"{created:013d}-" for created in times)


def apply_matches(
    connection: Connection, scope_id: int, page: IdentifiedPage, matches: Mapping[str, LogEntry], *, has_pending: bool
) -> None:
    """Give the stored logs that ``find_matches`` returned their new keys."""
    execute = connection.execute
    for (key, status), entry in split_logs(page.entries, page.stored_logs, matches).items():
        _split_log(connection, scope_id, key, status, entry)
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


def _split_log(connection: Connection, scope_id: int, key: str, status: str, entry: LogEntry) -> None:
    """Make a status of a stored log a log of its own."""
    execute = connection.execute
    execute(
        "UPDATE observation SET key = ? WHERE scope = ? AND key = ? AND status = ?", (entry.key, scope_id, key, status)
    )
    execute("UPDATE scope SET logs = logs + 1 WHERE id = ?", (scope_id,))
    if entry.created is not None:
        execute(
            "UPDATE logs_per_minute SET logs = logs + 1 WHERE scope = ? AND minute = ?",
            (scope_id, entry.created // MINUTE),
        )
    if status == PENDING:
        execute(
            "INSERT OR IGNORE INTO pending VALUES (?, ?, ?, ?, ?, ?)",
            (scope_id, entry.key, entry.created or 0, entry.platform, entry.action, entry.post_id),
        )


def preview(
    connection: Connection, scope_id: int, entries: Sequence[LogEntry], *, has_pending: bool
) -> tuple[IdentifiedPage, frozenset[str]]:
    """Return a page as if the logs were re-keyed, and the former keys, without changing the state."""
    page = identify(connection, scope_id, entries, {})
    matches = find_matches(connection, scope_id, page, has_pending=has_pending)
    former_statuses = stored_statuses(connection, scope_id, list(matches))
    statuses = {key: set(names) for key, names in page.statuses.items()}
    for key, entry in matches.items():
        names = matched_statuses(entry, key, former_statuses[key], has_pending=has_pending)
        statuses.setdefault(entry.key, set()).update(names.values())
    for (_, status), entry in split_logs(page.entries, page.stored_logs, matches).items():
        statuses.setdefault(entry.key, set()).add(status)
    known = {key: frozenset(names) for key, names in statuses.items()}
    return page._replace(statuses=known), frozenset(matches)
