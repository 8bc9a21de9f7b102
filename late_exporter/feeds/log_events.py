"""Log events: observations as lines of JSON, for systems that store logs."""

from __future__ import annotations

import msgspec

from late_exporter.feeds.decoder import ONE_ATTEMPT
from late_exporter.feeds.feed import LogView
from late_exporter.feeds.publishing import FEED, failure_category
from late_exporter.feeds.view import event_status, without_unknown
from late_exporter.format import iso_time
from late_exporter.model import FAILED, LogDetail, LogEntry, Scope


class LogEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A log event; fields without a value are left out.

    Args:
        id: Workspace, feed, key and status of the observation, which no other event has.
        time: Creation time of the log in ISO 8601.
        status: ``failed`` and ``success`` also for connections, whose events say so in their names.
        category: Failure category of a failed publishing log, as in the metrics.
    """

    id: str
    time: str = ""
    workspace: str
    feed: str
    platform: str
    action: str
    status: str
    category: str = ""
    status_code: int | None = None
    error_code: str = ""
    error: str = ""
    log_id: str = ""
    post_id: str = ""
    account_id: str = ""
    username: str = ""
    method: str = ""
    attempt: int | None = None
    duration_seconds: float | None = None
    url: str = ""
    caption: str = ""


def outcome(entry: LogEntry) -> str:
    """Return the status of a log, and ``failed`` or ``success`` for a connection event that says so."""
    return event_status(entry.status) or entry.status


def read_detail(view: LogView, *, captions: bool) -> LogDetail:
    detail = msgspec.convert(view, LogDetail, from_attributes=True)
    return detail if captions else msgspec.structs.replace(detail, caption="")


def encode_event(scope: Scope, entry: LogEntry, detail: LogDetail) -> bytes:
    """Return the event of an observation as JSON, without a line break."""
    is_failed_attempt = scope.feed == FEED.name and entry.status == FAILED
    event = LogEvent(
        id=f"{scope.workspace}/{scope.feed}/{entry.key}/{entry.status}",
        time="" if entry.created is None else iso_time(entry.created, precise=True),
        workspace=scope.workspace,
        feed=scope.feed,
        platform=entry.platform,
        action=entry.action,
        status=outcome(entry),
        category=failure_category(entry.kind) if is_failed_attempt else "",
        status_code=entry.status_code,
        error_code=without_unknown(entry.error_code),
        error=entry.error,
        log_id=detail.log_id,
        post_id=entry.post_id or detail.post_id,
        account_id=entry.account_id or detail.account_id,
        username=without_unknown(entry.username) or detail.username,
        method=without_unknown(entry.method),
        attempt=None if entry.attempt is None else entry.attempt // ONE_ATTEMPT,
        duration_seconds=None if entry.duration is None else entry.duration / 1_000_000,
        url=detail.url,
        caption=detail.caption,
    )
    return msgspec.json.encode(event)
