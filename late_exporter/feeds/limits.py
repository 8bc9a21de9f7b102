"""Limit what JSON costs before it is decoded: the depth of nesting and the number of values."""

from __future__ import annotations

import re

from late_exporter.errors import ResponseTooLarge

MAX_DEPTH = 100
"""Levels of objects and arrays; a documented response has five."""

MAX_CONTAINERS, MAX_SEPARATORS = 100_000, 250_000
"""Limits of the objects and arrays, and of the values in a response, because each takes far more memory than text.

A page of 100 logs has a few thousand of them.
"""

UNCHECKED_BYTES = 2 * MAX_CONTAINERS
"""Size of responses that cannot contain too many values: each has at least two bytes, with its brackets or comma."""

MAX_WIDE_BYTES = 2 * 1024**2
"""Size of responses that may have emoji: for one of them, Python stores each letter of a text in four bytes."""

_WIDE = re.compile(rb"[\xf0-\xff]|\\u[dD][89abAB]")

STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
"""A string, possessive because it may have millions of escapes; it may lack its end, or each escaped quote in it would
be searched for one."""

_TOKEN = re.compile(rb"[\[\]{}]|" + STRING.pattern, re.DOTALL)
"""A bracket, or a string, in which brackets mean nothing."""


def limit_depth(body: bytes) -> bytes:
    """Return a JSON text with ``null`` in place of all objects and arrays below MAX_DEPTH levels of them.

    A value that no parser can read then costs its field, and not the whole response.
    """
    parts: list[bytes] = []
    depth, copied_until = 0, 0
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


def check_value_count(body: bytes) -> None:
    """Raise ResponseTooLarge if a response has so many values, or such texts, that decoding takes too much memory."""
    if len(body) > MAX_WIDE_BYTES and _WIDE.search(body):
        raise ResponseTooLarge(f"the response has emoji and is larger than {MAX_WIDE_BYTES // 1024**2} MiB")
    if len(body) > UNCHECKED_BYTES and _has_too_many_values(body):
        raise ResponseTooLarge("the response has more values than a page of 100 logs")


def _has_too_many_values(body: bytes) -> bool:
    containers, separators = _count_values(body)
    if body.count(b'"') - body.count(rb"\"") > 4 * (MAX_CONTAINERS + MAX_SEPARATORS):
        return True  # Between two commas or braces there are at most a name and a text.
    texts = STRING.finditer(body)
    while containers > MAX_CONTAINERS or separators > MAX_SEPARATORS:
        text = next(texts, None)
        if text is None:
            return True
        # Users may write any number of braces and commas.
        inner_containers, inner_separators = _count_values(text[0])
        containers, separators = containers - inner_containers, separators - inner_separators
    return False


def _count_values(text: bytes) -> tuple[int, int]:
    return text.count(b"{") + text.count(b"["), text.count(b",")
