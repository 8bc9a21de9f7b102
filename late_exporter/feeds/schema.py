"""Detect schema drift: unknown and missing fields, undocumented types and values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache, lru_cache
from types import NoneType
from typing import Any, NamedTuple, TypeVar, get_args, get_origin

import msgspec

from late_exporter.masking import mask_keys
from late_exporter.model import UNKNOWN, Deviation

CACHED_NAMES = 1024

MAX_PATHS = 50
PATH_LENGTH = 64
OTHER = "other"
"""Path of all unknown fields of a feed beyond the first MAX_PATHS."""

JSON_TYPES: Mapping[type, str] = {
    dict: "object", list: "array", str: "string", bool: "boolean", int: "number", float: "number",
    NoneType: "null",
}  # fmt: skip

IP_ADDRESS = re.compile(
    r"\d{1,3}(?:[.]\d{1,3}){3}|(?<![0-9A-Za-z])[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*"
)
"""IPv4 and IPv6 addresses, also if they are cut, and times of a day."""


class DocumentedObject(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An object of the API with its documented fields.

    A field without a default is a text that every log has. All others may be missing or null; those
    of type ``msgspec.Raw`` may have any value.
    """


ObjectT = TypeVar("ObjectT", bound=DocumentedObject)


class DocumentedField(NamedTuple):
    """A field of a DocumentedObject.

    Args:
        types: Python types of its values, except objects with documented fields; empty if any value
            is accepted.
        json_types: Their names in JSON, and null.
        object_type: Type of the objects among its values.
    """

    attribute: str
    types: frozenset[type]
    json_types: frozenset[str]
    object_type: type[DocumentedObject] | None
    is_required: bool


@cache
def documented_fields(of: type[DocumentedObject]) -> Mapping[str, DocumentedField]:
    """Return the fields of a type of objects by their name in the API."""
    return {field.encode_name: _documented_field(field) for field in msgspec.structs.fields(of)}


def _documented_field(field: msgspec.structs.FieldInfo) -> DocumentedField:
    alternatives = [get_origin(each) or each for each in get_args(field.type) or (field.type,)]
    types = {each for each in alternatives if isinstance(each, type)} - {NoneType}
    object_type = next((each for each in types if issubclass(each, DocumentedObject)), None)
    if msgspec.Raw in types:
        types = set()
        json_types = frozenset(JSON_TYPES.values())
    else:
        types -= {object_type}
        json_types = frozenset(JSON_TYPES[each] for each in (*types, NoneType))
    return DocumentedField(field.name, frozenset(types), json_types, object_type, field.required)


def documented_paths(of: type[DocumentedObject], prefix: str = "") -> Iterator[str]:
    """Yield the dotted paths of all fields of a type of objects."""
    for name, field in documented_fields(of).items():
        yield f"{prefix}{name}"
        if field.object_type is not None:
            yield from documented_paths(field.object_type, f"{prefix}{name}.")


_deviation = lru_cache(CACHED_NAMES)(Deviation)
"""Return the same object for all rows."""


class DocumentReader:
    """Read objects that deviate from the documentation; a wrong type counts as missing."""

    def __init__(self) -> None:
        self._unknown_paths: dict[str, str] = {}  # masked, by the path in the response

    def read(
        self,
        document: Mapping[str, Any],
        of: type[ObjectT],
        deviations: dict[Deviation, None],
        prefix: str = "",
    ) -> ObjectT:
        """Return an object; add its deviations."""
        fields = documented_fields(of)
        values: dict[str, Any] = {}
        for name, value in document.items():
            field = fields.get(name)
            path = f"{prefix}{name}"
            if field is None:
                path = self._bounded_path(path)
                deviations[_deviation(path, "unknown", JSON_TYPES[type(value)])] = None
            elif field.object_type is not None and isinstance(value, dict):
                values[field.attribute] = self.read(
                    value, field.object_type, deviations, f"{path}."
                )
            elif type(value) in field.types:
                values[field.attribute] = value
            elif JSON_TYPES[type(value)] not in field.json_types:
                deviations[_deviation(path, "type", JSON_TYPES[type(value)])] = None
        for name, field in fields.items():
            if field.is_required:
                values.setdefault(field.attribute, "")
                if document.get(name) is None:
                    deviations[_deviation(f"{prefix}{name}", "missing")] = None
        return of(**values)

    def _bounded_path(self, path: str) -> str:
        """Return an unknown path without secrets, or OTHER if there were too many before."""
        path = path[:PATH_LENGTH]
        if path not in self._unknown_paths:
            if len(self._unknown_paths) >= MAX_PATHS:
                return OTHER  # A page may have 200,000 names, and masking one takes 10 us.
            self._unknown_paths[path] = _mask_path(path)
        return self._unknown_paths[path]


def mask_addresses(text: str) -> str:
    """Mask everything in a text that looks like the address of a client."""
    return IP_ADDRESS.sub("***", text)


def _mask_path(path: str) -> str:
    printable = "".join(char if char.isprintable() else "\ufffd" for char in path)
    return mask_keys(mask_addresses(printable))


def value_checker(
    vocabularies: Mapping[str, Callable[[str], object]],
) -> Callable[..., tuple[Deviation, ...]]:
    """Return a function that finds values of a log that are in no vocabulary.

    Its arguments are short texts or None, in the order of the paths.

    Args:
        vocabularies: Functions that return something true for a documented value, by the path of
            the field.
    """

    @lru_cache(CACHED_NAMES)
    def check(*values: str | None) -> tuple[Deviation, ...]:
        deviations = []
        for (path, is_documented), value in zip(vocabularies.items(), values, strict=True):
            if value and value != UNKNOWN and not is_documented(value):
                deviations.append(Deviation(path, "value"))
        return tuple(deviations)

    return check
