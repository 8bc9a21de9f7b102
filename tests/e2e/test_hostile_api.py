"""Memory of a process with many workspaces whose API sends whatever costs most."""

from __future__ import annotations

import gzip
import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pytest

from late_exporter.api.body import MAX_BODY_BYTES
from tests.e2e.late import HttpExchange, LateServer
from tests.e2e.program import ExporterProcess, wait_until, write_workspaces

WORKSPACES, FEEDS = 20, ("publishing", "connections")
MAX_MEMORY = 200 * 1024**2
"""Bytes; the compose file, the manifests and the chart of the project allow 256 MiB."""

ROUNDS = 2
"""Requests of each feed that are answered; the second ones meet what the first have left behind."""

ROWS = 100
ROW = '{"_id":"%s","createdAt":"2026-11-24T19:00:00Z","created_at":"2026-11-24T19:00:00Z","status":"success"'


class Answer(NamedTuple):
    """Response of the API; one that stalls keeps the connection open after its body."""

    body: bytes
    encoding: str = "identity"
    announced_size: int | None = None
    stalls: bool = False


Attack: TypeAlias = Callable[[int], Answer]
"""Returns the answer to a request, by its number."""


def packed(body: bytes) -> Attack:
    """Return an attack with a compressed body."""
    answer = Answer(gzip.compress(body), "gzip")
    return lambda _: answer


def filled(start: bytes, unit: bytes, end: bytes, size: int = MAX_BODY_BYTES) -> bytes:
    """Return a body of about a size that repeats a unit."""
    return start + unit * ((size - len(start) - len(end)) // len(unit)) + end


def costly_values() -> bytes:
    """Return a page with nearly as many numbers as are accepted, each in a field of its own."""
    fields = ",".join(f'"{number:05}":{number}.5' for number in range(250_000 // ROWS - 10))
    return ('{"logs":[' + ",".join(f"{ROW % number},{fields}}}" for number in range(ROWS)) + "]}").encode()


def large_texts(number: int) -> Answer:
    """Return new logs, each with the largest texts that are accepted."""
    text = f"t{number} " * ((MAX_BODY_BYTES // ROWS // 4 - 200) // len(f"t{number} "))
    fields = f',"platform":"{text}","response":{{"errorCode":"{text}"}},"error_code":"{text}","metadata":"{text}"}}'
    rows = ",".join(ROW % f"{number}-{row}" + fields for row in range(ROWS))
    return Answer(f'{{"logs":[{rows}],"pagination":{{"total":1000000,"hasMore":true}}}}'.encode())


def accounts() -> bytes:
    """Return as many accounts as fit, all of which need attention, with the longest names and reasons."""
    name = "\\ud83d\\ude00" * 60
    rows = []
    for number in range(500):
        identity = f'"_id":"{number:024}","accountId":"{number:024}","platform":"instagram","username":"{number}{name}"'
        state = f'"enabled":true,"canPost":false,"platformStatus":"suspended","platformStatusReason":"{name}{name}"'
        rows.append(f"{{{identity},{state}}}")
    return f'{{"logs":[],"accounts":[{",".join(rows)}]}}'.encode()


LARGE = filled(b'{"logs":[],"x":"', b"x", b"", MAX_BODY_BYTES - 10)
ATTACKS: Mapping[str, Attack] = {
    "32 MiB of empty lists": packed(filled(b'{"logs":[],"x":[', b"[],", b"[]]}", 4 * MAX_BODY_BYTES)),
    "as many values as are accepted": packed(costly_values()),
    "large texts": large_texts,
    "accounts that need attention": packed(accounts()),
    "large pages that stall": lambda _: Answer(LARGE, announced_size=len(LARGE) + 1, stalls=True),
}

QUICK = ("as many values as are accepted", "large texts")
"""Those that make test tries; make thorough tries all."""


class HostileApi(LateServer):
    """A server that answers all requests with an attack, and allows any number of them."""

    def __init__(self, attack: Attack) -> None:
        super().__init__()
        self._attack = attack
        self._numbers = itertools.count()
        self.answer_counts: Counter[tuple[str, str]] = Counter()
        self.fault = self._answer

    def _answer(self, exchange: HttpExchange) -> None:
        answer = self._attack(next(self._numbers))
        quota = {f"X-RateLimit-{name}": "1000000000" for name in ("Limit", "Remaining")}
        headers = {"Content-Encoding": answer.encoding, **quota}
        exchange.send(200, answer.body, headers, length=answer.announced_size)
        if exchange.path.endswith("logs"):
            feed = "connections" if "connection" in f"{exchange.path}?{exchange.query}" else "publishing"
            self.answer_counts[exchange.key, feed] += 1
        if answer.stalls:
            self.pause(60)


def processed_feeds(program: ExporterProcess, api: HostileApi) -> int:
    """Return how many feeds have processed ROUNDS answers; in a long poll, all answers before the last."""
    polls: Counter[tuple[str, str]] = Counter()
    for (family, pairs), value in program.scrape().items():
        if family == "late_exporter_polls_total":
            labels = dict(pairs)
            polls[labels["workspace"], labels["feed"]] += int(value)
    return sum(
        polls[f"w{number}", feed] >= ROUNDS or api.answer_counts[f"Bearer sk_{number:064x}", feed] > ROUNDS
        for number in range(WORKSPACES)
        for feed in FEEDS
    )


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.thorough) for name in ATTACKS]
)
def test_memory_of_many_workspaces(name: str, exit_stack: ExitStack, tmp_path: Path) -> None:
    """Two feeds and the status feeds of twenty workspaces together stay below the memory limit."""
    api = exit_stack.enter_context(HostileApi(ATTACKS[name]))
    write_workspaces(tmp_path, WORKSPACES)
    program = exit_stack.enter_context(
        ExporterProcess.for_api(tmp_path, api.url, "--config.file=late.yml", "--api.timeout=5s", env={})
    )
    wait_until(
        lambda: processed_feeds(program, api) == WORKSPACES * len(FEEDS),
        timeout=400,
        describe=lambda: (processed_feeds(program, api), program.stderr[-3000:]),
    )
    if "accounts" in name:
        wait_until(
            lambda: program.scrape().sum("late_exporter_status_feed_up", feed="accounts") == WORKSPACES, timeout=400
        )
        page = program.get("/", Accept="application/json").body
        assert 1 << 20 < len(page) < 2 << 20
    assert program.exit_code is None
    assert program.peak_memory_bytes < MAX_MEMORY, program.peak_memory_bytes >> 20
    assert program.stop() == 0
