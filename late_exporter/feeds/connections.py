"""Connection logs, ``GET /v1/connections/logs``: connected and disconnected accounts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from late_exporter.feeds import decoder
from late_exporter.feeds.feed import Feed
from late_exporter.feeds.schema import DocumentedObject, value_checker
from late_exporter.feeds.view import log_view
from late_exporter.feeds.vocabulary import EVENTS, METHODS
from late_exporter.model import (
    DAY_MS,
    UNKNOWN,
    IncCounter,
    Increment,
    LogEntry,
    LogKind,
    ObserveLog,
    SetByLog,
)

CONNECTED_AFTER = {
    "connect_success": 1,
    "reconnect_success": 1,
    "reconnect_failed": 0,
    "disconnect": 0,
}
"""Value of ``late_account_connected`` after an event."""


class ConnectionFailure(DocumentedObject):
    """The reason why a connection failed."""

    code: str | None = None
    message: str | None = None
    raw_response: msgspec.Raw = msgspec.field(default=msgspec.Raw(), name="rawResponse")


class ConnectedAccount(DocumentedObject, rename="camel"):
    """The account that was connected."""

    display_name: str | None = None
    username: str | None = None
    profile_picture: str | None = None
    permissions: list[Any] | None = None
    token_expires_at: str | None = None
    account_type: str | None = None


class ConnectionContext(DocumentedObject, rename="camel"):
    """The circumstances of a connection."""

    is_headless_mode: bool | None = None
    has_custom_redirect_url: bool | None = None
    is_reconnection: bool | None = None
    is_byok: bool | None = msgspec.field(default=None, name="isBYOK")
    invitation_token: msgspec.Raw = msgspec.Raw()  # these two are only in late-sdk 1.2.60
    connect_token: msgspec.Raw = msgspec.Raw()


class ConnectionRow(DocumentedObject, rename="camel", kw_only=True):
    """A connection log as sent by the API."""

    id: decoder.Id = msgspec.field(name="_id")
    user_id: str | None = None
    profile_id: str | None = None
    account_id: str | None = None
    platform: str
    event_type: str
    connection_method: str | None = None
    error: ConnectionFailure | None = None
    success: ConnectedAccount | None = None
    context: ConnectionContext | None = None
    duration_ms: int | float | None = None
    metadata: msgspec.Raw = msgspec.Raw()
    created_at: str


_check_values = value_checker(
    {"eventType": EVENTS.__contains__, "connectionMethod": METHODS.__contains__}
)


def _entry(row: ConnectionRow) -> LogEntry:
    event = decoder.label_text(row.event_type)
    method = decoder.label_text(row.connection_method)
    success = row.success or ConnectedAccount()
    failure = row.error or ConnectionFailure()
    return LogEntry(
        key=decoder.log_key(row.id),
        status=event,
        created=decoder.parse_millis(row.created_at),
        platform=decoder.label_text(row.platform),
        action=event,
        method=method,
        account_id=decoder.optional_text(row.account_id),
        username=decoder.label_text(success.username),
        profile_id=decoder.optional_text(row.profile_id),
        error_code=decoder.label_text(failure.code),
        error=decoder.error_text(failure.message),
        duration=decoder.to_micros(row.duration_ms, 1000),
        expires_at=decoder.parse_millis(success.token_expires_at),
        deviations=_check_values(event, method),
    )


def project(workspace: str, log: LogKind) -> Iterator[Increment]:
    platform = (workspace, log.platform)
    event = log.action
    yield IncCounter("late_connection_events_total", (*platform, event, log.method))
    if event.endswith("_failed"):
        yield IncCounter(
            "late_connection_failures_total", (*platform, event, log.error_code or UNKNOWN)
        )
    if log.duration is not None:
        yield ObserveLog("late_connection_duration_seconds", (*platform, event), number="duration")
    yield SetByLog("late_connection_last_event_timestamp_seconds", (*platform, event))
    if log.account_id is not None:
        yield from _account((*platform, log.account_id), log)


def _account(account: tuple[str, str, str], log: LogKind) -> Iterator[Increment]:
    if log.username is not None and log.username != UNKNOWN:
        names = (log.username, log.profile_id or UNKNOWN)
        yield SetByLog("late_account_info", account, value=names)
    if log.action in CONNECTED_AFTER:
        yield SetByLog("late_account_connected", account, value=CONNECTED_AFTER[log.action])
    if log.expires_at is not None:
        yield SetByLog(
            "late_account_token_expiry_timestamp_seconds", account, value=log.expires_at / 1000
        )


FEED = Feed(
    name="connections",
    path="/v1/connections/logs",
    retention=7 * DAY_MS,
    parse=decoder.LogListDecoder(ConnectionRow, _entry).parse,
    view=log_view,
    project=project,
    counter="late_connection_events_total",
)
