"""Detect schema drift: fields of logs that are unknown or missing, and types and values that are not documented."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType, UnionType
from typing import Any, TypeAlias, Union, get_args, get_origin

import msgspec

from late_exporter.feeds.vocabulary import CACHED_NAMES
from late_exporter.format import mask_addresses
from late_exporter.masking import KEY_PATTERN, mask_keys
from late_exporter.model import PAGE_SIZE, UNKNOWN, VALUE_DEVIATION, Deviation

MAX_PATHS = 50
PATH_LENGTH = 64
OTHER = "other"
"""Path of all unknown fields of a feed beyond the first MAX_PATHS."""

NAMES = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
TYPES = {"array": list, "string": str, "boolean": bool, "number": int | float}

NAME = re.compile(r"[A-Za-z]{1,20}\d?([._:-][A-Za-z]{1,20}\d?){0,3}")
"""A value of a few words, such as the names in a vocabulary; ids, secrets and addresses have more digits."""

IDENTIFIER = re.compile(r"[A-Za-z0-9_.:-]{1,40}")
SECRET = re.compile(rf"{KEY_PATTERN}|[0-9A-Fa-f]{{8,}}|[A-Za-z0-9_]{{16,}}")
"""API keys, ids, tokens and telephone numbers; long words in error codes match too."""


class SchemaField(msgspec.Struct, frozen=True):
    """A documented field; every field may be null.

    Args:
        types: JSON types of the field; if empty, any value is accepted.
        required: Whether every log has the field, and not null.
        fields: Fields of an object.
    """

    types: tuple[str, ...] = ()
    required: bool = False
    fields: Mapping[str, SchemaField] = MappingProxyType({})


Schema: TypeAlias = Mapping[str, SchemaField]
"""Documented fields by name."""

TEXT, NUMBER, BOOLEAN, LIST, OPAQUE = (
    SchemaField(("string",)),
    SchemaField(("number",)),
    SchemaField(("boolean",)),
    SchemaField(("array",)),
    SchemaField(),
)
REQUIRED_TEXT = SchemaField(("string",), required=True)


def _object(*types: str, **fields: SchemaField) -> SchemaField:
    return SchemaField(("object", *types), fields=fields)


LATE_PUBLISHING: Schema = MappingProxyType(
    {
        "_id": REQUIRED_TEXT,
        "postId": _object("string", _id=TEXT, content=TEXT, status=TEXT),
        "userId": TEXT,
        "profileId": TEXT,
        "platform": REQUIRED_TEXT,
        "accountId": TEXT,
        "accountUsername": TEXT,
        "action": REQUIRED_TEXT,
        "status": REQUIRED_TEXT,
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
        "createdAt": REQUIRED_TEXT,
    }
)

LATE_CONNECTIONS: Schema = MappingProxyType(
    {
        "_id": REQUIRED_TEXT,
        "userId": TEXT,
        "profileId": TEXT,
        "accountId": TEXT,
        "platform": REQUIRED_TEXT,
        "eventType": REQUIRED_TEXT,
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
            isHeadlessMode=BOOLEAN,
            hasCustomRedirectUrl=BOOLEAN,
            isReconnection=BOOLEAN,
            isBYOK=BOOLEAN,
            invitationToken=OPAQUE,  # these two are only in late-sdk 1.2.60
            connectToken=OPAQUE,
        ),
        "durationMs": NUMBER,
        "metadata": OPAQUE,
        "createdAt": REQUIRED_TEXT,
    }
)

ZERNIO_LOGS: Schema = MappingProxyType(
    {
        "type": REQUIRED_TEXT,
        "action": REQUIRED_TEXT,
        "user_id": TEXT,
        "platform": TEXT,
        "account_id": TEXT,
        "status": REQUIRED_TEXT,
        "status_code": NUMBER,
        "error_message": TEXT,
        "error_code": TEXT,
        "duration_ms": NUMBER,
        "endpoint": TEXT,
        "request_body": OPAQUE,
        "response_body": OPAQUE,
        "created_at": REQUIRED_TEXT,
        "metadata": OPAQUE,
        "request_id": TEXT,
        "api_key_id": TEXT,
        "method": TEXT,  # these four are in rows of type api_request
        "path": TEXT,
        "ip_address": TEXT,
        "user_agent": TEXT,
    }
)

REQUIRED_NUMBER = SchemaField(("number",), required=True)
ENVELOPE: Schema = MappingProxyType(
    {
        "logs": OPAQUE,
        "pagination": _object(
            total=REQUIRED_NUMBER,
            limit=NUMBER,
            skip=NUMBER,
            pages=NUMBER,
            hasMore=SchemaField(("boolean",), required=True),
        ),
        "count": NUMBER,
        "postId": TEXT,
    }
)
"""Fields of the responses around the logs, of a list or of one post."""


class SchemaChecker:
    """Checker of the responses of one log list."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._unknown_paths: set[str] = set()

    def check(self, body: bytes) -> Sequence[tuple[Deviation, ...]]:
        """Return the deviations of each log, including those of the response; empty if there are none or no logs."""
        try:
            response = json.loads(body.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            return ()
        logs = response.get("logs") if isinstance(response, dict) else None
        if not isinstance(logs, list):
            return ()
        deviations: dict[tuple[str, str], Deviation] = {}
        envelope = self._deviations(response, ENVELOPE, deviations)
        rows = [
            self._deviations(row, self._schema, deviations) if isinstance(row, dict) else () for row in logs[:PAGE_SIZE]
        ]
        return [envelope + row for row in rows] if deviations else ()

    def _deviations(
        self, document: Mapping[str, Any], schema: Schema, known_deviations: dict[tuple[str, str], Deviation]
    ) -> tuple[Deviation, ...]:
        deviations = {}
        for path, kind, value in _differences(document, schema):
            name = self._bounded_path(path) if kind == "unknown" else path
            if (name, kind) not in known_deviations:
                known_deviations[name, kind] = _deviation(name, kind, value)
            deviations[name, kind] = known_deviations[name, kind]
        return tuple(deviations.values())

    def _bounded_path(self, path: str) -> str:
        text = "".join(char if char.isprintable() else "\ufffd" for char in path[:PATH_LENGTH])
        name = mask_keys(mask_addresses(text))
        if name not in self._unknown_paths and len(self._unknown_paths) >= MAX_PATHS:
            return OTHER
        self._unknown_paths.add(name)
        return name


class ValueChecker:
    """Checker of the values of a log that belong to a vocabulary.

    Args:
        vocabularies: Functions that return whether a value is documented, by the path of the field.
    """

    def __init__(self, vocabularies: Mapping[str, Callable[[str], bool]]) -> None:
        self._vocabularies = vocabularies
        self.check = lru_cache(CACHED_NAMES)(self._check)

    def _check(self, *values: str | None) -> tuple[Deviation, ...]:
        """Return the deviations of a log; the values are short texts in the order of the paths, or None."""
        return tuple(
            Deviation(path, VALUE_DEVIATION, "string", _value_sample(value))
            for (path, is_documented), value in zip(self._vocabularies.items(), values, strict=True)
            if value and value != UNKNOWN and not is_documented(value)
        )


def _paths(schema: Schema, prefix: str = "") -> Iterator[str]:
    for name, field in schema.items():
        yield f"{prefix}{name}"
        yield from _paths(field.fields, f"{prefix}{name}.")


DOCUMENTED_PATHS = frozenset(
    path for shape in (ENVELOPE, LATE_PUBLISHING, LATE_CONNECTIONS, ZERNIO_LOGS) for path in _paths(shape)
) | {"metadata.connectionMethod"}
"""The paths of all documented fields, and of a value in the JSON text of another one."""


def documented_type(schema: Schema, used_type: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """Return a subtype that only decodes documents without deviations, which is much faster than a search.

    Args:
        schema: The documented fields.
        used_type: Struct with the used fields.
    """
    used_fields = {field.encode_name: field for field in msgspec.structs.fields(used_type)}
    fields: list[Any] = []
    for name, field in schema.items():
        used = used_fields.pop(name, None)
        is_required = field.required or (used is not None and used.required)
        kind = _type(field, used, is_required=is_required)
        default = {} if is_required else {"default": msgspec.Raw() if kind is msgspec.Raw else None}
        fields.append((used.name if used else name, kind, msgspec.field(name=name, **default)))
    # No value is of this type: fields that are used but not documented must be missing.
    undocumented = msgspec.UnsetType
    fields += [(used.name, undocumented, msgspec.field(name=name, default=None)) for name, used in used_fields.items()]
    options: dict[str, Any] = {"kw_only": True, "forbid_unknown_fields": True, "gc": False}
    return msgspec.defstruct(used_type.__name__, fields, bases=(used_type,), **options)


def _type(field: SchemaField, used: msgspec.structs.FieldInfo | None, *, is_required: bool) -> Any:
    used_types = _alternatives(None if used is None or used.type is Any else used.type)
    if "object" in field.types:
        structs = [each for each in used_types if isinstance(each, type) and issubclass(each, msgspec.Struct)]
        used_type = structs[0] if structs else msgspec.Struct
        kinds = [documented_type(field.fields, used_type) if name == "object" else TYPES[name] for name in field.types]
    elif used_types:
        kinds = used_types
    elif field.types:
        kinds = [TYPES[name] for name in field.types]
    else:
        return msgspec.Raw
    return Union[tuple(kinds if is_required else [*kinds, None])]  # noqa: UP007 - built at run time


def _alternatives(annotation: Any) -> list[Any]:
    """Return the types of a union, or of a single type; None is left out."""
    types = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return [each for each in types if each not in (None, type(None))]


def _differences(document: Mapping[str, Any], schema: Schema, prefix: str = "") -> Iterator[tuple[str, str, object]]:
    """Yield path, kind and value of every deviation; the value of a missing field is None."""
    for name, value in document.items():
        field = schema.get(name)
        if field is None:
            yield f"{prefix}{name}", "unknown", value
        elif value is None or not field.types:
            continue
        elif _json_type(value) not in field.types:
            yield f"{prefix}{name}", "type", value
        elif isinstance(value, dict):
            yield from _differences(value, field.fields, f"{prefix}{name}.")
    for name, field in schema.items():
        if field.required and document.get(name) is None:
            yield f"{prefix}{name}", "missing", None


def _json_type(value: object) -> str:
    return NAMES.get(type(value), "number")


def _deviation(path: str, kind: str, value: object) -> Deviation:
    if kind == "missing":
        return Deviation(path, kind)
    return Deviation(path, kind, _json_type(value), _sample(value))


def _value_sample(value: str) -> str:
    """Return a value that should be in a vocabulary, unless it can be user content or a secret."""
    return value if NAME.fullmatch(value) else f"of length {len(value)}"


def _sample(value: object) -> str:
    """Return an excerpt of a value without user content and secrets."""
    match value:
        case bool() | int() | float():
            return json.dumps(value)[:40]
        case str() if IDENTIFIER.fullmatch(value):
            return SECRET.sub("***", mask_addresses(value))
        case str() | list() | dict():
            return f"of length {len(value)}"
    return ""
