"""Tests that the key is in no output: no log, page, metric or state, with an API that repeats it, escaped and cut."""

from __future__ import annotations

import html
import json
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.e2e.late import FaultHandler, HttpExchange, LateServer, respond_with
from tests.e2e.program import ExporterProcess, wait_equal, wait_until

RESTRICTED = "zrk_" + "4f1d8c6b" * 8
STRANGE = "Zq7-\"quoted\"<&>'back\\slash'%20+/=~" + "LongSecret" * 4
PIECE = 16
"""Length of a fragment of the key that counts as a leak."""


def faults(key: str) -> list[FaultHandler]:
    """Return responses that repeat a key in every way; the first is sent before the first sync."""
    escaped = "".join(f"\\u{ord(character):04x}" for character in key)

    def repeat_in_status_line(exchange: HttpExchange) -> None:
        exchange.write(f"HTTP/9 {key}\r\n\r\n".encode())
        exchange.close()

    return [
        respond_with(500, {"error": f"bad header Authorization: Bearer {key}"}),
        respond_with(400, f'{{"error": "key {escaped}"}}'),
        respond_with(401, {"error": f"unknown key {key}"}),
        respond_with(302, headers={"Location": f"https://example.org/login?key={quote(key, safe='')}"}),
        respond_with(200, "x" * 30 + key),  # an excerpt of it is cut within the key
        repeat_in_status_line,
        respond_with(200, b"{", dict.fromkeys(("X-RateLimit-Limit", "Retry-After", "Date"), key)),
    ]


def key_fragments(key: str) -> set[str]:
    """Return all fragments of a key that are long enough to matter, plain and escaped."""
    encodings = {
        key,
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
        env={"ZERNIO_API_KEY_FILE": str(path)},
    )
    exit_stack.enter_context(program)
    outputs: list[bytes] = []
    for number, fault in enumerate(faults(key)):
        send_fault(program, late, fault)
        outputs += [program.get(page).body for page in ("/", "/-/ready", "/metrics")]
        # The first fault is before the first sync, so /-/ready shows it; later a success ends the backoff.
        if number:
            send_fault(program, late, late.respond)
    wait_equal(3.0, lambda: program.scrape().sum("late_publishing_logs_total"))
    assert any(request.headers["Authorization"] == f"Bearer {key}" for request in late.requests)
    assert program.stop() == 0
    outputs += [file.read_bytes() for file in tmp_path.iterdir() if file != path]
    assert "poll failed" in program.stderr
    assert find_leaks(key, *outputs) == []


def send_fault(program: ExporterProcess, late: LateServer, fault: FaultHandler) -> None:
    """Wait until a poll has failed by a fault and the next one has begun, so that the failure is logged."""
    before = len(late.requests)
    late.fault = fault
    wait_until(lambda: len(late.requests) >= before + 2, describe=lambda: program.stderr)
