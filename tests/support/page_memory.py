"""Peak memory of a process that decodes one page of any content."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import product
from typing import TypeAlias

from late_exporter.api.body import MAX_BODY_BYTES
from late_exporter.api.pages import fetch_page
from late_exporter.api.responses import ApiResponse
from late_exporter.errors import BadPayload
from late_exporter.feeds import GENERATIONS
from late_exporter.feeds.feed import Feed
from late_exporter.model import LATE, ZERNIO
from tests.support.client import FakeClient

MAX_MEMORY = 120
"""MiB; the rest of the process and two other responses that are read at the same time have the difference to 200."""

MAX_SECONDS = 20
"""CPU time after which the process of a case is killed; it needs less than half a second, unless it is quadratic."""


FIELDS: Mapping[str, tuple[str, ...]] = {
    LATE: ("_id", "postId", "postId._id", "action", "createdAt", "statusCode", "response.errorMessage", "unknown"),
    ZERNIO: ("_id", "action", "created_at", "duration_ms", "request_id", "profile_id", "request_body", "metadata"),
}
"""Paths of the fields that are read in ways of their own."""

MEMBERS = (
    ("metadata", "postId"),
    ("metadata", "profileId"),
    ("request_body", "content"),
    ("response_body", "platformPostUrl"),
)
"""Members of JSON in the texts of fields of generation zernio, which are read or searched for."""


Parts: TypeAlias = tuple[bytes, bytes, bytes]
"""Beginning of a value, a unit that is repeated until it has the size of a page, and its end."""

EMOJI, TAG = "\U0001f525".encode(), "\U000e0001".encode()
"""A character that makes Python use four bytes for each one of its text, and one that it escapes in ten."""

VALUES: Mapping[str, Parts] = {
    "wide letters": (b'"' + EMOJI, b"a", b'"'),
    "invisible characters": (b'"' + EMOJI, TAG, b'"'),
    "escapes": (b'"', rb"\u0001", b'"'),
    "letters of two bytes": (b'"\xe4\xb8\xad', b"a", b'"'),
    "no UTF-8": (b'"', b"aaaaaaaaaaaaaaa\x80", b'"'),
    "quotes": (b'"', rb"\"", b'"'),
    "keys": (b'"', b"sk_12345678.,", b'"'),
    "digits": (b"", b"1", b""),
    "names": (b'{"', b"a", b'":1}'),
    "numbers": (b"[", b"1.5,", b"1]"),
    "texts": (b"[", b'"ab",', b'""]'),
    "objects": (b"[", b"{},", b"{}]"),
    "objects in objects": (b"[", b'{"":{"":{}}},', b"{}]"),
    "no end": (b"[" * 90_000 + b'"', rb"\"", b""),
}
"""JSON values."""

TEXTS: Mapping[str, tuple[str, str, str]] = {
    "objects": ('{"%s":[', "{},", "{}]}"),
    "an object of another type": ('{"%s":{"a":[', "1,", "1]}}"),
    "a text that is cut": ('{"%s":"', "a", ""),
    "quotes that are cut": ('{"%s":"', '\\"', ""),
    "empty members": ("{", '"%s":"",', ""),
}
"""JSON in a text."""


def _cases(generation: str) -> Iterator[tuple[str, bytes]]:
    """Yield names and pages, one at a time because of their memory."""
    for (name, parts), field in product(VALUES.items(), FIELDS[generation]):
        yield f"{field}: {name}", _page(field, parts)
    for (name, texts), (field, member) in product(TEXTS.items(), MEMBERS if generation == ZERNIO else ()):
        start, unit, end = (json.dumps(text.replace("%s", member))[1:-1].encode() for text in texts)
        yield f"{field}: {name}: {member}", _page(field, (b'"' + start, unit, end + b'"'))


def _page(path: str, parts: Parts) -> bytes:
    *parents, field = path.split(".")
    row: dict[str, object] = {
        **dict.fromkeys(("createdAt", "created_at"), "2026-11-24T19:00:00Z"),
        "_id": "a",
        "action": "Post Published",
    }
    row.pop(path, None)
    nested = "".join(f'"{parent}":{{' for parent in parents)
    head = f'{{"logs":[{json.dumps(row)[:-1]},{nested}"{field}":'.encode()
    start, unit, end = parts
    tail = end + b"}" * len(parents) + b"}]}"
    return head + start + unit * max(1, (MAX_BODY_BYTES - len(head + start + tail)) // len(unit)) + tail


async def _read(feed: Feed, body: bytes) -> None:
    """Decode a page as the exporter does."""
    client = FakeClient(lambda *_: ApiResponse(body, None))
    with suppress(BadPayload):  # A page that is refused costs less.
        await fetch_page(client, feed)


def main(generation: str) -> None:
    """Read each case in a process of its own; print those that fail or need too much memory, and their number."""
    feed = GENERATIONS[generation]["publishing"]
    count = 0
    for name, body in _cases(generation):
        count += 1
        pid = os.fork()
        if pid == 0:
            resource.setrlimit(resource.RLIMIT_CPU, (MAX_SECONDS, MAX_SECONDS))
            asyncio.run(_read(feed, body))
            os._exit(0)
        _, status, usage = os.wait4(pid, 0)
        if status or usage.ru_maxrss >> 10 > MAX_MEMORY:
            sys.stdout.write(f"{name}: status {status}, {usage.ru_maxrss >> 10} MiB\n")
    sys.stdout.write(f"{count} pages\n")


if __name__ == "__main__":
    main(sys.argv[1])
