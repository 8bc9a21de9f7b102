"""Replicas that are killed, paused, stopped, reloaded and cut off while a Prometheus scrapes them all the time."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import filterfalse
from random import Random
from typing import TypeVar

from late_exporter.commands.state import check_state
from tests.e2e.program import ExporterProcess, wait_equal
from tests.e2e.prometheus import PrometheusApi, ResultRow
from tests.e2e.replicas import LEASE, LOGS_SELECTOR, Replicas, Totals, scraped, series_of
from tests.e2e.traffic import LOGS
from tests.support.postgres import PASSWORD, Cluster
from tests.support.proxy import Proxy

FAULTS = ("pause", "cut off", "kill", "reload", "stop", "end session")
RESTARTS = {"fast restart": signal.SIGINT, "immediate restart": signal.SIGQUIT}
"""Restarts of the database server, and the signals that stop it."""

END_SESSION = (
    "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_locks JOIN pg_stat_activity USING (pid)"
    " WHERE locktype = 'advisory' AND datname = current_database() ORDER BY random() LIMIT 1) AS session"
)

LOOK_BACK = 30 * 86_400
"""Seconds before the end of a run, and more: a Prometheus has the samples of one run only."""

WORKSPACE_SELECTOR = '{job="late", workspace!=""}'

ResultT = TypeVar("ResultT")

COMPARE_TIMEOUT = 300.0
"""Seconds in which everything has to be counted after the last fault, also on a busy machine."""

COUNTER_SUFFIXES = ("_total", "_bucket", "_count", "_sum")


class Faults:
    """Kills, pauses, stops, reloads and cuts off replicas, of which one is always left alone, and ends sessions.

    Args:
        replicas: The replicas.
        networks: Network of each of them.
        seed: Seed of the faults, but not of their times.
        cluster: Database server to restart.

    Attributes:
        counts: Number of faults by kind.
        problems: Processes that ended by themselves or logged what they must not.
    """

    def __init__(self, replicas: Replicas, networks: Sequence[Proxy], seed: int, cluster: Cluster) -> None:
        self._processes, self._networks, self._url = replicas.processes, networks, replicas.url
        self._draw = Random(seed)
        self._cluster = cluster
        self._kinds = itertools.cycle((*FAULTS, *RESTARTS))
        self._ends: dict[int, tuple[float, Callable[[], object]]] = {}
        self.counts = Counter[str]()
        self.problems: list[str] = []

    def run(self, seconds: float) -> None:
        """Cause faults for a time, on a slow machine until there was one of each kind, then end all of them."""
        start, pause = time.monotonic(), threading.Event()
        while (elapsed := time.monotonic() - start) < seconds or (
            elapsed < 5 * seconds and not self.counts.keys() >= {*FAULTS, *RESTARTS}
        ):
            self._end_faults(time.monotonic())
            idle = [number for number in range(len(self._processes)) if number not in self._ends]
            for number in idle:
                self._require_running(self._processes[number])
            if len(idle) > 1:
                self._cause_fault(self._draw.choice(idle))
            pause.wait(self._draw.uniform(0.3, 1.5))
        self._end_faults(float("inf"))

    def check_logs(self) -> None:
        """Check the logs of the current processes; a restart overwrites them."""
        for process in self._processes:
            self._check_log(process)

    def _end_faults(self, now: float) -> None:
        for number, (until, finish) in list(self._ends.items()):
            if now >= until:
                finish()
                del self._ends[number]

    def _cause_fault(self, number: int) -> None:
        process, network, draw = self._processes[number], self._networks[number], self._draw
        kind, seconds = next(self._kinds), draw.uniform(1, LEASE)
        if kind in ("reload", "stop") and not process.is_listening:
            kind = "kill"  # It does not handle signals yet.
        self.counts[kind] += 1
        finish: Callable[[], object] = partial(self._restart, process)
        if kind in RESTARTS:
            self._cluster.stop(RESTARTS[kind])
            self._cluster.start()
            return
        if kind == "end session":
            Cluster.execute(self._url, END_SESSION)
            return
        if kind == "reload":
            process.send_signal(signal.SIGHUP)
            return
        if kind == "kill":
            process.kill()
        elif kind == "stop":
            if code := process.stop():
                self.problems.append(f"SIGTERM: exit code {code}: {process.stderr[-2000:]}")
        elif kind == "cut off":
            network.hang()
            seconds, finish = LEASE + seconds, draw.choice((network.heal, network.resume))
        else:
            process.send_signal(signal.SIGSTOP)
            seconds, finish = LEASE + seconds, partial(process.send_signal, signal.SIGCONT)
        self._ends[number] = time.monotonic() + seconds, finish

    def _require_running(self, process: ExporterProcess) -> None:
        """Start a process again that has ended, although none does so by itself."""
        if process.exit_code is not None:
            self.problems.append(f"ended with exit code {process.exit_code}: {process.stderr[-2000:]}")
            self._restart(process)

    def _restart(self, process: ExporterProcess) -> None:
        self._check_log(process)
        process.start()

    def _check_log(self, process: ExporterProcess) -> None:
        if "Traceback" in process.stderr:
            self.problems.append(f"traceback in the log: {process.stderr[-2000:]}")
        if PASSWORD in process.stderr:
            self.problems.append("the password of the database is in the log")


def compare(
    replicas: Replicas,
    prometheus: PrometheusApi,
    before: Totals,
    is_expected: Callable[[str], object],
) -> Iterator[str]:
    """Yield how the state and Prometheus differ from the logs of the APIs, and counters that have fallen.

    Args:
        replicas: The replicas.
        prometheus: A Prometheus that scrapes them.
        before: Logs that there were at its first scrape.
        is_expected: Function that returns whether a counter may have fallen or be missing.
    """
    truth = replicas.truth()
    for place, read in (("the state", replicas.stored), ("Prometheus", lambda: scraped(prometheus))):
        yield from find_differences(place, truth, wait_for(truth, read))
    rows = prometheus.query(f"{LOGS_SELECTOR}[{LOOK_BACK}s]")
    increases = Totals({series_of(row["metric"]): query_increase(prometheus, row) for row in rows})
    yield from find_differences("increase()", truth - before, increases)
    yield from filterfalse(is_expected, find_falls(prometheus))
    # A workspace that is handed over in this moment is missing, and is back some seconds later.
    yield from wait_for(list[str](), lambda: list(filterfalse(is_expected, find_missing(prometheus))))
    yield from check_state(replicas.url, None)


def wait_for(expected: ResultT, read: Callable[[], ResultT]) -> ResultT:
    """Wait until a function returns what is expected, and return its last result, also if that is something else."""
    try:
        wait_equal(expected, read, timeout=COMPARE_TIMEOUT)
    except AssertionError:
        return read()
    return expected


def find_differences(place: str, expected: Totals, actual: Totals) -> Iterator[str]:
    """Yield the series that do not have the expected number of logs."""
    for series in sorted(expected | actual):
        if expected[series] != actual[series]:
            yield f"{'/'.join(series)}: there are {expected[series]:,} logs, {place} has {actual[series]:,}"


def find_falls(prometheus: PrometheusApi) -> Iterator[str]:
    """Yield the counters of workspaces that fell."""
    for name in _counters(prometheus):
        for row in prometheus.query(f"resets({name}{WORKSPACE_SELECTOR}[{LOOK_BACK}s]) > 0"):
            yield f"{name}{row['metric']} fell {row['value'][1]} times"


def find_missing(prometheus: PrometheusApi) -> Iterator[str]:
    """Yield the counters of workspaces that are missing now."""
    for name in _counters(prometheus):
        family = f"{name}{WORKSPACE_SELECTOR}"
        for row in prometheus.query(f"last_over_time({family}[{LOOK_BACK}s]) unless {family}"):
            yield f"{name}{row['metric']} vanished"


def _counters(prometheus: PrometheusApi) -> list[str]:
    names = prometheus.call_api("label/__name__/values")
    return [name for name in names if name.startswith("late_") and name.endswith(COUNTER_SUFFIXES)]


def query_increase(prometheus: PrometheusApi, row: ResultRow) -> int:
    """Return what ``increase()`` says of a counter between its first and its last sample.

    Over that range, and a millisecond because Prometheus 3 excludes its start, it extrapolates nothing that matters.
    """
    assert row["metric"]["instance"] == "late-exporter"
    first_time = float(row["values"][0][0])
    last_time = float(row["values"][-1][0])
    milliseconds = round((last_time - first_time) * 1000) + 1
    labels = ", ".join(f'{name}="{value}"' for name, value in row["metric"].items() if name != "__name__")
    value = prometheus.value(f"increase({LOGS}{{{labels}}}[{milliseconds}ms] @ {last_time:.3f})")
    return round(value or 0.0)
