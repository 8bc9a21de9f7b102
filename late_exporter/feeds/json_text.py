"""Read JSON texts of any API: what is nested too deeply, huge or badly encoded costs one field."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from late_exporter.errors import BadPayload
from late_exporter.feeds.schema import mask_addresses

MAX_DEPTH = 100
"""Levels of objects and arrays; a documented response has five."""

MAX_DIGITS = 4300
"""Digits of the longest integer that msgspec and Python read."""

ResultT = TypeVar("ResultT")

_TOKEN = re.compile(rb'[\[\]{}]|"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
"""A bracket, or a string; possessive because that may have millions of escapes.

It may lack its end, or each escaped quote in it would be searched for one.
"""


def read_nested(body: bytes, read: Callable[[bytes], ResultT]) -> ResultT:
    """Return what a function reads from a JSON text, without what is nested too deeply."""
    try:
        return read(body)
    except RecursionError:
        return read(limit_depth(body))


def limit_depth(body: bytes) -> bytes:
    """Return a JSON text with ``null`` in place of objects and arrays below MAX_DEPTH levels.

    A value that no parser can read then costs its field, and not the whole response.
    """
    parts: list[bytes] = []
    depth = 0
    copied_until = 0
    for token in _TOKEN.finditer(body):
        match token[0]:
            case b"[" | b"{":
                depth += 1
                if depth == MAX_DEPTH + 1:
                    parts += (body[copied_until : token.start()], b"null")
                    copied_until = len(body)
            case b"]" | b"}":
                if depth == MAX_DEPTH + 1:
                    copied_until = token.end()
                depth -= 1
    return b"".join((*parts, body[copied_until:]))


def load_object(body: bytes) -> Mapping[str, Any]:
    """Return the object in a JSON text; raise BadPayload if there is none."""
    try:
        response = json.loads(body.decode("utf-8", "replace"), parse_int=parse_integer)
    except ValueError as exc:
        raise BadPayload(f"the response is not JSON: {_excerpt(body)}") from exc
    if not isinstance(response, dict):
        raise BadPayload(f"the response is {json_kind(response)}, not an object")
    return response


def parse_integer(digits: str) -> int | float:
    """Return an integer of JSON; infinity if it has more digits than msgspec reads."""
    return int(digits) if len(digits.lstrip("-")) <= MAX_DIGITS else float(digits)


def json_kind(value: object) -> str:
    names = {
        dict: "an object",
        list: "a list",
        str: "a string",
        bool: "a boolean",
        type(None): "null or missing",
    }
    return names.get(type(value), "a number")


def _excerpt(body: bytes) -> str:
    start = mask_addresses(body[:60].decode("utf-8", "replace").split("\n", 1)[0].strip())
    return f"it begins with {start!r}" if start else "it is empty"
