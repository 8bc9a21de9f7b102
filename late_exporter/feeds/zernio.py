"""Logs of generation ``zernio``, ``GET /v1/logs``: one list per type, with rows without ids.

A log is identified by its creation time, a digest of its immutable fields, and its ordinal among
the logs of its page that are alike and have the same status. The account is not in it, as it
vanishes if it is deleted.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from types import MappingProxyType
from typing import Any

import msgspec

from late_exporter.feeds import connections, decoder, publishing
from late_exporter.feeds.feed import Feed, LogView, RawLog
from late_exporter.feeds.schema import DocumentedObject, value_checker
from late_exporter.feeds.view import log_view, row_text
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

SEARCHED_LENGTH = 64 * 1024
"""Length up to which the JSON text of a field is searched."""

OWN_USER_AGENT = "late-exporter/"
"""Start of the header User-Agent of this program's requests."""


class RowTexts(msgspec.Struct, rename="camel", gc=False):
    """The used fields of the JSON texts of a row, none of which is documented.

    The metadata has the first ones, the body of the request or of the platform's response the last.
    """

    post_id: str | None = None
    account_username: str | None = None
    attempt_number: int | float | None = None
    connection_method: str | None = None
    token_expires_at: str | None = None
    scheduled_for: str | None = None
    content_preview: Any = None
    content: Any = None
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

_decode_member = json.JSONDecoder(strict=False).decode
_decode_texts = msgspec.json.Decoder(RowTexts).decode


def _read_texts(text: Any) -> RowTexts:
    """Parse a JSON text; of one that is cut or odd, return the texts that can be read."""
    try:
        return _decode_texts(text or "{}")
    except (msgspec.DecodeError, UnicodeError, RecursionError, TypeError):
        pass  # A TypeError if it is an object already.

    members = {}
    for name in RowTexts.__struct_encode_fields__:
        value = _search_member(text, name)
        if value and name != "attemptNumber":
            members[name] = value
    return msgspec.convert(members, RowTexts)


def _search_member(text: Any, name: str) -> str:
    """Return a member of an object, or of a JSON text that may be cut anywhere; empty if none."""
    if isinstance(text, dict):
        return row_text(text, name)
    if isinstance(text, str):
        # Possessive, because a text that is cut may have any number of characters after its last
        # quote.
        pattern = rf'"{name}"\s*+:\s*+("[^"\\]*+(?:\\.[^"\\]*+)*+")'
        for match in re.finditer(pattern, text[:SEARCHED_LENGTH]):
            with suppress(ValueError):
                return row_text({name: _decode_member(match[1])}, name)
    return ""


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
        links = _links(metadata, _read_texts(row.response_body))
        has_link = any(links) if links else None
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


def _links(metadata: RowTexts, response: RowTexts) -> list[str | None]:
    """Return the links of a published post, some of which may be empty, by the texts that have one.

    The name of the field varies with who wrote the text.
    """
    links = (metadata.platform_post_url, response.platform_post_url, response.url)
    return [link for link in links if link is not msgspec.UNSET]


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


def _view(row: RawLog, entry: LogEntry) -> LogView:
    request = _read_texts(row.get("request_body"))
    link = None
    if publishing.is_published(entry.action, entry.status):
        metadata = _read_texts(row.get("metadata"))
        link = next(filter(None, _links(metadata, _read_texts(row.get("response_body")))), None)
    return msgspec.structs.replace(
        log_view(row, entry),
        post_id=entry.post_id or decoder.error_text(request.post_id),
        url=decoder.error_text(link),
        scheduled_for=decoder.error_text(request.scheduled_for),
        caption=_text(request.content_preview) or _text(request.content),
    )


def _text(value: object) -> str:
    return decoder.error_text(value) if isinstance(value, str) else ""


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
