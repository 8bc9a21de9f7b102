"""Decode responses of log lists; a malformed row or field never affects the other rows."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any, Generic, TypeAlias, TypeVar

import msgspec

from late_exporter.errors import BadPayload, ResponseTooLarge
from late_exporter.feeds.schema import JSON_TYPES, DocumentedObject, DocumentReader, mask_addresses
from late_exporter.masking import mask_keys
from late_exporter.model import PAGE_SIZE, REJECTED, UNKNOWN, Deviation, LogEntry, LogPage

LABEL_LENGTH = 128
KEY_LENGTH = 128

TEXT_LENGTH = 1000
"""Length at which texts for people are truncated, except in JSON output."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
MIN_MILLIS = 946_684_800_000
"""The beginning of the year 2000 in milliseconds."""

MAX_MICROS = 10**15
"""Upper bound of durations, about 31 years in microseconds."""

SMALL_NUMBER = 10**9
"""Integer below which no scale exceeds MAX_MICROS; nearly all are."""

MAX_TIME_LENGTH = 64
"""Length of a text from which it is no time, and would only be repeated in an error message."""

UNSAFE_CHARACTERS = re.compile(
    r"[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\U000e0001-\U000e007f]"
)
"""Control characters, and characters that are invisible or change the direction of text.

Tabs and newlines are not among them, as the exposition format escapes these, nor the joiners of
emoji and scripts.
"""

CACHED_TEXTS = 4096

MAX_DIGITS = 4300
"""Digits of the longest integer that msgspec and Python read."""

CACHED_PAGES = 4
MAX_CACHED_BYTES = 2**18

Id: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]
"""An id that is not empty."""

RowT = TypeVar("RowT", bound=DocumentedObject)


class Pagination(DocumentedObject):
    """The position of a page in its list."""

    total: int | None = None
    limit: int | None = None
    skip: int | None = None
    pages: int | None = None
    has_more: bool | None = msgspec.field(default=None, name="hasMore")

    def announces_more(self, row_count: int) -> bool | None:
        """Return whether rows follow a page; None if the API does not say so.

        An empty page ends a list in any case, so in doubt more rows are expected.
        """
        if self.total is not None and self.skip is not None:
            if self.skip + row_count < self.total:
                return True
            # A total that is too small must not end the list.
        elif self.has_more is None and self.limit is not None and 0 < self.limit <= row_count:
            return True  # The API may return fewer rows than requested.
        return self.has_more


class Envelope(DocumentedObject):
    """A response of a list, or of the logs of one post."""

    logs: list[Any] | None = None
    pagination: Pagination | None = None
    count: int | None = None
    post_id: str | None = msgspec.field(default=None, name="postId")


class LogListDecoder(Generic[RowT]):
    """Decoder of the responses of one log list.

    A response without deviations from the documentation is decoded in one typed pass. Any other one
    is read field by field, and a field of the wrong type counts as missing.

    Args:
        row_type: Rows with their documented fields.
        number_entries: Assigns keys to the logs of a page that have no ids; None if all have ids.
    """

    def __init__(
        self,
        row_type: type[RowT],
        to_entry: Callable[[RowT], LogEntry],
        *,
        number_entries: Callable[[Sequence[LogEntry]], Sequence[LogEntry]] | None = None,
    ) -> None:
        self._row_type = row_type
        self._to_entry = to_entry
        self._number_entries = number_entries
        logs = ("logs", list[row_type])  # type: ignore[valid-type]
        envelope = msgspec.defstruct("DocumentedPage", [logs], bases=(Envelope,), kw_only=True)
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(envelope).decode
        self._reader = DocumentReader()
        self._recent_pages: deque[tuple[bytes, LogPage]] = deque(maxlen=CACHED_PAGES)

    def parse(self, body: bytes) -> LogPage:
        """Return the page in a response body.

        Rows beyond the requested 100 are ignored. Recent pages are cached, because the first page
        does not change while nothing is new.

        Raises:
            ResponseTooLarge: It is nested so deeply that no parser reads it.
            BadPayload: It is not a log list.
        """
        body = body.replace(rb"\u0000", rb"\ufffd")  # PostgreSQL has no text with a zero byte.
        for recent_body, page in self._recent_pages:
            if recent_body == body:  # Other bodies differ early, so this costs less than a hash.
                return page
        try:
            page = self._documented_page(body) or self._deviating_page(body)
        except RecursionError:
            raise ResponseTooLarge("the response is nested too deeply") from None
        if len(body) < MAX_CACHED_BYTES:
            self._recent_pages.append((body, page))
        return page

    def _documented_page(self, body: bytes) -> LogPage | None:
        """Return the page in a response without deviations; None if it has some."""
        try:
            response = self._decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        entries = [self._to_entry(row) for row in response.logs[:PAGE_SIZE]]
        return self._page(entries, response.pagination)

    def _deviating_page(self, body: bytes) -> LogPage:
        response = load_object(body)
        rows = _rows(response)
        deviations: dict[Deviation, None] = {}
        pagination = self._reader.read(response, Envelope, deviations).pagination
        if Deviation("pagination.total", "type", "string") in deviations:
            raise BadPayload("pagination.total is text, not a number")
        entries = [self._read_row(row, dict(deviations)) for row in rows]
        return self._page(entries, pagination)

    def _read_row(self, row: object, deviations: dict[Deviation, None]) -> LogEntry:
        """Return the entry of a row, with the deviations of the response and its own."""
        if isinstance(row, dict):
            entry = self._to_entry(self._reader.read(row, self._row_type, deviations))
            if not entry.key:
                entry = msgspec.structs.replace(
                    entry, key=_row_digest(row), status=REJECTED, rejection_reason="no_id"
                )
        else:
            entry = LogEntry(
                key=_row_digest(row), status=REJECTED, rejection_reason="not_an_object"
            )
        return msgspec.structs.replace(entry, deviations=(*deviations, *entry.deviations))

    def _page(self, entries: list[LogEntry], pagination: Pagination | None) -> LogPage:
        pagination = pagination or Pagination()
        total = pagination.total
        if total is not None and total < 0:
            total = None

        numbered = entries if self._number_entries is None else self._number_entries(entries)
        return LogPage(
            tuple(map(_reject_undated, numbered)),
            total=total,
            has_more=pagination.announces_more(len(entries)),
            without_ids=self._number_entries is not None,
        )


def raw_rows(body: bytes) -> Sequence[Any]:
    """Return the rows of a parsed page with all their fields, one per entry; raises BadPayload."""
    return _rows(load_object(body))


def _rows(response: Mapping[str, Any]) -> Sequence[Any]:
    logs = response.get("logs")
    if not isinstance(logs, list):
        kind = JSON_TYPES[type(logs)]
        raise BadPayload(f"the response has no list of logs: logs has the type {kind}")
    return logs[:PAGE_SIZE]


def load_object(body: bytes) -> Mapping[str, Any]:
    """Return the object in a JSON text, however it is encoded; raise BadPayload if there is none.

    RecursionError is raised if it is nested too deeply.
    """
    try:
        response = json.loads(body.decode("utf-8", "replace"), parse_int=_parse_integer)
    except ValueError as exc:
        start = body[:60].decode("utf-8", "replace").split("\n", 1)[0].strip()
        excerpt = f"it begins with {mask_addresses(start)!r}" if start else "it is empty"
        raise BadPayload(f"the response is not JSON: {excerpt}") from exc
    if not isinstance(response, dict):
        raise BadPayload(f"the response is not an object, but {JSON_TYPES[type(response)]}")
    return response


def _parse_integer(digits: str) -> int | float:
    """Return an integer of JSON; infinity if it has more digits than msgspec reads."""
    return int(digits) if len(digits.lstrip("-")) <= MAX_DIGITS else float(digits)


def _row_digest(row: object) -> str:
    """Return the key of a row without one, so that it is rejected once."""
    return f"!{hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()}"


def _reject_undated(entry: LogEntry) -> LogEntry:
    """Reject a log without a usable creation time: it could not be found again, nor expire."""
    if entry.created is not None or entry.rejection_reason:
        return entry
    return msgspec.structs.replace(entry, status=REJECTED, rejection_reason="no_time")


def label_text(value: str | None, limit: int = LABEL_LENGTH) -> str:
    """Return an untrusted text as a label value: valid Unicode, truncated, ``unknown`` if empty.

    Control, invisible and direction characters are replaced, because metrics are printed in
    terminals and shown in dashboards. API keys are masked, because an API may echo the key
    anywhere.
    """
    return _cached_text(value[:limit]) if value else UNKNOWN


def id_text(value: str, limit: int = LABEL_LENGTH) -> str:
    """Return an untrusted id as ``label_text`` does; not cached, because few logs share one."""
    return _clean_text(value[:limit])


def error_text(value: str | None) -> str:
    """Return an untrusted error message, truncated; empty if there is none."""
    return id_text(value, TEXT_LENGTH) if value else ""


def _clean_text(text: str) -> str:
    if not text.isascii():
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if not text.isprintable():
        text = UNSAFE_CHARACTERS.sub("\ufffd", text)
    return mask_keys(text)


_cached_text = lru_cache(CACHED_TEXTS)(_clean_text)


def optional_text(value: str | None) -> str | None:
    """Return an untrusted text as a label value; None if empty."""
    return label_text(value) if value else None


def log_key(value: str) -> str:
    """Return the key of a log: its id, or a digest if that is long or looks like an API key."""
    encoded = value.encode("utf-8", "backslashreplace")
    if len(encoded) <= KEY_LENGTH and mask_keys(value) == value:
        return encoded.decode()
    return f"#{hashlib.sha256(encoded).hexdigest()}"


def parse_millis(value: str | None) -> int | None:
    """Parse an ISO 8601 time, by default in UTC, into milliseconds since the Unix epoch.

    Return None if it is invalid, or before the year 2000: such a time stands for a missing one.
    """
    if not value or len(value) > MAX_TIME_LENGTH:
        return None
    try:
        parsed_time = datetime.fromisoformat(value)
        aware_time = parsed_time if parsed_time.tzinfo else parsed_time.replace(tzinfo=UTC)
        millis = (aware_time - EPOCH) // MILLISECOND  # truncated, as by JavaScript
    except (ValueError, OverflowError):
        return None
    return millis if millis >= MIN_MILLIS else None


def to_micros(value: float | None, scale: int) -> int | None:
    """Return a scaled number as an integer up to MAX_MICROS; None if negative or not finite."""
    if type(value) is int and 0 <= value < SMALL_NUMBER:
        return value * scale
    # math.isfinite() raises for integers above the range of floats.
    if value is None or not 0 <= value < math.inf:
        return None
    return min(round(min(value, MAX_MICROS) * scale), MAX_MICROS)
