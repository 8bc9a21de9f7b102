"""A soak: the exporter counts for a long time, while everything around it goes wrong."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from random import Random
from typing import NamedTuple

from late_exporter.store import open_snapshot
from tests.e2e.late import KEY, LateServer
from tests.e2e.program import ExporterProcess, http_get
from tests.e2e.prometheus import PrometheusApi, run_prometheus
from tests.soak.stage import FAULTS, Stage
from tests.soak.verdict import SETTLED, Ledger, Life, Memory, counted, differences, examine, falls
from tests.support.samples import Samples

__all__ = ["Plan", "Soak"]

WORKSPACES = ("acme", "beta")
KEYS = {"acme": KEY, "beta": "sk_" + "be7a0000" * 8}
INCIDENTS = ("platform-outage", "revoked-token", "rate-limit-storm", "slow-video")
QUOTA = 20_000
"""Requests a minute: enough to read such a rate, and to catch up."""

TICK = 0.5
WARM = 5.0
"""Seconds that a process takes to be as large as it wants to be."""

WATCHED = 10.0
"""Seconds for which a process has to be watched for its memory to say anything."""

VIOLENT = 0.4
"""The part of a soak, from its beginning, in which processes are killed: the last one lives for all the rest."""

CATCHING_UP = 300.0
"""Seconds after which an exporter that is left in peace has to have counted everything."""

MOST_BYTES, LEAST_STATE = 400, 8 << 20
"""Bytes that the state may take for a sighting, and altogether where there are few."""

SHOWN = 20
"""Logs that are named where many are wrong."""

SCRAPING = """\
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - job_name: late
    static_configs: [{targets: ["%s"]}]
"""


class Plan(NamedTuple):
    """How long a soak takes, in seconds, how many logs come a second, and what decides the rest."""

    seconds: float
    rate: float
    seed: int


class Soak:
    """One soak.

    Args:
        folder: Where the exporter works.
        plan: How much of it.
        prometheus: The program.
        say: Takes a line of the report.
    """

    def __init__(self, folder: Path, plan: Plan, prometheus: str, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._plan = plan
        self._binary = prometheus
        self._say = say
        self._random = Random(plan.seed)
        self._stage = Stage(plan.seed, plan.rate)
        self._late = LateServer(self._stage, rate_limit=QUOTA)
        self._late.keys.update(KEYS.values())
        self._memory = Memory()
        self._reasons: list[str] = []
        self._done: dict[str, int] = {}
        self._names: tuple[str, ...] = WORKSPACES[:1]
        self._paces = deque(("1s", "900ms"))
        self._port = _free_port()
        self._program = ExporterProcess(folder, "run", "--config.file=late.yml")
        self._running = False
        self._started = self._told = time.monotonic()
        self._first = len(self._stage.publishing)
        self._killed = 0.0
        self._sampled = 0.0
        self._pausing = threading.Event()

    def run(self) -> list[str]:
        """Go through it; returns what was wrong."""
        with ExitStack() as stack:
            stack.enter_context(self._late)
            for name, key in KEYS.items():
                file = self._folder / f"{name}.key"
                file.touch(0o600)
                file.write_text(key)
            self._configure()
            stack.callback(self._program.kill)
            self._start()
            config = SCRAPING % f"127.0.0.1:{self._port}"
            database = stack.enter_context(run_prometheus(self._binary, self._folder, config))
            self._started = time.monotonic()
            self._suffer()
            self._catch_up()
            self._judge(database)
        return self._reasons

    def _configure(self) -> None:
        rows = [
            f"  - {{name: {name}, api_key_file: {name}.key, api_base_url: '{self._late.url}'}}" for name in self._names
        ]
        lines = [
            "workspaces:",
            *rows,
            "api: {timeout: 2s}",
            f"poll: {{interval: {self._paces[0]}, reconcile-interval: 1m}}",
            "state: {url: 'sqlite:///state.db'}",
            f"web: {{listen-address: '127.0.0.1:{self._port}'}}",
        ]
        file = self._folder / "late.yml"
        file.with_suffix(".new").write_text("\n".join(lines) + "\n")
        file.with_suffix(".new").replace(file)

    # What happens.

    def _suffer(self) -> None:
        """Let one thing after the other go wrong until the time is over."""
        end = self._started + self._plan.seconds
        for happening in self._happenings():
            if time.monotonic() >= end:
                return
            name, happen = happening
            self._done[name] = self._done.get(name, 0) + 1
            happen()
            self._pause(min(self._random.uniform(0.5, 4), max(0.0, end - time.monotonic())))

    def _happenings(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """Everything in an order of its own, again and again; the first ones are those that matter most."""
        ends: list[tuple[str, Callable[[], None]]] = [("kill", self._kill), ("restart", self._restart)]
        rest: list[tuple[str, Callable[[], None]]] = [
            ("reload", self._reload),
            ("unavailable", self._leave),
            ("slow", self._slow),
            ("incident", self._incident),
            ("backup", self._back_up),
            *((name, partial(self._fault, name)) for name in FAULTS),
        ]
        yield from (rest[0], ends[0], rest[1], ends[1])
        apart = max(10.0, self._plan.seconds / 12)
        while True:
            self._random.shuffle(rest)
            for happening in rest:
                yield happening
                if not self._is_settling and time.monotonic() - self._killed >= apart:
                    yield self._random.choice(ends)

    @property
    def _is_settling(self) -> bool:
        """Whether the process that runs is to live on."""
        return time.monotonic() - self._started >= VIOLENT * self._plan.seconds

    def _fault(self, name: str) -> None:
        self._late.fault = FAULTS[name](self._late, self._random)
        self._pause(self._random.uniform(1, 4))
        self._late.fault = None

    def _leave(self) -> None:
        self._late.stop()
        self._pause(self._random.uniform(1, 4))
        self._late.start()

    def _slow(self) -> None:
        self._late.delay = self._random.uniform(0.1, 0.6)
        self._pause(self._random.uniform(2, 5))
        self._late.delay = 0.0

    def _incident(self) -> None:
        with self._late.lock:
            self._stage.begin_incident(self._random.choice(INCIDENTS), self._random.uniform(10, 60))

    def _back_up(self) -> None:
        """Copy the state while it is written to; the copy has to be whole."""
        copy = self._folder / "copy.db"
        for words in (("backup", "copy.db", "--config.file=late.yml"), ("check", "--state.url=sqlite:///copy.db")):
            with ExporterProcess(self._folder, "state", *words) as program:
                if program.wait_exit(CATCHING_UP):
                    self._reasons.append(f"state {words[0]}: {program.stdout}{program.stderr}")
        copy.unlink(missing_ok=True)

    def _reload(self) -> None:
        """Take the second workspace in or out; once the last process runs, change the pace of both."""
        self._names = WORKSPACES if len(self._names) == 1 or self._is_settling else WORKSPACES[:1]
        self._paces.rotate()
        self._configure()
        self._send_reload()

    def _send_reload(self) -> None:
        # A process that has just begun knows no signal yet, and reads the new configuration anyway.
        if self._answers():
            self._program.send_signal(signal.SIGHUP)

    def _kill(self) -> None:
        self._note_life()
        self._program.kill()
        self._begin_again()

    def _restart(self) -> None:
        if not self._answers():
            return  # a process that has just begun knows no signal yet
        self._note_life()
        code = self._program.stop()
        if code:
            self._reasons.append(f"SIGTERM ended it with {code}: {self._program.stderr[-500:]}")
        self._begin_again()

    def _begin_again(self) -> None:
        self._running = False
        self._pause(self._random.choice((0.0, 0.0, 1.0, 2.0)))
        self._start()

    def _start(self) -> None:
        self._program.start()
        self._memory.lives.append(Life([]))
        self._running, self._killed = True, time.monotonic()

    def _note_life(self) -> None:
        """Look at what a process has logged before that is gone."""
        if "Traceback" in self._program.stderr:
            self._reasons.append(f"a bug: {self._program.stderr[-2000:]}")

    def _answers(self) -> bool:
        try:
            return http_get(f"http://127.0.0.1:{self._port}/-/healthy", timeout=5).status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False

    # What is seen meanwhile.

    def _pause(self, seconds: float) -> None:
        """Let time pass, and look."""
        end = time.monotonic() + seconds
        while True:
            self._look()
            left = end - time.monotonic()
            if left <= 0:
                return
            self._pausing.wait(min(left, TICK))

    def _look(self) -> None:
        now = time.monotonic()
        if self._running and self._program.exit_code is not None:
            self._reasons.append(f"it ended with {self._program.exit_code}: {self._program.stderr[-2000:]}")
            self._start()
        if self._running and now - self._sampled >= TICK and now - self._killed >= WARM:
            self._sampled = now
            self._memory.lives[-1].samples.append((now - self._started, self._resident()))
        if now - self._told >= max(1.0, min(10.0, self._plan.seconds / 12)):
            self._told = now
            self._say(self._progress(now - self._started))

    def _resident(self) -> float:
        """KiB of memory."""
        status = Path(f"/proc/{self._program.pid}/status").read_text("ascii")
        return float(status.partition("VmRSS:")[2].split()[0]) if "VmRSS:" in status else 0.0

    def _scrape(self) -> Samples:
        """The metrics; none while nobody serves them."""
        try:
            reply = http_get(f"http://127.0.0.1:{self._port}/metrics", timeout=5)
        except (OSError, http.client.HTTPException):
            return Samples()
        return Samples.parse(reply.text)

    def _state_bytes(self) -> int:
        return sum(file.stat().st_size for file in self._folder.glob("state.db*"))

    def _progress(self, seconds: float) -> str:
        samples, there = self._scrape(), len(self._stage.publishing)
        rate = (there - self._first) / max(seconds, 1)
        shown = [f"{sum(counted(samples, name).values()):,}" for name in self._names]
        memory = self._resident() / 1024 if self._running else 0.0
        return (
            f"{seconds:6.0f} s  {there:,} logs, {rate:.0f}/s  counted {' and '.join(shown)}"
            f"  {memory:.0f} MiB  state {self._state_bytes() / 1e6:.1f} MB  {sum(self._done.values())} happenings"
        )

    # What it comes to.

    def _catch_up(self) -> None:
        """Leave it in peace until it has counted everything, in both workspaces."""
        self._say("the play is over; catching up")
        with self._late.lock:
            self._stage.over = True
        self._names = WORKSPACES
        self._configure()
        began = time.monotonic()
        asked = False
        while time.monotonic() < began + CATCHING_UP:
            if not asked and self._answers():
                self._send_reload()
                asked = True
            self._pause(4 * TICK)
            if not any(ledger.wrong for ledger in self._ledgers().values()):
                break
        self._say(f"caught up within {time.monotonic() - began:.1f} s")
        self._pause(3.0)  # whatever would be counted again, is now

    def _ledgers(self) -> dict[str, Ledger]:
        """What the state has of every workspace."""
        with open_snapshot(f"sqlite:///{self._folder / 'state.db'}") as records:
            return {name: examine(self._stage, records, name) for name in WORKSPACES}

    def _judge(self, database: PrometheusApi) -> None:
        samples, ledgers = self._scrape(), self._ledgers()
        for name, ledger in ledgers.items():
            self._reasons += ledger.wrong[:SHOWN]
            self._reasons += [f"{name}: {line}" for line in differences(ledger.counts, counted(samples, name))]
            logs = ledger.counts.total()
            self._say(f"{name}: {logs:,} logs counted in their final status, in {len(ledger.counts)} kinds")
        walks = samples.sum("late_exporter_reconciled_logs_total")
        self._say(f"{len(self._stage.deleted)} logs were deleted; {walks:.0f} were found by walks alone")
        self._audit()
        self._note_life()
        self._reasons += falls(database, time.monotonic() - self._started + 60)
        series = database.value('count({__name__=~"late_.+"})')
        self._say(f"Prometheus: {series or 0:,.0f} series")
        code = self._program.stop()
        if code:
            self._reasons.append(f"SIGTERM ended it with {code} at last")
        self._running = False
        self._judge_state()
        self._judge_memory()
        self._say(", ".join(f"{name} {times}" for name, times in sorted(self._done.items())))

    def _audit(self) -> None:
        with ExporterProcess(self._folder, "audit", "--config.file=late.yml", "--format=json") as audit:
            code = audit.wait_exit(CATCHING_UP)
            if code not in (0, 1) or not audit.stdout:
                self._reasons.append(f"the audit ended with {code}: {audit.stderr[-500:]}")
                return
            report = json.loads(audit.stdout)
        compared = sum(feed["logs"] for feed in report["feeds"])
        self._say(f"audit: {compared:,} logs compared, {report['missing']} missing, {report['extra']} extra")
        if code or not report["ok"]:
            troubles = [f"{feed['workspace']} {feed['feed']} {feed['error']}" for feed in report["feeds"]]
            self._reasons.append(f"the audit found differences: {report['missing']} missing, {troubles}")

    def _judge_state(self) -> None:
        with open_snapshot(f"sqlite:///{self._folder / 'state.db'}") as records:
            sightings = sum(1 for scope in records.scopes for _ in records.recorded_statuses(scope))
        size = self._state_bytes()
        self._say(f"state: {size:,} bytes, {size / max(sightings, 1):.0f} for each of {sightings:,} sightings")
        if size > max(LEAST_STATE, MOST_BYTES * sightings):
            self._reasons.append(f"the state is too large: {size:,} bytes for {sightings:,} sightings")

    def _judge_memory(self) -> None:
        for number, life in enumerate(self._memory.lives, 1):
            if life.seconds >= WATCHED:
                first, last = life.samples[0][1], life.samples[-1][1]
                self._say(
                    f"memory of process {number}: {life.seconds:.0f} s, {first / 1024:.1f} to {last / 1024:.1f} MiB,"
                    f" {life.slope:+,.0f} KiB/min"
                )
        first, second = (size / 1024 for size in self._memory.halves())
        self._say(
            f"memory of all {len(self._memory.lives)} processes:"
            f" {first:.1f} MiB in the first half, {second:.1f} MiB in the second"
        )
        settled = self._memory.longest.settled
        if settled.seconds >= SETTLED:
            self._say(f"memory once settled: {settled.slope:+,.0f} KiB/min in the last {settled.seconds:.0f} s")
        else:
            self._say(f"too short to tell whether memory is flat: that takes {2 * SETTLED / (1 - VIOLENT):.0f} s")
        self._reasons += self._memory.faults()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port
