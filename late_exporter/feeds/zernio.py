"""Logs of generation ``zernio``, ``GET /v1/logs``: one list per type, with rows without ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import msgspec

from late_exporter.feeds import connections, decoder, publishing
from late_exporter.feeds.classification import find_action, find_event
from late_exporter.feeds.feed import Feed, LogView, RawLog
from late_exporter.feeds.schema import DocumentedObject, value_checker
from late_exporter.feeds.view import common_fields, row_text, search_json_text, without_unknown
from late_exporter.feeds.vocabulary import METHODS, STATUSES
from late_exporter.feeds.zernio_keys import number_entries, renumber_entries, row_key
from late_exporter.model import DAY_MS, FAILED, UNKNOWN, ZERNIO, LogEntry, LogKind
from late_exporter.series import IncCounter, Increment, ObserveLog

RETENTION = 90 * DAY_MS

API_REQUEST = "api_request"

ACTIVITIES = ("webhooks", "messaging", "workflow_event", API_REQUEST)
"""Log types without a counterpart in generation ``late``; each is a feed."""


OWN_USER_AGENT = "late-exporter/"
"""Start of the header User-Agent of this program's requests."""


class RowTexts(msgspec.Struct, rename="camel", gc=False):
    """The used fields of the undocumented JSON texts ``metadata`` and ``request_body``."""

    post_id: str | None = None
    account_username: str | None = None
    attempt_number: int | float | None = None
    connection_method: str | None = None
    token_expires_at: str | None = None
    profile_id: str | None = None
    scheduled_for: str | None = None


class ZernioRow(DocumentedObject, kw_only=True):
    """A log as sent by the API; bodies and ``metadata`` are JSON text."""

    type: str
    action: str
    user_id: str | None = None
    platform: str | None = None
    account_id: str | None = None
    status: str
    status_code: int | None = None
    error_message: str | None = None
    error_code: str | None = None
    duration_ms: int | float | None = None
    endpoint: str | None = None
    request_body: str | dict[str, Any] | None = None
    response_body: msgspec.Raw = msgspec.Raw()
    created_at: str
    metadata: str | None = None
    request_id: str | None = None
    api_key_id: str | None = None
    method: str | None = None  # these four are in rows of type api_request
    path: str | None = None
    ip_address: str | None = None
    user_agent: str | None = None
    profile_id: str | None = None  # implied by the parameter, so its spelling is unknown
    camel_profile_id: str | None = msgspec.field(default=None, name="profileId")


_publishing_values = value_checker({"action": find_action, "status": STATUSES.__contains__})
_connection_values = value_checker(
    {
        "action": find_event,
        "status": STATUSES.__contains__,
        "metadata.connectionMethod": METHODS.__contains__,
    }
)
_activity_values = value_checker({"status": STATUSES.__contains__})

_decode_texts = msgspec.json.Decoder(RowTexts).decode


def _read_texts(text: Any) -> RowTexts:
    """Parse a JSON text; if it is truncated or wrong, return the fields that can be read."""
    try:
        return _decode_texts(text or "{}")
    except (
        msgspec.DecodeError,
        UnicodeError,
        RecursionError,
        TypeError,
    ):  # TypeError if it is an object already
        values = {
            name: search_json_text({"text": text}, name, "text")
            for name in RowTexts.__struct_encode_fields__
        }
        number = values.pop("attemptNumber")
        members: dict[str, Any] = {name: value for name, value in values.items() if value}
        if number.isdecimal():
            members["attemptNumber"] = decoder.parse_integer(number)
        return msgspec.convert(members, RowTexts)


def _entry(
    row: ZernioRow,
    metadata: RowTexts,
    action: str,
    status: str,
    *,
    scheduled_for: str | None = None,
    **fields: Any,
) -> LogEntry:
    created = decoder.parse_millis(row.created_at)
    duration = decoder.to_micros(row.duration_ms, 1000)
    return LogEntry(
        key=row_key(row, created),
        status=status,
        created=created,
        platform=decoder.label_text(row.platform),
        action=action,
        error=decoder.error_text(row.error_message),
        duration=duration,
        delay=publishing.publishing_delay(scheduled_for, created, duration),
        # The API does not document the name of the field.
        profile_id=decoder.optional_text(
            row.profile_id or row.camel_profile_id or metadata.profile_id
        ),
        **fields,
    )


def _publishing(row: ZernioRow) -> LogEntry:
    metadata = _read_texts(row.metadata)
    name = decoder.label_text(row.action)
    row_status = decoder.label_text(row.status)
    action, status = find_action(name) or (name, UNKNOWN)
    if row.status:
        status = row_status
    attempt = decoder.to_micros(metadata.attempt_number, 1)
    if action == "publish" and attempt is not None and attempt > 1:
        action = "retry"
    published_body = row.request_body if publishing.is_published(action, status) else None
    return _entry(
        row,
        metadata,
        action,
        status,
        post_id=decoder.id_text(metadata.post_id) if metadata.post_id else None,
        account_id=decoder.optional_text(row.account_id),
        username=decoder.label_text(metadata.account_username),
        status_code=row.status_code,
        error_code=decoder.optional_text(row.error_code),
        attempt=attempt,
        scheduled_for=_read_texts(published_body).scheduled_for,
        deviations=_publishing_values(name, row_status),
    )


def _connection(row: ZernioRow) -> LogEntry:
    metadata = _read_texts(row.metadata)
    name = decoder.label_text(row.action)
    method = decoder.label_text(metadata.connection_method)
    event = find_event(name) or name
    if row.status == FAILED and not event.endswith("_failed"):
        event = f"{event.removesuffix('_success')}_failed"
    return _entry(
        row,
        metadata,
        event,
        event,
        method=method,
        account_id=decoder.optional_text(row.account_id),
        username=decoder.label_text(metadata.account_username),
        error_code=decoder.label_text(row.error_code),
        expires_at=decoder.parse_millis(metadata.token_expires_at),
        deviations=_connection_values(name, decoder.label_text(row.status), method),
    )


def _activity(row: ZernioRow) -> LogEntry:
    status = decoder.label_text(row.status)
    return _entry(
        row,
        _read_texts(row.metadata),
        decoder.label_text(row.action),
        status,
        account_id=decoder.optional_text(row.account_id),
        status_code=row.status_code,
        deviations=_activity_values(status),
    )


def _api_request(row: ZernioRow) -> LogEntry:
    entry = _activity(row)
    if row.user_agent and row.user_agent.startswith(OWN_USER_AGENT):
        # Numbered apart from equal logs of others, which must keep their ordinals.
        return msgspec.structs.replace(entry, key=f"{entry.key}~", is_own=True)
    return entry


def _post_url(row: RawLog, entry: LogEntry) -> str:
    """Return the link of a post, whose name differs between vendor and platforms."""
    if url := search_json_text(row, "platformPostUrl", "metadata", "response_body"):
        return url
    names = ("permalink", "url") if publishing.is_published(entry.action, entry.status) else ()
    return next(filter(None, (search_json_text(row, name, "response_body") for name in names)), "")


def _view(row: RawLog, entry: LogEntry) -> LogView:
    return LogView(
        **common_fields(row, entry, created_field="created_at", account_field="account_id"),
        action=entry.action,
        # Connection logs are counted by their event in place of a status.
        status=row_text(row, "status")
        if entry.rejection_reason or entry.status == entry.action
        else entry.status,
        method=without_unknown(entry.method),
        post_id=entry.post_id or search_json_text(row, "postId", "metadata", "request_body"),
        username=without_unknown(entry.username)
        or search_json_text(row, "accountUsername", "metadata", "response_body"),
        status_code=row_text(row, "status_code"),
        error_code=row_text(row, "error_code"),
        url=_post_url(row, entry),
        scheduled_for=search_json_text(row, "scheduledFor", "request_body"),
        caption=search_json_text(row, "contentPreview", "request_body")
        or search_json_text(row, "content", "request_body", "metadata"),
    )


def _project_activity(name: str, workspace: str, log: LogKind) -> Iterator[Increment]:
    labels = (workspace, name, log.platform, log.action)
    yield IncCounter(
        "late_activity_logs_total", (*labels, log.status, publishing.status_code_label(log))
    )
    if log.duration is not None:
        yield ObserveLog("late_activity_duration_seconds", labels, number="duration")


def _zernio_feed(feed: Feed, to_entry: Callable[[ZernioRow], LogEntry]) -> Feed:
    """Return a feed of generation ``zernio`` with the name and the metrics of another one."""
    parse = decoder.LogListDecoder(ZernioRow, to_entry, number_entries=number_entries).parse
    return msgspec.structs.replace(
        feed,
        path="/v1/logs",
        query={"type": feed.name},
        retention=RETENTION,
        # Their number includes those of this program, which are left out.
        parse=(lambda body: msgspec.structs.replace(parse(body), total=None))
        if feed.name == API_REQUEST
        else parse,
        view=_view,
        post_path=None,
        generation=ZERNIO,
        supports_time_filter=True,
        number_entries=renumber_entries,
    )


def _activity_feed(name: str) -> Feed:
    feed = msgspec.structs.replace(
        publishing.FEED,
        name=name,
        project=partial(_project_activity, name),
        counter="late_activity_logs_total",
        counter_labels={"type": name},
        subset_counters={},
    )
    return _zernio_feed(feed, _api_request if name == API_REQUEST else _activity)


FEEDS: Mapping[str, Feed] = MappingProxyType(
    {
        feed.name: feed
        for feed in (
            _zernio_feed(publishing.FEED, _publishing),
            _zernio_feed(connections.FEED, _connection),
            *map(_activity_feed, ACTIVITIES),
        )
    }
)
