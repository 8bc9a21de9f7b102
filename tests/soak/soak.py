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
from tests.soak.stage import FAULTS, SoakWorld
from tests.soak.verdict import (
    MIN_LEAK_WINDOW,
    MemoryHistory,
    ProcessMemory,
    StateCheck,
    check_state,
    exposed_counts,
    find_count_differences,
    find_counter_resets,
)
from tests.support.worlds import Samples

__all__ = ["Soak", "SoakPlan"]

WORKSPACES = ("acme", "beta")
KEYS = {"acme": KEY, "beta": "sk_" + "be7a0000" * 8}
INCIDENTS = ("platform-outage", "revoked-token", "rate-limit-storm", "slow-video")
RATE_LIMIT = 20_000
"""Requests a minute: enough to read such a rate, and to catch up."""

SAMPLE_INTERVAL = 0.5
WARM_UP = 5.0
"""Seconds that a process takes to be as large as it wants to be."""

MIN_MEMORY_WINDOW = 10.0
"""Seconds for which a process has to be watched for its memory to say anything."""

RESTART_SHARE = 0.4
"""The part of a soak, from its beginning, in which processes are killed: the last one lives for all the rest."""

CATCH_UP_TIMEOUT = 300.0
"""Seconds after which an exporter that is left in peace has to have counted everything."""

MAX_BYTES_PER_OBSERVATION, MIN_STATE_LIMIT = 400, 8 << 20
"""Bytes that the state may take for a sighting, and altogether where there are few."""

MAX_REPORTED = 20
"""Logs that are named where many are wrong."""

PROMETHEUS_CONFIG = """\
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - job_name: late
    static_configs: [{targets: ["%s"]}]
"""


class SoakPlan(NamedTuple):
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

    def __init__(self, folder: Path, plan: SoakPlan, prometheus: str, print_line: Callable[[str], None]) -> None:
        self._folder = folder
        self._plan = plan
        self._binary = prometheus
        self._print = print_line
        self._random = Random(plan.seed)
        self._world = SoakWorld(plan.seed, plan.rate)
        self._server = LateServer(self._world, rate_limit=RATE_LIMIT)
        self._server.keys.update(KEYS.values())
        self._memory = MemoryHistory()
        self._problems: list[str] = []
        self._event_counts: dict[str, int] = {}
        self._workspaces: tuple[str, ...] = WORKSPACES[:1]
        self._intervals = deque(("1s", "900ms"))
        self._port = _free_port()
        self._exporter = ExporterProcess(folder, "run", "--config.file=late.yml")
        self._is_running = False
        self._started_at = self._reported_at = time.monotonic()
        self._initial_log_count = len(self._world.publishing)
        self._launched_at = 0.0
        self._sampled_at = 0.0
        self._pause_event = threading.Event()

    def run(self) -> list[str]:
        """Go through it; returns what was wrong."""
        with ExitStack() as stack:
            stack.enter_context(self._server)
            for name, key in KEYS.items():
                file = self._folder / f"{name}.key"
                file.touch(0o600)
                file.write_text(key)
            self._configure()
            stack.callback(self._exporter.kill)
            self._start()
            config = PROMETHEUS_CONFIG % f"127.0.0.1:{self._port}"
            database = stack.enter_context(run_prometheus(self._binary, self._folder, config))
            self._started_at = time.monotonic()
            self._disturb()
            self._catch_up()
            self._evaluate(database)
        return self._problems

    def _configure(self) -> None:
        rows = [
            f"  - {{name: {name}, api_key_file: {name}.key, api_base_url: '{self._server.url}'}}"
            for name in self._workspaces
        ]
        lines = [
            "workspaces:",
            *rows,
            "api: {timeout: 2s}",
            f"poll: {{interval: {self._intervals[0]}, reconcile-interval: 1m}}",
            "state: {url: 'sqlite:///state.db'}",
            f"web: {{listen-address: '127.0.0.1:{self._port}'}}",
        ]
        file = self._folder / "late.yml"
        file.with_suffix(".new").write_text("\n".join(lines) + "\n")
        file.with_suffix(".new").replace(file)

    # What happens.

    def _disturb(self) -> None:
        """Let one thing after the other go wrong until the time is over."""
        end = self._started_at + self._plan.seconds
        for event in self._events():
            if time.monotonic() >= end:
                return
            name, run = event
            self._event_counts[name] = self._event_counts.get(name, 0) + 1
            run()
            self._pause(min(self._random.uniform(0.5, 4), max(0.0, end - time.monotonic())))

    def _events(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """Everything in an order of its own, again and again; the first ones are those that matter most."""
        restarts: list[tuple[str, Callable[[], None]]] = [("kill", self._kill), ("restart", self._restart)]
        faults: list[tuple[str, Callable[[], None]]] = [
            ("reload", self._reload),
            ("unavailable", self._stop_api),
            ("slow", self._slow_api),
            ("incident", self._start_incident),
            ("backup", self._back_up),
            *((name, partial(self._inject_fault, name)) for name in FAULTS),
        ]
        yield from (faults[0], restarts[0], faults[1], restarts[1])
        min_lifetime = max(10.0, self._plan.seconds / 12)
        while True:
            self._random.shuffle(faults)
            for event in faults:
                yield event
                if not self._keeps_process and time.monotonic() - self._launched_at >= min_lifetime:
                    yield self._random.choice(restarts)

    @property
    def _keeps_process(self) -> bool:
        """Whether the process that runs is to live on."""
        return time.monotonic() - self._started_at >= RESTART_SHARE * self._plan.seconds

    def _inject_fault(self, name: str) -> None:
        self._server.fault = FAULTS[name](self._server, self._random)
        self._pause(self._random.uniform(1, 4))
        self._server.fault = None

    def _stop_api(self) -> None:
        self._server.stop()
        self._pause(self._random.uniform(1, 4))
        self._server.start()

    def _slow_api(self) -> None:
        self._server.delay = self._random.uniform(0.1, 0.6)
        self._pause(self._random.uniform(2, 5))
        self._server.delay = 0.0

    def _start_incident(self) -> None:
        with self._server.lock:
            self._world.start_incident(self._random.choice(INCIDENTS), self._random.uniform(10, 60))

    def _back_up(self) -> None:
        """Copy the state while it is written to; the copy has to be whole."""
        copy = self._folder / "copy.db"
        for arguments in (("backup", "copy.db", "--config.file=late.yml"), ("check", "--state.url=sqlite:///copy.db")):
            with ExporterProcess(self._folder, "state", *arguments) as program:
                if program.wait_exit(CATCH_UP_TIMEOUT):
                    self._problems.append(f"state {arguments[0]}: {program.stdout}{program.stderr}")
        copy.unlink(missing_ok=True)

    def _reload(self) -> None:
        """Take the second workspace in or out; once the last process runs, change the pace of both."""
        self._workspaces = WORKSPACES if len(self._workspaces) == 1 or self._keeps_process else WORKSPACES[:1]
        self._intervals.rotate()
        self._configure()
        self._send_reload()

    def _send_reload(self) -> None:
        # A process that has just begun knows no signal yet, and reads the new configuration anyway.
        if self._is_serving():
            self._exporter.send_signal(signal.SIGHUP)

    def _kill(self) -> None:
        self._check_log()
        self._exporter.kill()
        self._start_after_pause()

    def _restart(self) -> None:
        if not self._is_serving():
            return  # a process that has just begun knows no signal yet
        self._check_log()
        code = self._exporter.stop()
        if code:
            self._problems.append(f"SIGTERM ended it with {code}: {self._exporter.stderr[-500:]}")
        self._start_after_pause()

    def _start_after_pause(self) -> None:
        self._is_running = False
        self._pause(self._random.choice((0.0, 0.0, 1.0, 2.0)))
        self._start()

    def _start(self) -> None:
        self._exporter.start()
        self._memory.processes.append(ProcessMemory([]))
        self._is_running, self._launched_at = True, time.monotonic()

    def _check_log(self) -> None:
        """Look at what a process has logged before that is gone."""
        if "Traceback" in self._exporter.stderr:
            self._problems.append(f"a bug: {self._exporter.stderr[-2000:]}")

    def _is_serving(self) -> bool:
        try:
            return http_get(f"http://127.0.0.1:{self._port}/-/healthy", timeout=5).status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False

    # What is seen meanwhile.

    def _pause(self, seconds: float) -> None:
        """Let time pass, and look."""
        end = time.monotonic() + seconds
        while True:
            self._observe()
            remaining = end - time.monotonic()
            if remaining <= 0:
                return
            self._pause_event.wait(min(remaining, SAMPLE_INTERVAL))

    def _observe(self) -> None:
        now = time.monotonic()
        if self._is_running and self._exporter.exit_code is not None:
            self._problems.append(f"it ended with {self._exporter.exit_code}: {self._exporter.stderr[-2000:]}")
            self._start()
        if self._is_running and now - self._sampled_at >= SAMPLE_INTERVAL and now - self._launched_at >= WARM_UP:
            self._sampled_at = now
            self._memory.processes[-1].samples.append((now - self._started_at, self._resident_kib()))
        if now - self._reported_at >= max(1.0, min(10.0, self._plan.seconds / 12)):
            self._reported_at = now
            self._print(self._progress(now - self._started_at))

    def _resident_kib(self) -> float:
        """KiB of memory."""
        status = Path(f"/proc/{self._exporter.pid}/status").read_text("ascii")
        return float(status.partition("VmRSS:")[2].split()[0]) if "VmRSS:" in status else 0.0

    def _scrape(self) -> Samples:
        """The metrics; none while nobody serves them."""
        try:
            response = http_get(f"http://127.0.0.1:{self._port}/metrics", timeout=5)
        except (OSError, http.client.HTTPException):
            return Samples()
        return Samples.parse(response.text)

    def _state_bytes(self) -> int:
        return sum(file.stat().st_size for file in self._folder.glob("state.db*"))

    def _progress(self, seconds: float) -> str:
        samples, log_count = self._scrape(), len(self._world.publishing)
        rate = (log_count - self._initial_log_count) / max(seconds, 1)
        counts = [f"{sum(exposed_counts(samples, name).values()):,}" for name in self._workspaces]
        memory = self._resident_kib() / 1024 if self._is_running else 0.0
        return (
            f"{seconds:6.0f} s  {log_count:,} logs, {rate:.0f}/s  counted {' and '.join(counts)}"
            f"  {memory:.0f} MiB  state {self._state_bytes() / 1e6:.1f} MB  {sum(self._event_counts.values())} happenings"
        )

    # What it comes to.

    def _catch_up(self) -> None:
        """Leave it in peace until it has counted everything, in both workspaces."""
        self._print("the play is over; catching up")
        with self._server.lock:
            self._world.is_stopped = True
        self._workspaces = WORKSPACES
        self._configure()
        start = time.monotonic()
        is_reloaded = False
        while time.monotonic() < start + CATCH_UP_TIMEOUT:
            if not is_reloaded and self._is_serving():
                self._send_reload()
                is_reloaded = True
            self._pause(4 * SAMPLE_INTERVAL)
            if not any(ledger.problems for ledger in self._check_workspaces().values()):
                break
        self._print(f"caught up within {time.monotonic() - start:.1f} s")
        self._pause(3.0)  # whatever would be counted again, is now

    def _check_workspaces(self) -> dict[str, StateCheck]:
        """What the state has of every workspace."""
        with open_snapshot(f"sqlite:///{self._folder / 'state.db'}") as records:
            return {name: check_state(self._world, records, name) for name in WORKSPACES}

    def _evaluate(self, database: PrometheusApi) -> None:
        samples, checks = self._scrape(), self._check_workspaces()
        for name, check in checks.items():
            self._problems += check.problems[:MAX_REPORTED]
            self._problems += [
                f"{name}: {line}" for line in find_count_differences(check.counts, exposed_counts(samples, name))
            ]
            logs = check.counts.total()
            self._print(f"{name}: {logs:,} logs counted in their final status, in {len(check.counts)} kinds")
        reconciled_count = samples.sum("late_exporter_reconciled_logs_total")
        self._print(f"{len(self._world.deleted)} logs were deleted; {reconciled_count:.0f} were found by walks alone")
        self._audit()
        self._check_log()
        self._problems += find_counter_resets(database, time.monotonic() - self._started_at + 60)
        series = database.value('count({__name__=~"late_.+"})')
        self._print(f"Prometheus: {series or 0:,.0f} series")
        code = self._exporter.stop()
        if code:
            self._problems.append(f"SIGTERM ended it with {code} at last")
        self._is_running = False
        self._evaluate_state_size()
        self._evaluate_memory()
        self._print(", ".join(f"{name} {count}" for name, count in sorted(self._event_counts.items())))

    def _audit(self) -> None:
        with ExporterProcess(self._folder, "audit", "--config.file=late.yml", "--format=json") as audit:
            code = audit.wait_exit(CATCH_UP_TIMEOUT)
            if code not in (0, 1) or not audit.stdout:
                self._problems.append(f"the audit ended with {code}: {audit.stderr[-500:]}")
                return
            report = json.loads(audit.stdout)
        log_count = sum(feed["logs"] for feed in report["feeds"])
        self._print(f"audit: {log_count:,} logs compared, {report['missing']} missing, {report['extra']} extra")
        if code or not report["ok"]:
            errors = [f"{feed['workspace']} {feed['feed']} {feed['error']}" for feed in report["feeds"]]
            self._problems.append(f"the audit found differences: {report['missing']} missing, {errors}")

    def _evaluate_state_size(self) -> None:
        with open_snapshot(f"sqlite:///{self._folder / 'state.db'}") as records:
            sightings = sum(1 for scope in records.scopes for _ in records.recorded_statuses(scope))
        size = self._state_bytes()
        self._print(f"state: {size:,} bytes, {size / max(sightings, 1):.0f} for each of {sightings:,} sightings")
        if size > max(MIN_STATE_LIMIT, MAX_BYTES_PER_OBSERVATION * sightings):
            self._problems.append(f"the state is too large: {size:,} bytes for {sightings:,} sightings")

    def _evaluate_memory(self) -> None:
        for number, process in enumerate(self._memory.processes, 1):
            if process.seconds >= MIN_MEMORY_WINDOW:
                first, last = process.samples[0][1], process.samples[-1][1]
                self._print(
                    f"memory of process {number}: {process.seconds:.0f} s, {first / 1024:.1f} to {last / 1024:.1f} MiB,"
                    f" {process.kib_per_minute:+,.0f} KiB/min"
                )
        first, second = (size / 1024 for size in self._memory.halves())
        self._print(
            f"memory of all {len(self._memory.processes)} processes:"
            f" {first:.1f} MiB in the first half, {second:.1f} MiB in the second"
        )
        second_half = self._memory.longest_process.second_half
        if second_half.seconds >= MIN_LEAK_WINDOW:
            self._print(
                f"memory once settled: {second_half.kib_per_minute:+,.0f} KiB/min in the last {second_half.seconds:.0f} s"
            )
        else:
            self._print(
                f"too short to tell whether memory is flat: that takes {2 * MIN_LEAK_WINDOW / (1 - RESTART_SHARE):.0f} s"
            )
        self._problems += self._memory.find_problems()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
