"""Logs of generation ``zernio``, ``GET /v1/logs``: one list per type, with rows without ids.

A log is identified by its creation time, a digest of its immutable fields, and its ordinal among
the logs of its page that are alike and have the same status. The account is not in it, as it
vanishes if it is deleted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from types import MappingProxyType
from typing import Any

import msgspec

from late_exporter.feeds import connections, decoder, publishing
from late_exporter.feeds.feed import Feed, LogView, RawLog
from late_exporter.feeds.schema import DocumentedObject, value_checker
from late_exporter.feeds.view import common_fields, row_text, search_json_text, without_unknown
from late_exporter.feeds.vocabulary import ACTIONS_BY_NAME, EVENTS_BY_NAME, METHODS, STATUSES
from late_exporter.model import (
    DAY_MS,
    FAILED,
    ZERNIO,
    IncCounter,
    Increment,
    LogEntry,
    LogKind,
    LogPage,
    ObserveLog,
)

RETENTION = 90 * DAY_MS

API_REQUEST = "api_request"

ACTIVITIES = ("webhooks", "messaging", "workflow_event", API_REQUEST)
"""Log types without a counterpart in generation ``late``; each is a feed."""

OWN_USER_AGENT = "late-exporter/"
"""Start of the header User-Agent of this program's requests."""


class RowTexts(msgspec.Struct, rename="camel", gc=False):
    """The used fields of the JSON texts of a row, none of which is documented.

    The metadata has all but the last; the bodies, which come from the platform, some of them.
    """

    post_id: str | None = None
    account_username: str | None = None
    attempt_number: int | float | None = None
    connection_method: str | None = None
    token_expires_at: str | None = None
    scheduled_for: str | None = None
    platform_post_url: str | msgspec.UnsetType | None = msgspec.UNSET
    url: str | msgspec.UnsetType | None = msgspec.UNSET


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
    response_body: str | dict[str, Any] | None = None
    created_at: str
    metadata: str | None = None
    request_id: str | None = None
    api_key_id: str | None = None
    profile_id: str | None = None
    method: str | None = None  # this and what follows are in rows of type api_request
    path: str | None = None
    operation_id: str | None = None
    ip_address: str | None = None
    user_agent: str | None = None


_publishing_values = value_checker(
    {"action": ACTIONS_BY_NAME.__contains__, "status": STATUSES.__contains__}
)
_connection_values = value_checker(
    {
        "action": EVENTS_BY_NAME.__contains__,
        "status": STATUSES.__contains__,
        "metadata.connectionMethod": METHODS.__contains__,
    }
)
_activity_values = value_checker({"status": STATUSES.__contains__})

_decode_texts = msgspec.json.Decoder(RowTexts).decode


def _read_texts(text: Any) -> RowTexts:
    """Parse a JSON text; of one that is cut or odd, return the fields that can be read."""
    try:
        return _decode_texts(text or "{}")
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        pass
    except TypeError:
        pass  # It is an object already.

    members: dict[str, Any] = {}
    for name in RowTexts.__struct_encode_fields__:
        value = search_json_text({"text": text}, name, "text")
        if name == "attemptNumber":
            if value.isdecimal():
                members[name] = float(value)
        elif value:
            members[name] = value
    return msgspec.convert(members, RowTexts)


def _entry(
    row: ZernioRow,
    action: str,
    status: str,
    *,
    scheduled_for: str | None = None,
    **fields: Any,
) -> LogEntry:
    created = decoder.parse_millis(row.created_at)
    duration = decoder.to_micros(row.duration_ms, 1000)
    return LogEntry(
        key=_row_key(row, created),
        status=status,
        created=created,
        platform=decoder.label_text(row.platform),
        action=action,
        account_id=decoder.optional_text(row.account_id),
        profile_id=decoder.optional_text(row.profile_id),
        error=decoder.error_text(row.error_message),
        duration=duration,
        delay=publishing.publishing_delay(scheduled_for, created, duration),
        **fields,
    )


def _row_key(row: ZernioRow, created: int | None) -> str:
    """Return the key of a log, which sorts by time and still lacks the ordinal.

    Only fields as the API writes them identify a log, so that no later version of this program
    finds other keys, and only those that never change: a request body may appear with the final
    status.
    """
    texts = [value or "" for value in (row.platform, row.action, row.user_id, row.request_id)]
    text = "\0".join(texts).encode("utf-8", "replace")
    return f"{created or 0:013d}-{blake2b(text, digest_size=6).hexdigest()}"


def number_entries(entries: Sequence[LogEntry]) -> Sequence[LogEntry]:
    """Append the ordinals among alike logs to the keys of a page."""
    ordinals = Counter[tuple[str, str]]()
    numbered_entries = []
    for entry in entries:
        alike = (entry.key, entry.status)
        key = f"{entry.key}.{ordinals[alike]}"
        ordinals[alike] += 1
        numbered_entries.append(msgspec.structs.replace(entry, key=key))
    return numbered_entries


def renumber_entries(entries: Sequence[LogEntry]) -> Sequence[LogEntry]:
    """Return the entries of several pages with the ordinals that they would have on one."""
    return number_entries(
        [msgspec.structs.replace(entry, key=entry.key.rpartition(".")[0]) for entry in entries]
    )


def _publishing(row: ZernioRow) -> LogEntry:
    metadata = _read_texts(row.metadata)
    name = decoder.label_text(row.action)
    status = decoder.label_text(row.status)
    action = ACTIONS_BY_NAME.get(name, name)
    attempt = decoder.to_micros(metadata.attempt_number, 1)
    if action == "publish" and attempt is not None and attempt > 1:
        action = "retry"

    scheduled_for = None
    has_link = None
    if publishing.is_published(action, status):
        scheduled_for = _read_texts(row.request_body).scheduled_for
        has_link = _has_link(metadata, _read_texts(row.response_body))
    return _entry(
        row,
        action,
        status,
        scheduled_for=scheduled_for,
        post_id=decoder.id_text(metadata.post_id) if metadata.post_id else None,
        username=decoder.label_text(metadata.account_username),
        status_code=row.status_code,
        error_code=decoder.optional_text(row.error_code),
        attempt=attempt,
        has_link=has_link,
        deviations=_publishing_values(name, status),
    )


def _has_link(metadata: RowTexts, response: RowTexts) -> bool | None:
    """Return whether the link of a published post is not empty; None if no text has its field."""
    links = (metadata.platform_post_url, response.platform_post_url, response.url)
    known_links = [link for link in links if link is not msgspec.UNSET]
    return any(known_links) if known_links else None


def _connection(row: ZernioRow) -> LogEntry:
    metadata = _read_texts(row.metadata)
    name = decoder.label_text(row.action)
    method = decoder.label_text(metadata.connection_method)
    event = EVENTS_BY_NAME.get(name, name)
    if row.status == FAILED and not event.endswith("_failed"):
        event = f"{event.removesuffix('_success')}_failed"
    return _entry(
        row,
        event,
        event,
        method=method,
        username=decoder.label_text(metadata.account_username),
        error_code=decoder.label_text(row.error_code),
        expires_at=decoder.parse_millis(metadata.token_expires_at),
        deviations=_connection_values(name, decoder.label_text(row.status), method),
    )


def _activity(row: ZernioRow) -> LogEntry:
    status = decoder.label_text(row.status)
    return _entry(
        row,
        decoder.label_text(row.action),
        status,
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
    """Return the link of a post; its name varies with who wrote the body."""
    url = search_json_text(row, "platformPostUrl", "metadata", "response_body")
    if not url and publishing.is_published(entry.action, entry.status):
        url = search_json_text(row, "permalink", "response_body")
        url = url or search_json_text(row, "url", "response_body")
    return url


def _view(row: RawLog, entry: LogEntry) -> LogView:
    status = entry.status
    if entry.rejection_reason or entry.status == entry.action:
        status = row_text(row, "status")  # Connection logs are counted by their event instead.
    username = without_unknown(entry.username)
    caption = search_json_text(row, "contentPreview", "request_body")
    return LogView(
        **common_fields(row, entry, created_field="created_at", account_field="account_id"),
        action=entry.action,
        status=status,
        method=without_unknown(entry.method),
        post_id=entry.post_id or search_json_text(row, "postId", "metadata", "request_body"),
        username=username or search_json_text(row, "accountUsername", "metadata", "response_body"),
        status_code=row_text(row, "status_code"),
        error_code=row_text(row, "error_code"),
        url=_post_url(row, entry),
        scheduled_for=search_json_text(row, "scheduledFor", "request_body"),
        caption=caption or search_json_text(row, "content", "request_body", "metadata"),
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

    def parse_requests(body: bytes) -> LogPage:
        # Their number includes those of this program, which are left out.
        return msgspec.structs.replace(parse(body), total=None)

    return msgspec.structs.replace(
        feed,
        path="/v1/logs",
        query={"type": feed.name},
        retention=RETENTION,
        parse=parse_requests if feed.name == API_REQUEST else parse,
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
