"""Logs as people read them: every field that tells something, whatever the row holds."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias
from urllib.parse import quote

import msgspec

from late_exporter.errors import BadPayload
from late_exporter.feeds.decoder import UNKNOWN, label_text, parse_millis, to_micros
from late_exporter.model import Feed, LogEntry

__all__ = [
    "LogPage",
    "LogView",
    "RawLog",
    "chronological",
    "is_post_id",
    "mentions",
    "moment",
    "parse_page",
    "post_path",
]

RawLog: TypeAlias = Mapping[str, Any]
"""A log as the API sends it."""

LONGEST = 1000
"""Characters of a text that are shown; JSON has all of them."""

LONGEST_NUMBER = 1000
LONGEST_ID = 200
FAILED = "failed"
ONE = 1_000_000
"""The first attempt, as the metrics have it."""


class LogView(msgspec.Struct, frozen=True, kw_only=True):
    """A log of any feed; a field that it does not have, or that is of another type, is empty.

    Args:
        key: Its id, or what it is told by where it has none.
        row: All that the API sent.
        previous_status: The status it was seen in before.
        time: ``created`` as people read it, or whatever stands there if it is no time.
        duration: In microseconds.
    """

    key: str
    row: RawLog
    platform: str
    action: str
    status: str
    previous_status: str = ""
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


class LogPage(msgspec.Struct, frozen=True):
    """Some logs of a list, and what the answer says of the whole list."""

    logs: Sequence[LogView]
    total: int | None
    has_more: bool | None
    rows: int


def parse_page(body: bytes, feed: Feed) -> LogPage:
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
    return LogPage(
        logs=_parse_zernio(body, rows, feed) if feed.generation == "zernio" else _with_ids(rows, feed),
        total=total if isinstance(total, int) and not isinstance(total, bool) and total >= 0 else None,
        has_more=more if isinstance(more, bool) else None,
        rows=len(rows),
    )


def _with_ids(rows: Sequence[object], feed: Feed) -> list[LogView]:
    kind = _publishing if feed.name == "publishing" else _connection
    return [kind(row) for row in rows if isinstance(row, dict)]


def _parse_zernio(body: bytes, rows: Sequence[object], feed: Feed) -> list[LogView]:
    """The logs of generation ``zernio``, told apart as the exporter does it, and in the words of the metrics."""
    logs: list[LogView] = []
    taken: set[str] = set()
    for row, entry in zip(rows, feed.parse(body).entries, strict=True):
        if isinstance(row, dict):
            # The number of those that are alike is counted status by status.
            key = f"{entry.key}/{entry.status}" if entry.key in taken else entry.key
            taken.add(key)
            logs.append(_from_zernio(row, entry, key, feed))
    return logs


def is_post_id(text: str) -> bool:
    """Whether a post can have such an id."""
    # Dots are steps of a path however they are quoted.
    return bool(text.strip(".")) and len(text) <= LONGEST_ID and text.isprintable()


def post_path(feed: Feed, post_id: str) -> str | None:
    """Where the logs of a post are; None where that can be no post's id, or the feed has no such place."""
    if feed.post_path is None or not is_post_id(post_id):
        return None
    return feed.post_path.replace("{postId}", quote(post_id, safe=""))


def mentions(log: LogView, post_id: str) -> bool:
    """Whether a log without a path of its own is one of a post."""
    if log.post_id:
        return log.post_id == post_id
    return any(post_id in _text(log.row, name) for name in ("request_id", "request_body", "metadata"))


def chronological(logs: Sequence[LogView]) -> list[LogView]:
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


def _publishing(row: RawLog) -> LogView:
    return LogView(
        **_shared(row),
        action=_text(row, "action") or UNKNOWN,
        status=_text(row, "status") or UNKNOWN,
        post_id=_text(row, "postId") or _text(row, "postId", "_id"),
        username=_text(row, "accountUsername"),
        attempt=to_micros(_number(row, "attemptNumber"), 1),
        status_code=_text(row, "statusCode"),
        error_code=_text(row, "response", "errorCode"),
        error=_text(row, "response", "errorMessage"),
        url=_text(row, "response", "platformPostUrl"),
        endpoint=_text(row, "endpoint"),
        caption=_text(row, "request", "contentPreview") or _text(row, "postId", "content"),
    )


def _connection(row: RawLog) -> LogView:
    event = _text(row, "eventType") or UNKNOWN
    return LogView(
        **_shared(row),
        action=event,
        status=_outcome(event),
        username=_text(row, "success", "username"),
        error_code=_text(row, "error", "code"),
        error=_text(row, "error", "message"),
        method=_text(row, "connectionMethod"),
    )


def _outcome(event: str) -> str:
    """What an event says by its name of how it ended."""
    return {"success": "success", FAILED: FAILED}.get(event.rpartition("_")[2], "")


def _from_zernio(row: RawLog, entry: LogEntry, key: str, feed: Feed) -> LogView:
    """A log of generation ``zernio``."""
    status = entry.status
    if feed.name == "connections":
        status = _outcome(entry.action) or (FAILED if _text(row, "status") == FAILED else "")
    return LogView(
        key=key,
        row=row,
        log_id=_text(row, "_id") or _text(row, "id"),
        created=entry.created,
        time=(moment(entry.created) if entry.created is not None else "") or _text(row, "created_at"),
        platform=entry.platform,
        action=entry.action,
        method=_known(entry.method),
        status=status,
        post_id=entry.post_id or _search_json_text(row, "postId", "metadata", "request_body"),
        account_id=entry.account_id or "",
        username=_known(entry.username) or _search_json_text(row, "accountUsername", "metadata", "response_body"),
        attempt=None if entry.attempt is None else entry.attempt // ONE,
        duration=entry.duration,
        status_code=_text(row, "status_code"),
        error_code=_text(row, "error_code"),
        error=_text(row, "error_message"),
        url=_search_json_text(row, "platformPostUrl", "metadata", "response_body"),
        endpoint=_text(row, "endpoint"),
        caption=_search_json_text(row, "contentPreview", "request_body")
        or _search_json_text(row, "content", "request_body", "metadata"),
    )


def _known(text: str | None) -> str:
    return "" if text in (None, UNKNOWN) else text


def _search_json_text(row: RawLog, name: str, *places: str) -> str:
    """A field in the JSON texts of a row, which may be cut anywhere, or be objects; empty where none has it."""
    return next(filter(None, (found for place in places for found in _found(row.get(place), name))), "")


def _found(place: object, name: str) -> Iterator[str]:
    if isinstance(place, dict):
        yield _text(place, name)
    elif isinstance(place, str):
        for value in re.findall(rf'"{name}"\s*:\s*("(?:[^"\\]|\\.)*"|\d{{1,100}})', place):
            try:
                yield _text({name: json.loads(value, strict=False)}, name)
            except ValueError:
                continue


def _shared(row: RawLog) -> dict[str, Any]:
    log_id, written = _text(row, "_id"), _text(row, "createdAt")
    created = parse_millis(written)
    return {
        "key": log_id or _fingerprint(row),
        "row": row,
        "log_id": log_id,
        "created": created,
        "time": (moment(created) if created is not None else "") or written,
        "platform": _text(row, "platform") or UNKNOWN,
        "account_id": _text(row, "accountId"),
        "duration": to_micros(_number(row, "durationMs"), 1000),
    }


def _at(row: RawLog, *path: str) -> Any:
    found: Any = row
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _text(row: RawLog, *path: str) -> str:
    """A text, or a number that stands where a text belongs."""
    found = _at(row, *path)
    if isinstance(found, int | float) and not isinstance(found, bool):
        found = str(found)
    return label_text(found, LONGEST) if isinstance(found, str) and found else ""


def _number(row: RawLog, name: str) -> float | None:
    found = row.get(name)
    return found if isinstance(found, int | float) and not isinstance(found, bool) else None


def _integer(digits: str) -> int | float:
    """An int as Python allows them to be written again, beyond that infinity."""
    return int(digits) if len(digits) <= LONGEST_NUMBER else float(digits)


def _fingerprint(row: RawLog) -> str:
    try:
        written = json.dumps(row, sort_keys=True)
    except RecursionError:
        written = "nested too deeply"
    return f"!{hashlib.sha256(written.encode()).hexdigest()}"
