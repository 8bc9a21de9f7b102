"""The connection logs, ``GET /v1/connections/logs``: accounts that were connected, lost and connected again."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from late_exporter.feeds.decoder import UNKNOWN, Answer, Id, key, mark, micros, millis, text
from late_exporter.feeds.schema import LATE_CONNECTIONS, Sentinel
from late_exporter.model import Feed, IncCounter, Increment, LogEntry, ObserveHistogram, SetLatest

__all__ = ["FEED", "kind", "project"]

DAY = 86_400_000

CONNECTED = {
    "connect_success": 1,
    "reconnect_success": 1,
    "reconnect_failed": 0,
    "disconnect": 0,
}
"""What an event says of the account it names."""


class Failure(msgspec.Struct, gc=False):
    """Why an account could not be connected."""

    code: str | None = None


class Success(msgspec.Struct, rename="camel", gc=False):
    """What was connected."""

    username: str | None = None
    token_expires_at: str | None = None


class Row(msgspec.Struct, rename="camel", gc=False):
    """A connection log as the API writes it."""

    id: Id = msgspec.field(name="_id")
    platform: str | None = None
    account_id: str | None = None
    event_type: str | None = None
    connection_method: str | None = None
    error: Failure | None = None
    success: Success | None = None
    duration_ms: int | float | None = None
    created_at: str | None = None


def _entry(row: Row) -> LogEntry:
    event = text(row.event_type)
    success = row.success or Success()
    return LogEntry(
        key=key(row.id),
        status=event,
        created=millis(row.created_at),
        platform=text(row.platform),
        action=event,
        method=text(row.connection_method),
        account_id=text(row.account_id) if row.account_id else None,
        username=text(success.username),
        error_code=text(row.error.code if row.error else None),
        duration=micros(row.duration_ms, 1000),
        expires_at=millis(success.token_expires_at),
        fingerprint=mark(row.platform, row.account_id, kind(event)),
    )


def kind(event: str) -> str:
    """What an event is in both generations: zernio does not always tell that an account is connected again."""
    return event.removeprefix("re")


def project(workspace: str, entry: LogEntry) -> Iterator[Increment]:
    """What a connection log counts."""
    platform, event = (workspace, entry.platform), entry.action
    yield IncCounter("late_connection_events_total", (*platform, event, entry.method))
    if event.endswith("_failed"):
        yield IncCounter("late_connection_failures_total", (*platform, event, entry.error_code or UNKNOWN))
    if entry.duration is not None:
        yield ObserveHistogram("late_connection_duration_seconds", (*platform, event), micros=entry.duration)
    if entry.created is None:
        return
    seconds = entry.created / 1000
    yield SetLatest("late_connection_last_event_timestamp_seconds", (*platform, event), at=entry.created, value=seconds)
    if entry.account_id is not None:
        yield from _account((*platform, entry.account_id), entry, entry.created)


def _account(account: tuple[str, str, str], entry: LogEntry, at: int) -> Iterator[Increment]:
    if entry.username not in (None, UNKNOWN):
        yield SetLatest("late_account_info", account, at=at, value=entry.username)
    if entry.action in CONNECTED:
        yield SetLatest("late_account_connected", account, at=at, value=CONNECTED[entry.action])
    if entry.expires_at is not None:
        yield SetLatest("late_account_token_expiry_timestamp_seconds", account, at=at, value=entry.expires_at / 1000)


FEED = Feed(
    name="connections",
    path="/v1/connections/logs",
    retention=7 * DAY,
    parse=Answer(Row, _entry, look=Sentinel(LATE_CONNECTIONS).look).parse,
    project=project,
    counter="late_connection_events_total",
)
