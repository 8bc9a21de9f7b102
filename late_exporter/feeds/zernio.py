"""The logs of generation ``zernio``, ``GET /v1/logs``: one list a type, of rows without an id.

A log is known by when it was created, by what does not change about it, and by its number among those that are alike.
The number is counted status by status, in whatever order the rows come: so many alike are in that status at least.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TypeAlias

import msgspec

from late_exporter.feeds import connections, publishing
from late_exporter.feeds.decoder import UNKNOWN, Answer, key, mark, micros, millis, text
from late_exporter.feeds.schema import ZERNIO_LOGS, Sentinel
from late_exporter.model import Feed, IncCounter, Increment, LogEntry, ObserveHistogram

__all__ = ["ACTIONS", "ACTIVITIES", "EVENTS", "FEEDS", "actions_markdown"]

DAY = 86_400_000
RETENTION = 90 * DAY
FAILED = "failed"
FIRST = 1_000_000
"""The first attempt, in millionths."""

ACTIONS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "post.published": ("publish", "success"),
        "post.failed": ("publish", FAILED),
        "post.partial": ("publish", "success"),
        "post.publishing": ("publish", "pending"),
        "post.pending": ("publish", "pending"),
        "post.scheduled": ("publish", "pending"),
        "post.skipped": ("publish", "skipped"),
        "post.retried": ("retry", "success"),
        "post.retry_failed": ("retry", FAILED),
        "post.retrying": ("retry", "pending"),
        "post.retry": ("retry", UNKNOWN),
        "post.rate_limited": ("rate_limit_pause", "skipped"),
        "post.cancelled": ("cancelled", "skipped"),
        "media.uploaded": ("media_upload", "success"),
        "media.uploading": ("media_upload", "pending"),
        "media.failed": ("media_upload", FAILED),
        "token.refreshed": ("token_refresh", "success"),
        "token.refreshing": ("token_refresh", "pending"),
        "token.refresh_failed": ("token_refresh", FAILED),
    }
)
"""What an action is in the metrics, and the status of a row that has none. All others keep their own name."""

EVENTS: Mapping[str, str] = MappingProxyType(
    {
        "account.connected": "connect_success",
        "account.connect_failed": "connect_failed",
        "account.connection_failed": "connect_failed",
        "account.disconnected": "disconnect",
        "account.reconnected": "reconnect_success",
        "account.reconnect_failed": "reconnect_failed",
    }
)
"""What an action of the connection logs is in the metrics, unless its status says that it failed."""

ACTIVITIES = ("webhooks", "messaging", "workflow_event", "api_request")
"""The further types of logs, each of them a feed of its own."""

Scalar: TypeAlias = str | int | float | bool | None


def actions_markdown() -> str:
    """The table of actions for the README."""
    rows = ["| action of zernio | in the metrics |", "|---|---|"]
    rows += [f"| `{name}` | action `{action}` |" for name, (action, _) in ACTIONS.items()]
    rows += [f"| `{name}` | event `{event}` |" for name, event in EVENTS.items()]
    return "\n".join(rows)


class Details(msgspec.Struct, rename="camel", gc=False):
    """What is used of ``metadata``."""

    post_id: str | None = None
    account_username: str | None = None
    attempt_number: int | float | None = None
    connection_method: str | None = None
    token_expires_at: str | None = None
    is_reconnection: bool | None = None


class Row(msgspec.Struct, gc=False):
    """A log as the API writes it; ``metadata`` is a JSON text, or might be an object one day."""

    under_id: str | None = msgspec.field(default=None, name="_id")
    id: str | None = None
    action: str | None = None
    user_id: str | None = None
    platform: str | None = None
    account_id: str | None = None
    status: str | None = None
    status_code: int | None = None
    error_code: str | None = None
    duration_ms: int | float | None = None
    request_body: str | None = None
    created_at: str | None = None
    metadata: str | Details | None = None
    request_id: str | None = None


_details = msgspec.json.Decoder(Details)
_FIELD = re.compile(r'"(postId|accountUsername|attemptNumber|connectionMethod|tokenExpiresAt)"\s*:\s*("[^"\\]*"|\d+)')


def _read(metadata: str | Details | None) -> Details:
    """What ``metadata`` holds; where it was cut or is odd, the fields that are whole."""
    if not metadata or isinstance(metadata, Details):
        return metadata or Details()
    try:
        return _details.decode(metadata)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        fields = {name: msgspec.json.decode(value) for name, value in _FIELD.findall(metadata)}
    found = {}
    for field in msgspec.structs.fields(Details):
        try:
            found[field.name] = msgspec.convert(fields[field.encode_name], field.type)
        except (KeyError, msgspec.ValidationError):
            continue
    return Details(**found)


def _key(row: Row, created: int | None, log_mark: str, action: str) -> str:
    """The key of a log, which goes by time; without its number where the row has no id."""
    place = f"{created or 0:013d}-{log_mark}"
    given = row.under_id or row.id
    if given:
        return f"{place}#{key(given)}"
    facts = (action, row.user_id, row.request_id, row.request_body)
    digest = hashlib.blake2b(repr(facts).encode("utf-8", "backslashreplace"), digest_size=6).hexdigest()
    return f"{place}={digest}"


def _number(entries: Sequence[LogEntry]) -> Sequence[LogEntry]:
    """Tell the logs of a page that are alike from each other."""
    seen = Counter[tuple[str, str]]()
    numbered = []
    for entry in entries:
        if entry.rejection_reason or "#" in entry.key:
            numbered.append(entry)
            continue
        number = seen[entry.key, entry.status]
        seen[entry.key, entry.status] += 1
        numbered.append(msgspec.structs.replace(entry, key=f"{entry.key}.{number}"))
    return numbered


def _publishing(row: Row) -> LogEntry:
    details = _read(row.metadata)
    action, status = ACTIONS.get(row.action or "", (text(row.action), UNKNOWN))
    attempt = micros(details.attempt_number, 1_000_000)
    if action == "publish" and attempt is not None and attempt > FIRST:
        action = "retry"
    created, duration = millis(row.created_at), micros(row.duration_ms, 1000)
    log_mark = mark(row.platform, row.account_id, publishing.kind(action))
    return LogEntry(
        key=_key(row, created, log_mark, action),
        status=text(row.status) if row.status else status,
        created=created,
        platform=text(row.platform),
        action=action,
        post_id=text(details.post_id) if details.post_id else None,
        account_id=text(row.account_id) if row.account_id else None,
        username=text(details.account_username),
        status_code=row.status_code,
        error_code=row.error_code,
        duration=duration,
        attempt=attempt,
        status_fingerprint=mark(action, row.status_code, duration, attempt),
    )


def _connection(row: Row) -> LogEntry:
    details = _read(row.metadata)
    event = EVENTS.get(row.action or "", text(row.action))
    if row.status == FAILED:
        event = event.replace("_success", "_failed")
    if details.is_reconnection and event.startswith("connect_"):
        event = f"re{event}"
    created = millis(row.created_at)
    log_mark = mark(row.platform, row.account_id, connections.kind(event))
    return LogEntry(
        key=_key(row, created, log_mark, event),
        status=event,
        created=created,
        platform=text(row.platform),
        action=event,
        method=text(details.connection_method),
        account_id=text(row.account_id) if row.account_id else None,
        username=text(details.account_username),
        error_code=text(row.error_code),
        duration=micros(row.duration_ms, 1000),
        expires_at=millis(details.token_expires_at),
    )


def _activity(row: Row) -> LogEntry:
    created = millis(row.created_at)
    log_mark = mark(row.platform, row.account_id, row.action)
    return LogEntry(
        key=_key(row, created, log_mark, text(row.action)),
        status=text(row.status),
        created=created,
        platform=text(row.platform),
        action=text(row.action),
        duration=micros(row.duration_ms, 1000),
    )


def _project_activity(name: str, workspace: str, entry: LogEntry) -> Iterator[Increment]:
    """What a sighting of an activity log counts."""
    labels = (workspace, name, entry.platform, entry.action)
    yield IncCounter("late_activity_logs_total", (*labels, entry.status))
    if entry.duration is not None:
        yield ObserveHistogram("late_activity_duration_seconds", labels, micros=entry.duration)


def _feed(like: Feed, answer: Answer[Row]) -> Feed:
    """A feed that counts what another one does, from this list."""
    return msgspec.structs.replace(
        like,
        path="/v1/logs",
        query={"type": like.name},
        retention=RETENTION,
        parse=answer.parse,
        post_path=None,
        generation="zernio",
        supports_time_filter=True,
    )


def _activity_feed(name: str) -> Feed:
    return Feed(
        name=name,
        path="/v1/logs",
        query={"type": name},
        retention=RETENTION,
        parse=Answer(Row, _activity, number=_number, look=Sentinel(ZERNIO_LOGS).look).parse,
        project=partial(_project_activity, name),
        counter="late_activity_logs_total",
        counter_labels={"type": name},
        generation="zernio",
        supports_time_filter=True,
        has_pending=True,
    )


FEEDS: Mapping[str, Feed] = MappingProxyType(
    {
        feed.name: feed
        for feed in (
            _feed(publishing.FEED, Answer(Row, _publishing, number=_number, look=Sentinel(ZERNIO_LOGS).look)),
            _feed(connections.FEED, Answer(Row, _connection, number=_number, look=Sentinel(ZERNIO_LOGS).look)),
            *map(_activity_feed, ACTIVITIES),
        )
    }
)
