"""From the bytes of an answer to rows, whatever the bytes: one odd row never costs the other ones."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Generic, TypeAlias, TypeVar

import msgspec

from late_exporter.errors import BadPayload
from late_exporter.model import Deviation, LogEntry, LogPage

__all__ = [
    "UNKNOWN",
    "Id",
    "LogListDecoder",
    "fingerprint",
    "format_millis",
    "label_text",
    "log_key",
    "parse_millis",
    "raw_rows",
    "to_micros",
]

UNKNOWN = "unknown"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LABEL_LENGTH = 128
KEY_LENGTH = 128
MAX_MICROS = 10**15
"""Durations end here, in microseconds: 31 years."""

CONTROL_CHARACTERS = re.compile(r"[\0-\x08\x0b-\x1f\x7f-\x9f]")
"""Control characters, except for the ends of lines, which are escaped where metrics are written, and tabs."""

CACHED_PAGES = 4
MAX_CACHED_BYTES = 2**18
"""How many recent answers are remembered, and how large they may be."""

Id: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]
"""A usable id."""

MAX_DIGITS = 1000
"""Longest integer that is kept as one when a log is shown."""

RowT = TypeVar("RowT", bound=msgspec.Struct)


class Pagination(msgspec.Struct):
    """What an answer says of the whole list."""

    total: int | None = None
    has_more: bool | None = msgspec.field(default=None, name="hasMore")


class LogListDecoder(Generic[RowT]):
    """Reads answers of one log list.

    Answers that hold what is documented are decoded in one typed pass; all others row by row and field by field,
    where a field of another type than documented counts as missing.

    Args:
        row: The fields of a row that are used; ``id`` is the only one that is required, where there is one.
        entry: From a row to what is counted.
        number: Gives the logs of a page that have no id keys of their own; None: they all have one.
        look: From an answer to what of each row is not as documented; may be empty where all is.
    """

    def __init__(
        self,
        row_type: type[RowT],
        to_entry: Callable[[RowT], LogEntry],
        *,
        number_entries: Callable[[Sequence[LogEntry]], Sequence[LogEntry]] | None = None,
        check_schema: Callable[[bytes], Sequence[tuple[Deviation, ...]]] | None = None,
    ) -> None:
        self._row_type = row_type
        self._to_entry = to_entry
        self._number_entries = number_entries
        self._check_schema = check_schema
        self._fields = {field.encode_name: field for field in msgspec.structs.fields(row_type)}
        envelope = msgspec.defstruct("Envelope", [("logs", list[row_type]), ("pagination", Pagination | None, None)])  # type: ignore[valid-type]
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(envelope)
        self._page_cache: dict[bytes, LogPage] = {}

    def parse(self, body: bytes) -> LogPage:
        """The page that an answer holds; raises BadPayload where it is no log list.

        An answer that repeats a recent one, as the first page does while nothing is new, is not decoded again.
        """
        page = self._page_cache.get(body)
        if page is None:
            page = self._with_deviations(self._decode(body), body)
            if len(body) < MAX_CACHED_BYTES:
                self._page_cache[body] = page
            if len(self._page_cache) > CACHED_PAGES:
                self._page_cache.pop(next(iter(self._page_cache)))
        return page

    def _with_deviations(self, page: LogPage, body: bytes) -> LogPage:
        deviations_by_row = self._check_schema(body) if self._check_schema else ()
        if len(deviations_by_row) != len(page.entries):
            return page
        pairs = zip(page.entries, deviations_by_row, strict=True)
        entries = tuple(
            msgspec.structs.replace(entry, deviations=deviations) if deviations else entry
            for entry, deviations in pairs
        )
        return msgspec.structs.replace(page, entries=entries)

    def _decode(self, body: bytes) -> LogPage:
        try:
            answer = self._decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            try:
                return self._decode_leniently(body)
            except RecursionError as exc:
                raise BadPayload("the answer nests too deeply") from exc
        return self._page([self._to_entry(row) for row in answer.logs], answer.pagination or Pagination())

    def _decode_leniently(self, body: bytes) -> LogPage:
        answer = _loads(body, _integer)
        entries = [self._lenient_entry(row) for row in _rows(answer)]
        return self._page(entries, _lenient_pagination(answer.get("pagination")))

    def _page(self, entries: list[LogEntry], pagination: Pagination) -> LogPage:
        total = pagination.total if pagination.total is not None and pagination.total >= 0 else None
        if self._number_entries is None:
            return LogPage(tuple(entries), total, pagination.has_more)
        return LogPage(tuple(self._number_entries(entries)), total, pagination.has_more, without_ids=True)

    def _lenient_entry(self, row: object) -> LogEntry:
        if not isinstance(row, dict):
            return _rejected_entry(row, "not_an_object")
        if self._number_entries is None and (not isinstance(row.get("_id"), str) or not row["_id"]):
            return _rejected_entry(row, "no_id")
        values = {}
        for name, field in self._fields.items():
            try:
                values[field.name] = msgspec.convert(row[name], field.type)
            except (KeyError, msgspec.ValidationError, ValueError):
                continue
        return self._to_entry(self._row_type(**values))


def raw_rows(body: bytes) -> Sequence[Any]:
    """Return the rows of a page with all their fields, one per entry; raises BadPayload."""
    try:
        return _rows(_loads(body, _exact_integer))
    except RecursionError as exc:
        raise BadPayload("the answer nests too deeply") from exc


def _rows(answer: Mapping[str, Any]) -> Sequence[Any]:
    logs = answer.get("logs")
    if not isinstance(logs, list):
        raise BadPayload(f"the answer has no list of logs: logs is {_json_kind(logs)}")
    return logs


def _loads(body: bytes, parse_int: Callable[[str], int | float]) -> Mapping[str, Any]:
    try:
        answer = json.loads(body.decode("utf-8", "replace"), parse_int=parse_int)
    except ValueError as exc:
        raise BadPayload(f"the answer is not JSON: {_excerpt(body)}") from exc
    if not isinstance(answer, dict):
        raise BadPayload(f"the answer is {_json_kind(answer)}, not an object")
    return answer


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) < 20 else float(digits)  # noqa: PLR2004 - digits of 64 bits


def _exact_integer(digits: str) -> int | float:
    # Python refuses to convert a number of some thousand digits.
    return int(digits) if len(digits) <= MAX_DIGITS else float(digits)


def _lenient_pagination(value: object) -> Pagination:
    if not isinstance(value, dict):
        return Pagination()
    total, more = value.get("total"), value.get("hasMore")
    return Pagination(
        total=total if isinstance(total, int) and not isinstance(total, bool) else None,
        has_more=more if isinstance(more, bool) else None,
    )


def _rejected_entry(row: object, reason: str) -> LogEntry:
    written = json.dumps(row, sort_keys=True).encode()
    created = row.get("createdAt") if isinstance(row, dict) else None
    return LogEntry(
        key=f"!{hashlib.sha256(written).hexdigest()}",
        status="rejected",
        created=parse_millis(created) if isinstance(created, str) else None,
        rejection_reason=reason,
    )


def _excerpt(body: bytes) -> str:
    start = body[:60].decode("utf-8", "replace").split("\n", 1)[0].strip()
    return f"it begins with {start!r}" if start else "it is empty"


def _json_kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null or missing"}
    return names.get(type(value), "a number")


def label_text(value: str | None, limit: int = LABEL_LENGTH) -> str:
    """A text of a stranger as a label value: valid Unicode, cut, ``unknown`` where empty.

    Whoever looks at the metrics in a terminal is not to have it steered.
    """
    if not value:
        return UNKNOWN
    if value.isascii():
        cut = value[:limit]
    else:
        cut = value[:limit].encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return cut if cut.isprintable() else CONTROL_CHARACTERS.sub("\ufffd", cut)


def log_key(value: str) -> str:
    """A log's ``_id`` as the state keeps it: itself, or a digest where it is absurdly long."""
    if value.isascii() and len(value) <= KEY_LENGTH:
        return value
    written = value.encode("utf-8", "backslashreplace")
    if len(written) <= KEY_LENGTH:
        return written.decode()
    return f"#{hashlib.sha256(written).hexdigest()}"


def fingerprint(*values: object) -> str:
    """What a log has in common with itself in the other generation of the API, in 12 hexadecimal digits."""
    joined = "\0".join("" if fact is None else str(fact) for fact in values).encode("utf-8", "replace")
    return hashlib.blake2b(joined, digest_size=6).hexdigest()


def parse_millis(value: str | None) -> int | None:
    """An ISO 8601 time in milliseconds since the Unix epoch, UTC where it names no zone; None where it is none."""
    if not value:
        return None
    try:
        parsed_time = datetime.fromisoformat(value)
        aware_time = parsed_time if parsed_time.tzinfo else parsed_time.replace(tzinfo=UTC)
        return math.floor(aware_time.timestamp() * 1000 + 0.5)
    except (ValueError, OverflowError):
        return None


def format_millis(millis: int) -> str:
    """Milliseconds since the Unix epoch as ISO 8601 in UTC; the nearest one that the calendar has."""
    try:
        time = EPOCH + timedelta(milliseconds=millis)
    except OverflowError:
        time = datetime.min.replace(tzinfo=UTC) if millis < 0 else datetime.max.replace(tzinfo=UTC)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def to_micros(value: float | None, scale: int) -> int | None:
    """A number >= 0 times a scale as an integer, at most 31 years; None where it is not finite or negative."""
    if value is None or not math.isfinite(value) or value < 0:
        return None
    return min(int(value) * scale if isinstance(value, int) else round(min(value, MAX_MICROS) * scale), MAX_MICROS)
