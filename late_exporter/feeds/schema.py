"""Notices when the API changes: fields of logs that are unknown, missing, or of another type than documented."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias, Union

import msgspec

from late_exporter.model import Deviation

__all__ = ["DOCUMENTED", "LATE_CONNECTIONS", "LATE_PUBLISHING", "ZERNIO_LOGS", "Field", "Sentinel", "Shape"]

MAX_PATHS = 50
PATH_LENGTH = 64
OTHER = "other"
"""Past so many unknown fields of a feed, further ones go by one name."""

NAMES = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
TYPES = {"array": list, "string": str, "boolean": bool, "number": int | float}

IDENTIFIER = re.compile(r"[A-Za-z0-9_.:-]{1,40}")
SECRET = re.compile(r"[0-9A-Fa-f]{8,}|[A-Za-z0-9_]{16,}")
"""Ids, tokens and telephone numbers; a longer word of an error code goes with them."""


class Field(msgspec.Struct, frozen=True):
    """A documented field; each may be null.

    Args:
        types: The JSON types it may have; none: it is not looked into.
        expected: No log is without it.
        fields: What an object holds.
    """

    types: tuple[str, ...] = ()
    expected: bool = False
    fields: Mapping[str, Field] = MappingProxyType({})


Shape: TypeAlias = Mapping[str, Field]
"""Documented fields by name."""

TEXT, NUMBER, TRUTH, LIST, OPAQUE = (
    Field(("string",)),
    Field(("number",)),
    Field(("boolean",)),
    Field(("array",)),
    Field(),
)
ALWAYS = Field(("string",), expected=True)


def _object(*types: str, **fields: Field) -> Field:
    return Field(("object", *types), fields=fields)


LATE_PUBLISHING: Shape = MappingProxyType(
    {
        "_id": ALWAYS,
        "postId": _object("string", _id=TEXT, content=TEXT, status=TEXT),
        "userId": TEXT,
        "profileId": TEXT,
        "platform": ALWAYS,
        "accountId": TEXT,
        "accountUsername": TEXT,
        "action": ALWAYS,
        "status": ALWAYS,
        "statusCode": NUMBER,
        "endpoint": TEXT,
        "request": _object(
            contentPreview=TEXT, mediaCount=NUMBER, mediaTypes=LIST, mediaUrls=LIST, scheduledFor=TEXT, rawBody=OPAQUE
        ),
        "response": _object(
            platformPostId=TEXT, platformPostUrl=TEXT, errorMessage=TEXT, errorCode=TEXT, rawBody=OPAQUE
        ),
        "durationMs": NUMBER,
        "attemptNumber": NUMBER,
        "createdAt": ALWAYS,
    }
)

LATE_CONNECTIONS: Shape = MappingProxyType(
    {
        "_id": ALWAYS,
        "userId": TEXT,
        "profileId": TEXT,
        "accountId": TEXT,
        "platform": ALWAYS,
        "eventType": ALWAYS,
        "connectionMethod": TEXT,
        "error": _object(code=TEXT, message=TEXT, rawResponse=OPAQUE),
        "success": _object(
            displayName=TEXT,
            username=TEXT,
            profilePicture=TEXT,
            permissions=LIST,
            tokenExpiresAt=TEXT,
            accountType=TEXT,
        ),
        "context": _object(
            isHeadlessMode=TRUTH,
            hasCustomRedirectUrl=TRUTH,
            isReconnection=TRUTH,
            isBYOK=TRUTH,
            invitationToken=OPAQUE,  # these two are known to late-sdk 1.2.60 alone
            connectToken=OPAQUE,
        ),
        "durationMs": NUMBER,
        "metadata": OPAQUE,
        "createdAt": ALWAYS,
    }
)

ZERNIO_LOGS: Shape = MappingProxyType(
    {
        "type": ALWAYS,
        "action": ALWAYS,
        "user_id": TEXT,
        "platform": TEXT,
        "account_id": TEXT,
        "status": ALWAYS,
        "status_code": NUMBER,
        "error_message": TEXT,
        "error_code": TEXT,
        "duration_ms": NUMBER,
        "endpoint": TEXT,
        "request_body": OPAQUE,
        "response_body": OPAQUE,
        "created_at": ALWAYS,
        "metadata": OPAQUE,
        "request_id": TEXT,
        "api_key_id": TEXT,
    }
)

COUNT = Field(("number",), expected=True)
ENVELOPE: Shape = MappingProxyType(
    {
        "logs": OPAQUE,
        "pagination": _object(
            total=COUNT, limit=NUMBER, skip=NUMBER, pages=NUMBER, hasMore=Field(("boolean",), expected=True)
        ),
        "count": NUMBER,
        "postId": TEXT,
    }
)
"""What stands around the logs, of a list or of one post."""


class Sentinel:
    """Looks at the answers of one log list.

    Args:
        shape: The fields of its logs.
    """

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._decoder = msgspec.json.Decoder(_strict(ENVELOPE, logs=list[_strict(shape)]))  # type: ignore[misc]
        self._unknown: set[str] = set()

    def look(self, body: bytes) -> Sequence[tuple[Deviation, ...]]:
        """What is not as documented in each log, and around all of them; nothing where all is well, or no answer."""
        try:
            self._decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._search(body)
        return ()

    def _search(self, body: bytes) -> Sequence[tuple[Deviation, ...]]:
        try:
            answer = json.loads(body.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            return ()
        logs = answer.get("logs") if isinstance(answer, dict) else None
        if not isinstance(logs, list):
            return ()
        seen: dict[tuple[str, str], Deviation] = {}
        around = self._deviations(answer, ENVELOPE, seen)
        rows = [self._deviations(row, self._shape, seen) if isinstance(row, dict) else () for row in logs]
        return [around + row for row in rows] if seen else ()

    def _deviations(
        self, found: Mapping[str, Any], shape: Shape, seen: dict[tuple[str, str], Deviation]
    ) -> tuple[Deviation, ...]:
        deviations = {}
        for path, kind, value in _differences(found, shape):
            name = self._name(path) if kind == "unknown" else path
            if (name, kind) not in seen:
                seen[name, kind] = _deviation(name, kind, value)
            deviations[name, kind] = seen[name, kind]
        return tuple(deviations.values())

    def _name(self, path: str) -> str:
        name = "".join(char if char.isprintable() else "\ufffd" for char in path[:PATH_LENGTH])
        if name not in self._unknown and len(self._unknown) >= MAX_PATHS:
            return OTHER
        self._unknown.add(name)
        return name


def _paths(shape: Shape, prefix: str = "") -> Iterator[str]:
    for name, field in shape.items():
        yield f"{prefix}{name}"
        yield from _paths(field.fields, f"{prefix}{name}.")


DOCUMENTED = frozenset(
    path for shape in (ENVELOPE, LATE_PUBLISHING, LATE_CONNECTIONS, ZERNIO_LOGS) for path in _paths(shape)
)
"""The paths of all documented fields."""


def _strict(shape: Shape, **types: Any) -> type[msgspec.Struct]:
    """A type that decodes what is as documented and nothing else: much faster than to search in vain."""
    fields: list[Any] = []
    for name, field in shape.items():
        kind = types.get(name, _type(field))
        absent = () if field.expected else (None if field.types else msgspec.Raw(),)
        fields.append((name, kind, *absent))
    return msgspec.defstruct("Strict", fields, kw_only=True, forbid_unknown_fields=True, gc=False)


def _type(field: Field) -> Any:
    if not field.types:
        return msgspec.Raw
    kinds = [_strict(field.fields) if name == "object" else TYPES[name] for name in field.types]
    return Union[tuple(kinds if field.expected else [*kinds, None])]  # noqa: UP007 - of a number known only now


def _differences(found: Mapping[str, Any], shape: Shape, prefix: str = "") -> Iterator[tuple[str, str, object]]:
    """Path, kind and value of every field that is not as documented; a missing one has no value."""
    for name, value in found.items():
        field = shape.get(name)
        if field is None:
            yield f"{prefix}{name}", "unknown", value
        elif value is None or not field.types:
            continue
        elif _json_type(value) not in field.types:
            yield f"{prefix}{name}", "type", value
        elif isinstance(value, dict):
            yield from _differences(value, field.fields, f"{prefix}{name}.")
    for name, field in shape.items():
        if field.expected and found.get(name) is None:
            yield f"{prefix}{name}", "missing", None


def _json_type(value: object) -> str:
    return NAMES.get(type(value), "number")


def _deviation(path: str, kind: str, value: object) -> Deviation:
    if kind == "missing":
        return Deviation(path, kind)
    return Deviation(path, kind, _json_type(value), _sample(value))


def _sample(value: object) -> str:
    """What may be shown of a value: texts of people and what looks like a secret may not."""
    match value:
        case bool() | int() | float():
            return json.dumps(value)[:40]
        case str() if IDENTIFIER.fullmatch(value):
            return SECRET.sub("***", value)
        case str() | list() | dict():
            return f"of length {len(value)}"
    return ""
