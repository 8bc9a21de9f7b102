"""Limit the depth of JSON before it is decoded."""

from __future__ import annotations

import re

MAX_DEPTH = 100
"""Levels of objects and arrays; a documented response has five."""

_TOKEN = re.compile(rb'[\[\]{}]|"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
"""A bracket, or a string; possessive because that may have millions of escapes.

It may lack its end, or each escaped quote in it would be searched for one.
"""


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
