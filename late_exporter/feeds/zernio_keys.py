"""Keys of logs of generation ``zernio``, which have no ids.

A log is identified by its creation time, a digest of its immutable fields, and its ordinal among
the logs of its page that are alike and have the same status. The account is not in it, as it
vanishes if it is deleted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from late_exporter.feeds import decoder
from late_exporter.model import LogEntry

if TYPE_CHECKING:
    from late_exporter.feeds.zernio import ZernioRow


def row_key(row: ZernioRow, created: int | None) -> str:
    """Return the key of a log, which sorts by time and still lacks the ordinal.

    Only fields as the API writes them identify a log, so that no later version of this program
    finds other keys, and only those that never change: a request body may appear with the final
    status.
    """
    digest = decoder.text_digest(row.platform, row.action, row.user_id, row.request_id)
    return f"{created or 0:013d}-{digest}"


def number_entries(entries: Sequence[LogEntry]) -> Sequence[LogEntry]:
    """Append the ordinals among alike logs to the keys of a page."""
    ordinals = Counter[tuple[str, str]]()
    numbered_entries = []
    for entry in entries:
        if entry.rejection_reason:
            numbered_entries.append(entry)
            continue
        number = ordinals[entry.key, entry.status]
        ordinals[entry.key, entry.status] += 1
        numbered_entries.append(msgspec.structs.replace(entry, key=f"{entry.key}.{number}"))
    return numbered_entries


def renumber_entries(entries: Sequence[LogEntry]) -> Sequence[LogEntry]:
    """Return the entries of several pages with the ordinals that they would have on one."""
    return number_entries(
        [
            entry
            if entry.rejection_reason
            else msgspec.structs.replace(entry, key=entry.key.rpartition(".")[0])
            for entry in entries
        ]
    )
