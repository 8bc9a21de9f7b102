"""Soak test: the exporter counts for a long time while its API, its process and its configuration change and fail."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from random import Random
from typing import NamedTuple, TypeAlias

from late_exporter.store.snapshot import Snapshot
from tests.e2e.late import LateServer
from tests.e2e.program import ExporterProcess
from tests.e2e.prometheus import PrometheusApi, run_prometheus
from tests.soak.checks import (
    MIN_LEAK_WINDOW,
    StateCheck,
    check_state,
    exposed_counts,
    find_count_differences,
    find_counter_resets,
)
from tests.soak.exporter import CONFIG_FLAG, SAMPLE_INTERVAL, WORKSPACES, SoakExporter
from tests.soak.world import FAULTS, SoakWorld

__all__ = ["Soak", "SoakPlan"]

Event: TypeAlias = tuple[str, Callable[[], None]]
"""Name of an event and the function that runs it."""

ALL_WORKSPACES = tuple(WORKSPACES)
FIRST_WORKSPACE = ALL_WORKSPACES[:1]
INCIDENTS = ("platform-outage", "revoked-token", "rate-limit-storm", "slow-video")
RATE_LIMIT = 20_000
"""Requests per minute, enough to catch up at the rate of a soak."""

MIN_MEMORY_WINDOW = 10.0
"""Seconds of memory samples below which a process is not reported."""

RESTART_SHARE = 0.4
"""Share of a soak, from its start, in which processes are killed and restarted. The last process lives for the rest."""

CATCH_UP_TIMEOUT = 300.0
"""Seconds in which the exporter has to count everything once the API is healthy again."""

MAX_BYTES_PER_OBSERVATION, MIN_STATE_LIMIT = 400, 8 << 20
"""Allowed size of the state in bytes: per observation, but at least the second number."""

MAX_REPORTED = 20
"""Number of wrong logs that are reported by id."""

PROMETHEUS_CONFIG = """\
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - job_name: late
    static_configs: [{targets: ["%s"]}]
"""


class SoakPlan(NamedTuple):
    """Duration in seconds, publishing logs per second, and seed of a soak."""

    seconds: float
    rate: float
    seed: int


class Soak:
    """One soak.

    Args:
        folder: Working directory of the exporter.
        plan: Duration, rate and seed.
        print_line: Function that prints a line of the report.
    """

    def __init__(self, folder: Path, plan: SoakPlan, print_line: Callable[[str], None]) -> None:
        self._plan = plan
        self._print = print_line
        self._random = Random(plan.seed)
        self._world = SoakWorld(plan.seed, plan.rate)
        self._server = LateServer(self._world, rate_limit=RATE_LIMIT)
        self._server.keys.update(WORKSPACES.values())
        self._server.reserve_port()
        self._exporter = SoakExporter(folder, self._server.url)
        self._workspaces = FIRST_WORKSPACE
        self._problems: list[str] = []
        self._event_counts = Counter[str]()
        self._started_at = self._reported_at = time.monotonic()
        self._initial_log_count = len(self._world.publishing)

    def run(self, prometheus: str) -> list[str]:
        """Run the soak and return the problems found.

        Args:
            prometheus: Path of the Prometheus binary.
        """
        with ExitStack() as stack:
            stack.enter_context(self._server)
            self._exporter.write_keys()
            self._exporter.configure(self._workspaces)
            stack.callback(self._exporter.kill)
            self._exporter.start()
            config = PROMETHEUS_CONFIG % self._exporter.address
            database = stack.enter_context(run_prometheus(prometheus, self._exporter.folder, config))
            self._started_at = time.monotonic()
            self._disturb()
            self._catch_up()
            self._evaluate(database)
        return self._problems

    # Events.

    def _disturb(self) -> None:
        """Run one event after the other until the time of the plan is over."""
        end = self._started_at + self._plan.seconds
        for name, run in self._events():
            if time.monotonic() >= end:
                return
            self._event_counts[name] += 1
            run()
            self._pause(min(self._random.uniform(0.5, 4), max(0.0, end - time.monotonic())))

    def _events(self) -> Iterator[Event]:
        """Yield all events again and again, in random order after the first, most important ones."""
        restarts: list[Event] = [("kill", self._kill), ("restart", self._restart)]
        faults: list[Event] = [
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
                if not self._keeps_process and time.monotonic() - self._exporter.started_at >= min_lifetime:
                    yield self._random.choice(restarts)

    @property
    def _keeps_process(self) -> bool:
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
        """Back up the state while the exporter writes to it, and check the copy."""
        folder = self._exporter.folder
        for arguments in (("backup", "copy.db", CONFIG_FLAG), ("check", "--state.url=sqlite:///copy.db")):
            with ExporterProcess(folder, "state", *arguments) as command:
                if command.wait_exit(CATCH_UP_TIMEOUT):
                    self._problems.append(f"state {arguments[0]} failed: {command.stdout}{command.stderr}")
        (folder / "copy.db").unlink(missing_ok=True)

    def _reload(self) -> None:
        """Add or remove the second workspace. The last process keeps both, and only changes its poll interval."""
        add = self._workspaces == FIRST_WORKSPACE or self._keeps_process
        self._workspaces = ALL_WORKSPACES if add else FIRST_WORKSPACE
        self._exporter.configure(self._workspaces)
        self._exporter.reload()

    def _kill(self) -> None:
        self._check_log()
        self._exporter.kill()
        self._start_after_pause()

    def _restart(self) -> None:
        if not self._exporter.is_serving():
            return  # it does not handle signals yet
        self._check_log()
        if code := self._exporter.stop():
            self._problems.append(f"SIGTERM: exit code {code}: {self._exporter.stderr[-500:]}")
        self._start_after_pause()

    def _start_after_pause(self) -> None:
        self._pause(self._random.choice((0.0, 0.0, 1.0, 2.0)))
        self._exporter.start()

    def _check_log(self) -> None:
        """Check the log of the current process, which the next one overwrites."""
        if "Traceback" in self._exporter.stderr:
            self._problems.append(f"traceback in the log: {self._exporter.stderr[-2000:]}")

    # Observation.

    def _pause(self, seconds: float) -> None:
        """Wait, and observe the exporter meanwhile."""
        end = time.monotonic() + seconds
        while True:
            self._observe()
            remaining = end - time.monotonic()
            if remaining <= 0:
                return
            time.sleep(min(remaining, SAMPLE_INTERVAL))

    def _observe(self) -> None:
        now = time.monotonic()
        if self._exporter.is_running and self._exporter.exit_code is not None:
            self._problems.append(f"ended with exit code {self._exporter.exit_code}: {self._exporter.stderr[-2000:]}")
            self._exporter.start()
        self._exporter.sample_memory(now - self._started_at)
        if now - self._reported_at >= max(1.0, min(10.0, self._plan.seconds / 12)):
            self._reported_at = now
            self._print(self._progress(now - self._started_at))

    def _progress(self, seconds: float) -> str:
        samples, log_count = self._exporter.scrape(), len(self._world.publishing)
        rate = (log_count - self._initial_log_count) / max(seconds, 1)
        counts = [f"{sum(exposed_counts(samples, name).values()):,}" for name in self._workspaces]
        return (
            f"{seconds:6.0f} s  {log_count:,} logs, {rate:.0f}/s  counted {' and '.join(counts)}"
            f"  {len(samples):,} samples"
            f"  memory {self._exporter.memory_kib() / 1024:.0f} MiB  state {self._exporter.state_bytes() / 1e6:.1f} MB"
            f"  {self._event_counts.total()} events"
        )

    # Evaluation.

    def _catch_up(self) -> None:
        """Leave the exporter alone until it has counted everything, in both workspaces."""
        self._print("no more events; catching up")
        with self._server.lock:
            self._world.is_stopped = True
        self._workspaces = ALL_WORKSPACES
        self._exporter.configure(self._workspaces)
        start = time.monotonic()
        is_reloaded = False
        pause = 4 * SAMPLE_INTERVAL
        while time.monotonic() < start + CATCH_UP_TIMEOUT + self._plan.seconds / 4:
            is_reloaded = is_reloaded or self._exporter.reload()
            self._pause(pause)
            check_started = time.monotonic()
            if not any(check.problems for check in self._check_workspaces().values()):
                break
            # With hundreds of thousands of logs a check takes seconds, in which the API does not respond.
            pause = max(4 * SAMPLE_INTERVAL, 5 * (time.monotonic() - check_started))
        self._print(f"caught up in {time.monotonic() - start:.1f} s")
        self._pause(3.0)  # a log that is counted twice, is counted again by now

    def _check_workspaces(self) -> dict[str, StateCheck]:
        with Snapshot(self._state_url) as snapshot:
            return {name: check_state(self._world, snapshot, name) for name in ALL_WORKSPACES}

    @property
    def _state_url(self) -> str:
        return f"sqlite:///{self._exporter.folder / 'state.db'}"

    def _evaluate(self, database: PrometheusApi) -> None:
        self._evaluate_counts()
        self._audit()
        self._check_log()
        self._problems += find_counter_resets(database, time.monotonic() - self._started_at + 60)
        series = database.value('count({__name__=~"late_.+"})')
        self._print(f"Prometheus: {series or 0:,.0f} series")
        if code := self._exporter.stop():
            self._problems.append(f"SIGTERM at the end: exit code {code}")
        self._evaluate_state_size()
        self._evaluate_memory()
        self._print(", ".join(f"{name} {count}" for name, count in sorted(self._event_counts.items())))

    def _evaluate_counts(self) -> None:
        samples = self._exporter.scrape()
        for name, check in self._check_workspaces().items():
            self._problems += check.problems[:MAX_REPORTED]
            differences = find_count_differences(check.counts, exposed_counts(samples, name))
            self._problems += [f"{name}: {line}" for line in differences]
            log_count, series_count = check.counts.total(), len(check.counts)
            self._print(f"{name}: {log_count:,} logs counted in their final status, in {series_count} series")
        reconciled_count = samples.sum("late_exporter_reconciled_logs_total")
        self._print(f"{len(self._world.deleted)} logs were deleted; reconciliation found {reconciled_count:.0f} logs")

    def _audit(self) -> None:
        with ExporterProcess(self._exporter.folder, "audit", CONFIG_FLAG, "--format=json") as audit:
            code = audit.wait_exit(CATCH_UP_TIMEOUT + self._plan.seconds)  # as long as it took to write the logs
            if code not in (0, 1) or not audit.stdout:
                self._problems.append(f"audit failed with exit code {code}: {audit.stderr[-500:]}")
                return
            report = json.loads(audit.stdout)
        log_count = sum(feed["logs"] for feed in report["feeds"])
        self._print(f"audit: {log_count:,} logs compared, {report['missing']} missing, {report['extra']} extra")
        if code or not report["ok"]:
            errors = [f"{feed['workspace']} {feed['feed']} {feed['error']}" for feed in report["feeds"]]
            self._problems.append(f"audit found differences: {report['missing']} missing, {errors}")

    def _evaluate_state_size(self) -> None:
        with Snapshot(self._state_url) as snapshot:
            observation_count = sum(1 for scope in snapshot.scopes for _ in snapshot.recorded_statuses(scope))
        size = self._exporter.state_bytes()
        per_observation = size / max(observation_count, 1)
        self._print(f"state: {size:,} bytes, {per_observation:.0f} for each of {observation_count:,} observations")
        if size > max(MIN_STATE_LIMIT, MAX_BYTES_PER_OBSERVATION * observation_count):
            self._problems.append(f"the state is too large: {size:,} bytes for {observation_count:,} observations")

    def _evaluate_memory(self) -> None:
        memory = self._exporter.memory
        for number, process in enumerate(memory.processes, 1):
            if process.seconds >= MIN_MEMORY_WINDOW:
                first, last = process.samples[0][1], process.samples[-1][1]
                self._print(
                    f"memory of process {number}: {process.seconds:.0f} s, {first / 1024:.1f} to {last / 1024:.1f} MiB,"
                    f" {process.kib_per_minute:+,.0f} KiB/min"
                )
        before, after = (size / 1024 for size in memory.halves())
        self._print(
            f"memory of all {len(memory.processes)} processes:"
            f" {before:.1f} MiB in the first half, {after:.1f} MiB in the second"
        )
        end = memory.longest_process.second_half
        if end.seconds >= MIN_LEAK_WINDOW:
            self._print(f"memory trend: {end.kib_per_minute:+,.0f} KiB/min in the last {end.seconds:.0f} s")
        else:
            min_seconds = 2 * MIN_LEAK_WINDOW / (1 - RESTART_SHARE)
            self._print(f"memory trend: unknown, a soak of at least {min_seconds:.0f} s is needed")
        self._problems += memory.find_problems()
