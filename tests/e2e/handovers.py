"""Replicas that are killed, paused, stopped, reloaded and cut off while a Prometheus scrapes them all the time."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from random import Random

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

LOOK_BACK = "30d"
"""The time of a run, and more: a Prometheus has the samples of one run only."""

SELECTOR = '{job="late", workspace!="", outcome!="store_error"}'
"""Counters of workspaces, except for polls that could not be saved: they are shown at once, and lost with the process.
"""

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
    """

    def __init__(self, replicas: Replicas, networks: Sequence[Proxy], seed: int, cluster: Cluster) -> None:
        self._replicas = replicas
        self._networks = networks
        self._draw = Random(seed)
        self._cluster = cluster
        self._kinds = itertools.cycle((*FAULTS, *RESTARTS))
        self._ends: dict[int, tuple[float, Callable[[], object]]] = {}
        self.counts = Counter[str]()

    def run(self, seconds: float) -> None:
        """Cause faults for a time, on a slow machine until there was one of each kind, then end all of them."""
        processes = self._replicas.processes
        start, pause = time.monotonic(), threading.Event()
        while (elapsed := time.monotonic() - start) < seconds or (
            elapsed < 5 * seconds and not self.counts.keys() >= {*FAULTS, *RESTARTS}
        ):
            self._end_faults(time.monotonic())
            idle = [number for number in range(len(processes)) if number not in self._ends]
            assert [processes[number].stderr for number in idle if processes[number].exit_code is not None] == []
            if len(idle) > 1:
                self._cause_fault(self._draw.choice(idle))
            pause.wait(self._draw.uniform(0.3, 1.5))
        self._end_faults(float("inf"))

    def _end_faults(self, now: float) -> None:
        for number, (until, finish) in list(self._ends.items()):
            if now >= until:
                finish()
                del self._ends[number]

    def _cause_fault(self, number: int) -> None:
        process = self._replicas.processes[number]
        network = self._networks[number]
        kind = next(self._kinds)
        seconds = self._draw.uniform(1, LEASE)
        if kind in ("reload", "stop") and not process.is_listening:
            kind = "kill"  # It does not handle signals yet.
        self.counts[kind] += 1
        finish: Callable[[], object] = partial(restart, process)
        match kind:
            case "end session":
                Cluster.execute(self._replicas.url, END_SESSION)
                return
            case "reload":
                process.send_signal(signal.SIGHUP)
                return
            case "kill":
                process.kill()
            case "stop":
                assert process.stop() == 0, process.stderr
            case "cut off":
                network.hang()
                seconds += LEASE
                finish = self._draw.choice((network.heal, network.resume))
            case "pause":
                process.send_signal(signal.SIGSTOP)
                seconds += LEASE
                finish = partial(process.send_signal, signal.SIGCONT)
            case _:
                self._cluster.stop(RESTARTS[kind])
                self._cluster.start()
                return
        self._ends[number] = time.monotonic() + seconds, finish


def restart(process: ExporterProcess) -> None:
    """Check the log of a process that has ended, which is overwritten, and start it again."""
    check_log(process)
    process.start()


def check_log(process: ExporterProcess) -> None:
    """Assert that a process has logged no bug and no secret."""
    log = process.stderr
    assert "Traceback" not in log, log
    assert PASSWORD not in log


def assert_exact(replicas: Replicas, prometheus: PrometheusApi, before: Totals) -> None:
    """Wait until the state and Prometheus have all logs of the APIs, and assert that no counter fell or is missing.

    Args:
        replicas: The replicas.
        prometheus: A Prometheus that scrapes them.
        before: Logs that there were at its first scrape.
    """
    truth = replicas.truth()
    wait_equal(truth, replicas.stored)
    wait_equal(truth, lambda: scraped(prometheus))
    rows = prometheus.query(f"{LOGS_SELECTOR}[{LOOK_BACK}]")
    assert Totals({series_of(row["metric"]): query_increase(prometheus, row) for row in rows}) == truth - before
    assert [*query_counters(prometheus, lambda counter: f"resets({counter}[{LOOK_BACK}]) > 0")] == []
    # A workspace that is handed over in this moment is missing, and is back some seconds later.
    missing = "last_over_time({0}[{1}]) unless {0}"
    wait_equal([], lambda: [*query_counters(prometheus, lambda counter: missing.format(counter, LOOK_BACK))])
    assert check_state(replicas.url, None) == []


def query_counters(prometheus: PrometheusApi, query: Callable[[str], str]) -> Iterator[ResultRow]:
    """Yield the results of a query for each counter of workspaces."""
    for name in prometheus.call_api("label/__name__/values"):
        if name.startswith("late_") and name.endswith(COUNTER_SUFFIXES):
            yield from prometheus.query(query(f"{name}{SELECTOR}"))


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
