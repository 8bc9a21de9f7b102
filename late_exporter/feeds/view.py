"""Read the fields of a raw log that people look at and metrics do not need."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

from late_exporter.feeds.decoder import TEXT_LENGTH, label_text
from late_exporter.feeds.feed import RawLog
from late_exporter.format import iso_time
from late_exporter.model import FAILED, SUCCESS, UNKNOWN, LogEntry

SEARCHED_LENGTH = 64 * 1024
"""Length up to which the JSON text of a field is searched."""

_decode_member = json.JSONDecoder(strict=False).decode


def common_fields(
    row: RawLog, entry: LogEntry, *, created_field: str, account_field: str
) -> dict[str, Any]:
    return {
        "key": entry.key,
        "row": row,
        "log_id": row_text(row, "_id") or row_text(row, "id"),
        "created": entry.created,
        "time": (entry.created and iso_time(entry.created)) or row_text(row, created_field),
        "platform": row_text(row, "platform") or UNKNOWN,
        "account_id": row_text(row, account_field),
        "attempt": entry.attempt,
        "duration": entry.duration,
        "endpoint": row_text(row, "endpoint"),
        "error": entry.error,
        "is_own": entry.is_own,
    }


def row_text(row: RawLog, *path: str) -> str:
    """Return the text or number at a path of nested objects, or an empty string."""
    value: Any = row
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and -math.inf < value < math.inf
    ):
        value = str(value)
    return label_text(value, TEXT_LENGTH) if isinstance(value, str) and value else ""


def search_json_text(row: RawLog, name: str, *fields: str) -> str:
    """Return a member of the first field that has it, or an empty string.

    The fields contain JSON objects, or JSON texts that may be cut anywhere.
    """
    return next(
        filter(None, (value for field in fields for value in _members(row.get(field), name))), ""
    )


def _members(field: object, name: str) -> Iterator[str]:
    if isinstance(field, dict):
        yield row_text(field, name)
    elif isinstance(field, str):
        # Possessive, because a text that is cut may have any number of characters after its last
        # quote.
        pattern = rf'"{name}"\s*+:\s*+("[^"\\]*+(?:\\.[^"\\]*+)*+"|\d{{1,100}}(?!\d))'
        for match in re.finditer(pattern, field[:SEARCHED_LENGTH]):
            try:
                yield row_text({name: _decode_member(match[1])}, name)
            except ValueError:
                continue


def event_status(event: str) -> str:
    """Return ``success`` or ``failed`` by the name of a connection event, or an empty text."""
    return {SUCCESS: SUCCESS, FAILED: FAILED}.get(event.rpartition("_")[2], "")


def without_unknown(text: str | None) -> str:
    """Return a text of a LogEntry, or an empty string if it is missing or unknown."""
    return "" if text in (None, UNKNOWN) else text
