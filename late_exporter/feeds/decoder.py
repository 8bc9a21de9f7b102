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

__all__ = ["UNKNOWN", "Answer", "Id", "key", "mark", "micros", "millis", "moment", "text"]

UNKNOWN = "unknown"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LABEL_LENGTH = 128
KEY_LENGTH = 128
ABSURD = 10**15
"""Durations end here, in microseconds: 31 years."""

STEERING = re.compile(r"[\0-\x08\x0b-\x1f\x7f-\x9f]")
"""Control characters, except for the ends of lines, which are escaped where metrics are written, and tabs."""

REMEMBERED = 4
REMEMBERED_SIZE = 2**18
"""How many recent answers are remembered, and how large they may be."""

Id: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]
"""A usable id."""

RowT = TypeVar("RowT", bound=msgspec.Struct)


class Pagination(msgspec.Struct):
    """What an answer says of the whole list."""

    total: int | None = None
    has_more: bool | None = msgspec.field(default=None, name="hasMore")


class Answer(Generic[RowT]):
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
        row: type[RowT],
        entry: Callable[[RowT], LogEntry],
        *,
        number: Callable[[Sequence[LogEntry]], Sequence[LogEntry]] | None = None,
        look: Callable[[bytes], Sequence[tuple[Deviation, ...]]] | None = None,
    ) -> None:
        self._row = row
        self._entry = entry
        self._number = number
        self._look = look
        self._fields = {field.encode_name: field for field in msgspec.structs.fields(row)}
        envelope = msgspec.defstruct("Envelope", [("logs", list[row]), ("pagination", Pagination | None, None)])  # type: ignore[valid-type]
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(envelope)
        self._recent: dict[bytes, LogPage] = {}

    def parse(self, body: bytes) -> LogPage:
        """The page that an answer holds; raises BadPayload where it is no log list.

        An answer that repeats a recent one, as the first page does while nothing is new, is not decoded again.
        """
        page = self._recent.get(body)
        if page is None:
            page = self._watched(self._decode(body), body)
            if len(body) < REMEMBERED_SIZE:
                self._recent[body] = page
            if len(self._recent) > REMEMBERED:
                self._recent.pop(next(iter(self._recent)))
        return page

    def _watched(self, page: LogPage, body: bytes) -> LogPage:
        found = self._look(body) if self._look else ()
        if len(found) != len(page.entries):
            return page
        pairs = zip(page.entries, found, strict=True)
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
                return self._salvage(body)
            except RecursionError as exc:
                raise BadPayload("the answer nests too deeply") from exc
        return self._page([self._entry(row) for row in answer.logs], answer.pagination or Pagination())

    def _salvage(self, body: bytes) -> LogPage:
        answer = _loads(body)
        logs = answer.get("logs")
        if not isinstance(logs, list):
            raise BadPayload(f"the answer has no list of logs: logs is {_kind(logs)}")
        return self._page([self._lenient(row) for row in logs], _lenient_pagination(answer.get("pagination")))

    def _page(self, entries: list[LogEntry], pagination: Pagination) -> LogPage:
        total = pagination.total if pagination.total is not None and pagination.total >= 0 else None
        if self._number is None:
            return LogPage(tuple(entries), total, pagination.has_more)
        return LogPage(tuple(self._number(entries)), total, pagination.has_more, without_ids=True)

    def _lenient(self, row: object) -> LogEntry:
        if not isinstance(row, dict):
            return _refused(row, "not_an_object")
        if self._number is None and (not isinstance(row.get("_id"), str) or not row["_id"]):
            return _refused(row, "no_id")
        values = {}
        for name, field in self._fields.items():
            try:
                values[field.name] = msgspec.convert(row[name], field.type)
            except (KeyError, msgspec.ValidationError, ValueError):
                continue
        return self._entry(self._row(**values))


def _loads(body: bytes) -> Mapping[str, Any]:
    try:
        answer = json.loads(body.decode("utf-8", "replace"), parse_int=_integer)
    except ValueError as exc:
        raise BadPayload(f"the answer is not JSON: {_excerpt(body)}") from exc
    if not isinstance(answer, dict):
        raise BadPayload(f"the answer is {_kind(answer)}, not an object")
    return answer


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) < 20 else float(digits)  # noqa: PLR2004 - digits of 64 bits


def _lenient_pagination(value: object) -> Pagination:
    if not isinstance(value, dict):
        return Pagination()
    total, more = value.get("total"), value.get("hasMore")
    return Pagination(
        total=total if isinstance(total, int) and not isinstance(total, bool) else None,
        has_more=more if isinstance(more, bool) else None,
    )


def _refused(row: object, reason: str) -> LogEntry:
    written = json.dumps(row, sort_keys=True).encode()
    created = row.get("createdAt") if isinstance(row, dict) else None
    return LogEntry(
        key=f"!{hashlib.sha256(written).hexdigest()}",
        status="rejected",
        created=millis(created) if isinstance(created, str) else None,
        rejection_reason=reason,
    )


def _excerpt(body: bytes) -> str:
    start = body[:60].decode("utf-8", "replace").split("\n", 1)[0].strip()
    return f"it begins with {start!r}" if start else "it is empty"


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null or missing"}
    return names.get(type(value), "a number")


def text(value: str | None, limit: int = LABEL_LENGTH) -> str:
    """A text of a stranger as a label value: valid Unicode, cut, ``unknown`` where empty.

    Whoever looks at the metrics in a terminal is not to have it steered.
    """
    if not value:
        return UNKNOWN
    if value.isascii():
        cut = value[:limit]
    else:
        cut = value[:limit].encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return cut if cut.isprintable() else STEERING.sub("\ufffd", cut)


def key(value: str) -> str:
    """A log's ``_id`` as the state keeps it: itself, or a digest where it is absurdly long."""
    if value.isascii() and len(value) <= KEY_LENGTH:
        return value
    written = value.encode("utf-8", "backslashreplace")
    if len(written) <= KEY_LENGTH:
        return written.decode()
    return f"#{hashlib.sha256(written).hexdigest()}"


def mark(*facts: object) -> str:
    """What a log has in common with itself in the other generation of the API, in 12 hexadecimal digits."""
    written = "\0".join("" if fact is None else str(fact) for fact in facts).encode("utf-8", "replace")
    return hashlib.blake2b(written, digest_size=6).hexdigest()


def millis(value: str | None) -> int | None:
    """An ISO 8601 time in milliseconds since the Unix epoch, UTC where it names no zone; None where it is none."""
    if not value:
        return None
    try:
        moment = datetime.fromisoformat(value)
        zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return math.floor(zoned.timestamp() * 1000 + 0.5)
    except (ValueError, OverflowError):
        return None


def moment(created: int) -> str:
    """Milliseconds since the Unix epoch as ISO 8601 in UTC; the nearest one that the calendar has."""
    try:
        time = EPOCH + timedelta(milliseconds=created)
    except OverflowError:
        time = datetime.min.replace(tzinfo=UTC) if created < 0 else datetime.max.replace(tzinfo=UTC)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def micros(value: float | None, scale: int) -> int | None:
    """A number >= 0 times a scale as an integer, at most 31 years; None where it is not finite or negative."""
    if value is None or not math.isfinite(value) or value < 0:
        return None
    return min(int(value) * scale if isinstance(value, int) else round(min(value, ABSURD) * scale), ABSURD)
