"""Logs as people read them: every field that tells something, whatever the row holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, TypeAlias
from urllib.parse import quote

import msgspec

from late_exporter.errors import BadPayload
from late_exporter.feeds.answer import UNKNOWN, micros, millis, text
from late_exporter.model import Feed

__all__ = ["Log", "Page", "Row", "chronological", "moment", "post_path", "read"]

Row: TypeAlias = Mapping[str, Any]
"""A log as the API sends it."""

LONGEST = 1000
"""Characters of a text that are shown; JSON has all of them."""

LONGEST_NUMBER = 1000
LONGEST_ID = 200


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """A log of either feed; a field that it does not have, or that is of another type, is empty.

    Args:
        key: Its id, or a fingerprint where it has none.
        row: All that the API sent.
        was: The status it was seen in before.
        time: ``created`` as people read it, or whatever stands there if it is no time.
        duration: In microseconds.
    """

    key: str
    row: Row
    platform: str
    action: str
    status: str
    was: str = ""
    log_id: str = ""
    post_id: str = ""
    created: int | None = None
    time: str = ""
    account_id: str = ""
    username: str = ""
    attempt: int | None = None
    duration: int | None = None
    status_code: str = ""
    error_code: str = ""
    error: str = ""
    url: str = ""
    endpoint: str = ""
    caption: str = ""
    method: str = ""


class Page(msgspec.Struct, frozen=True):
    """Some logs of a list, and what the answer says of the whole list."""

    logs: Sequence[Log]
    total: int | None
    has_more: bool | None
    rows: int


def read(body: bytes, feed: str) -> Page:
    """The page that an answer holds; raises BadPayload where it is no log list."""
    try:
        # Neither of them is JSON, though Python reads and writes them.
        answer = json.loads(body.decode("utf-8", "replace"), parse_int=_integer, parse_constant=lambda _: None)
    except ValueError as exc:
        raise BadPayload("the answer is not JSON") from exc
    except RecursionError as exc:
        raise BadPayload("the answer nests too deeply") from exc
    rows = answer.get("logs") if isinstance(answer, dict) else None
    if not isinstance(rows, list):
        raise BadPayload("the answer has no list of logs")
    total, more = _at(answer, "pagination", "total"), _at(answer, "pagination", "hasMore")
    return Page(
        logs=[_KINDS[feed](row) for row in rows if isinstance(row, dict)],
        total=total if isinstance(total, int) and not isinstance(total, bool) and total >= 0 else None,
        has_more=more if isinstance(more, bool) else None,
        rows=len(rows),
    )


def post_path(feed: Feed, post_id: str) -> str | None:
    """Where the logs of a post are; None where that can be no post's id, or the feed has no posts."""
    # Dots are steps of a path however they are quoted.
    if feed.post_path is None or not post_id.strip(".") or len(post_id) > LONGEST_ID or not post_id.isprintable():
        return None
    return feed.post_path.replace("{postId}", quote(post_id, safe=""))


def chronological(logs: Sequence[Log]) -> list[Log]:
    """Logs that come newest first, oldest first; one without a time stays beside the one before it."""
    dated, last = [], 0
    for log in reversed(logs):
        last = last if log.created is None else log.created
        dated.append((last, log))
    return [log for _, log in sorted(dated, key=lambda pair: pair[0])]


def moment(created: int, *, precise: bool = False) -> str:
    """Milliseconds since the epoch as ISO 8601 in UTC; empty where the calendar does not reach."""
    try:
        time = datetime.fromtimestamp(created / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return ""
    return time.isoformat(timespec="milliseconds" if precise else "seconds").replace("+00:00", "Z")


def _publishing(row: Row) -> Log:
    return Log(
        **_shared(row),
        action=_text(row, "action") or UNKNOWN,
        status=_text(row, "status") or UNKNOWN,
        post_id=_text(row, "postId") or _text(row, "postId", "_id"),
        username=_text(row, "accountUsername"),
        attempt=micros(_number(row, "attemptNumber"), 1),
        status_code=_text(row, "statusCode"),
        error_code=_text(row, "response", "errorCode"),
        error=_text(row, "response", "errorMessage"),
        url=_text(row, "response", "platformPostUrl"),
        endpoint=_text(row, "endpoint"),
        caption=_text(row, "request", "contentPreview") or _text(row, "postId", "content"),
    )


def _connection(row: Row) -> Log:
    event = _text(row, "eventType") or UNKNOWN
    return Log(
        **_shared(row),
        action=event,
        status={"success": "success", "failed": "failed"}.get(event.rpartition("_")[2], ""),
        username=_text(row, "success", "username"),
        error_code=_text(row, "error", "code"),
        error=_text(row, "error", "message"),
        method=_text(row, "connectionMethod"),
    )


_KINDS: Mapping[str, Callable[[Row], Log]] = MappingProxyType({"publishing": _publishing, "connections": _connection})


def _shared(row: Row) -> dict[str, Any]:
    log_id, written = _text(row, "_id"), _text(row, "createdAt")
    created = millis(written)
    return {
        "key": log_id or _fingerprint(row),
        "row": row,
        "log_id": log_id,
        "created": created,
        "time": (moment(created) if created is not None else "") or written,
        "platform": _text(row, "platform") or UNKNOWN,
        "account_id": _text(row, "accountId"),
        "duration": micros(_number(row, "durationMs"), 1000),
    }


def _at(row: Row, *path: str) -> Any:
    found: Any = row
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _text(row: Row, *path: str) -> str:
    """A text, or a number that stands where a text belongs."""
    found = _at(row, *path)
    if isinstance(found, int | float) and not isinstance(found, bool):
        found = str(found)
    return text(found, LONGEST) if isinstance(found, str) and found else ""


def _number(row: Row, name: str) -> float | None:
    found = row.get(name)
    return found if isinstance(found, int | float) and not isinstance(found, bool) else None


def _integer(digits: str) -> int | float:
    """An int as Python allows them to be written again, beyond that infinity."""
    return int(digits) if len(digits) <= LONGEST_NUMBER else float(digits)


def _fingerprint(row: Row) -> str:
    try:
        written = json.dumps(row, sort_keys=True)
    except RecursionError:
        written = "nested too deeply"
    return f"!{hashlib.sha256(written.encode()).hexdigest()}"
