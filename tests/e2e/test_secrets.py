"""Tests that the key is in no output: no log, page, metric or state, with an API that repeats it in every way."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.e2e.late import HttpExchange, LateServer
from tests.e2e.program import ExporterProcess, wait_equal, wait_until

pytestmark = pytest.mark.e2e

RESTRICTED = "zrk_" + "4f1d8c6b" * 8
STRANGE = "Zq7-\"quoted\"<&>'back\\slash'%20+/=~" + "LongSecret" * 4
PIECE = 16
"""Length of a fragment of the key that counts as a leak."""


def key_in_body(exchange: HttpExchange) -> str:
    """Return the key of a request."""
    return exchange.key.removeprefix("Bearer ")


def key_in_error(exchange: HttpExchange) -> None:
    """Send an error that repeats the header."""
    exchange.send(500, json.dumps({"error": f"bad header Authorization: {exchange.key}"}).encode())


def key_in_escaped_error(exchange: HttpExchange) -> None:
    """Send an error in which every character of the key is escaped."""
    escaped = "".join(f"\\u{ord(character):04x}" for character in key_in_body(exchange))
    exchange.send(400, f'{{"error": "key {escaped}"}}'.encode())


def key_in_rejection(exchange: HttpExchange) -> None:
    """Send a 401 that repeats the key."""
    exchange.send(401, json.dumps({"error": f"unknown key {key_in_body(exchange)}"}).encode())


def key_in_location(exchange: HttpExchange) -> None:
    """Send a redirect with the key in its URL."""
    exchange.send(302, headers={"Location": f"https://example.org/login?key={quote(key_in_body(exchange), safe='')}"})


def key_in_truncated_json(exchange: HttpExchange) -> None:
    """Send a text with the key where the excerpt is truncated, with status 200."""
    exchange.send(200, b"x" * 30 + key_in_body(exchange).encode())


def key_in_base64(exchange: HttpExchange) -> None:
    """Send an error that repeats the header in base64."""
    exchange.send(500, b"bad header " + base64.b64encode(exchange.key.encode()))


def key_in_status_line(exchange: HttpExchange) -> None:
    """Send a response that is not HTTP and repeats the key."""
    exchange.write(f"HTTP/9 {key_in_body(exchange)}\r\n\r\n".encode())
    exchange.close()


def key_in_header(exchange: HttpExchange) -> None:
    """Send the key as quota header."""
    exchange.send(
        200,
        b"{",
        {
            "X-RateLimit-Limit": key_in_body(exchange),
            "Retry-After": key_in_body(exchange),
            "Date": key_in_body(exchange),
        },
    )


HOSTILE = (
    key_in_error,
    key_in_escaped_error,
    key_in_rejection,
    key_in_location,
    key_in_truncated_json,
    key_in_base64,
    key_in_status_line,
    key_in_header,
)


def key_fragments(key: str) -> set[str]:
    """Return all fragments of a key that are long enough to matter, plain and in common encodings."""
    encodings = {
        key,
        base64.b64encode(key.encode()).decode(),
        html.escape(key),
        quote(key, safe=""),
        json.dumps(key)[1:-1],
        repr(key)[1:-1],
        key.lower(),
    }
    return {text[position : position + PIECE] for text in encodings for position in range(len(text) - PIECE + 1)}


def find_leaks(key: str, *outputs: bytes) -> list[str]:
    """Return all places of a text with a fragment of the key, with their context."""
    pieces = key_fragments(key)
    texts = [output.decode("utf-8", "backslashreplace") for output in outputs]
    return sorted(
        {text[max(0, text.find(piece) - 60) :][:160] for text, piece in product(texts, pieces) if piece in text}
    )


@pytest.mark.parametrize(("key", "log_format"), [(RESTRICTED, "logfmt"), (STRANGE, "json")])
def test_key_is_nowhere(tmp_path: Path, exit_stack: ExitStack, key: str, log_format: str) -> None:
    """At the most verbose log level, no output contains the key that the API repeats."""
    late = exit_stack.enter_context(LateServer(key=key))
    if key.startswith("zrk_"):
        late.api.generation = "zernio"  # a restricted key cannot use the undocumented lists
    late.world.publish(3, platform="telegram")
    path = tmp_path / "key.txt"
    path.write_text(key)
    program = ExporterProcess.for_api(
        tmp_path,
        late.url,
        "--log.level=debug",
        f"--log.format={log_format}",
        "--poll.feeds=publishing",
        env={"LATE_API_KEY_FILE": str(path)},
    )
    exit_stack.enter_context(program)
    outputs: list[bytes] = []
    for fault in HOSTILE:
        send_fault(program, late, fault)
        outputs += [program.get(page).body for page in ("/", "/-/ready", "/metrics")]
        # The first fault is before the first sync, so /-/ready shows it; later a success ends the backoff.
        if fault is not HOSTILE[0]:
            send_fault(program, late, late.respond)
    wait_equal(3.0, lambda: program.scrape().sum("late_publishing_logs_total"))
    assert any(request.headers["Authorization"] == f"Bearer {key}" for request in late.requests)
    assert 0 == program.stop()
    outputs += [file.read_bytes() for file in tmp_path.iterdir() if file != path]
    assert "poll failed" in program.stderr
    assert [] == find_leaks(key, *outputs)


def send_fault(program: ExporterProcess, late: LateServer, fault: Callable[[HttpExchange], None]) -> None:
    """Wait until a poll has failed by a fault and the next one has begun, so that the failure is logged."""
    before = len(late.requests)
    late.fault = fault
    wait_until(lambda: len(late.requests) >= before + 2, describe=lambda: program.stderr)
