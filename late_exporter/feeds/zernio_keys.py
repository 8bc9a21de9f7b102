"""Keys of logs of generation ``zernio``, which have no ids.

A log is identified by its creation time, a digest of its immutable fields, and its ordinal among identical logs. The
decoder counts the ordinals of a page per status; which stored logs they are is decided in store.ordinals.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from late_exporter.feeds import decoder
from late_exporter.model import FormerLog, LogEntry

if TYPE_CHECKING:
    from late_exporter.feeds.zernio import ZernioRow


def row_key(row: ZernioRow, created: int | None, fingerprint: str, generic_action: str | None) -> str:
    """Return the key of a log, which sorts by time; if the row has no id, the key still lacks the ordinal.

    Only fields that never change identify a log: a request body may appear with the final status, and a publish log may
    turn out to be a retry. The account may vanish, which store.matching allows for.
    """
    prefix, row_id = f"{created or 0:013d}-", row.underscore_id or row.id
    if row_id:
        return f"{prefix}#{decoder.log_key(row_id)}"
    digest = decoder.fingerprint(row.platform, generic_action, row.user_id, row.request_id)
    return f"{prefix}{fingerprint}+{digest}"


def _former_key(row: ZernioRow, created: int | None, action: str, generic_action: str | None) -> str:
    """Return the key that an earlier version gave a log without an id, without the ordinal."""
    prefix = f"{created or 0:013d}-{decoder.fingerprint(row.platform, row.account_id, generic_action)}"
    # Limited, because a character may take forty bytes in the representation of a text.
    fields = tuple(text and text[:65_536] for text in (action, row.user_id, row.request_id, row.request_body))
    digest = hashlib.blake2b(repr(fields).encode("utf-8", "backslashreplace"), digest_size=6).hexdigest()
    return f"{prefix}={digest}"


def number_entries(entries: Sequence[LogEntry]) -> Sequence[LogEntry]:
    """Append the ordinals among identical logs to the keys of a page."""
    ordinals = Counter[tuple[str, str]]()
    numbered_entries = []
    for entry in entries:
        if entry.rejection_reason or "#" in entry.key:
            numbered_entries.append(entry)
            continue
        number = ordinals[entry.key, entry.status]
        ordinals[entry.key, entry.status] += 1
        former = entry.former
        if former is not None:
            former_number = ordinals[former.key, former.status]
            ordinals[former.key, former.status] += 1
            former = FormerLog(f"{former.key}.{former_number}", former.status)
        numbered_entries.append(msgspec.structs.replace(entry, key=f"{entry.key}.{number}", former=former))
    return numbered_entries


def renumber_entries(entries: Sequence[LogEntry]) -> Sequence[LogEntry]:
    """Return the entries of several pages with the ordinals that they would have on one."""
    bare_entries = []
    for entry in entries:
        if entry.rejection_reason or "#" in entry.key:
            bare_entries.append(entry)
            continue
        former = entry.former and FormerLog(entry.former.key.rpartition(".")[0], entry.former.status)
        bare_entries.append(msgspec.structs.replace(entry, key=entry.key.rpartition(".")[0], former=former))
    return number_entries(bare_entries)


def former_log(row: ZernioRow, action: str, status: str, generic_action: str) -> FormerLog:
    return FormerLog(_former_key(row, decoder.parse_millis(row.created_at), action, generic_action), status)
