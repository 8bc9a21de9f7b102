"""Three replicas that share the work, are killed, paused and stopped, and scraped by a Prometheus all the time."""

from __future__ import annotations

import http.client
import itertools
import json
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

import pytest

from late_exporter.store import open_admin, open_snapshot
from tests.e2e.late import LateServer
from tests.e2e.program import ExporterProcess, wait_equal, wait_until
from tests.e2e.prometheus import PrometheusApi, run_prometheus
from tests.e2e.traffic import LOGS, expected_counts, in_thread
from tests.support.postgres import PASSWORD, Cluster, free_port, without_password
from tests.support.proxy import Proxy

pytestmark = pytest.mark.e2e

SEED = 20261128
WORKSPACES = [f"w{number:02}" for number in range(12)]
LEASE = 3.0
FAULT_SECONDS = 25.0
SCRAPE_SECONDS = 1.0
OBSERVATIONS = 30
"""Consecutive scrapes, over several beats, after which a workspace is taken to stay with its owner."""

Totals: TypeAlias = Counter[tuple[str, ...]]
"""Logs by workspace, platform, action and status."""


class Replicas:
    """Three processes of the exporter on one state, each over a network of its own, and the API of each workspace."""

    def __init__(
        self, folder: Path, url: str, database_port: int, stack: ExitStack, names: Sequence[str] = WORKSPACES
    ) -> None:
        self.url = url
        self.apis = {
            name: stack.enter_context(LateServer(key=f"sk_{number:064x}")) for number, name in enumerate(names)
        }
        self.networks = [stack.enter_context(Proxy(database_port)) for _ in range(3)]
        self.processes = [
            self._create(folder / name, url.replace(f":{database_port}/", f":{network.port}/"), stack)
            for name, network in zip("abc", self.networks, strict=True)
        ]

    def _create(self, folder: Path, url: str, stack: ExitStack) -> ExporterProcess:
        folder.mkdir()
        (folder / "password").write_text(PASSWORD)
        rows = []
        for name, api in self.apis.items():
            (folder / f"{name}.key").write_text(*api.keys)
            rows.append(f"  - {{name: {name}, api_key_file: {name}.key, api_base_url: '{api.url}'}}")
        (folder / "late.yml").write_text("\n".join(["workspaces:", *rows]))
        process = ExporterProcess(
            folder,
            "run",
            "--config.file=late.yml",
            "--poll.interval=1s",
            "--poll.feeds=publishing",
            "--status.feeds=none",
            f"--web.listen-address=127.0.0.1:{free_port()}",
            f"--state.url={without_password(url)}",
            "--state.password-file=password",
            "--state.replicas",
            f"--state.lease-duration={LEASE:g}s",
        )
        stack.callback(process.kill)
        return process

    def start(self) -> None:
        for process in self.processes:
            process.start()
        self.wait_owned()

    def owners(self) -> dict[str, int]:
        """Return the number of the process that shows each workspace."""
        return {
            name: number
            for number, process in enumerate(self.processes)
            for name in {dict(labels).get("workspace", "") for _, labels in process.scrape()} - {""}
        }

    def wait_owned(self) -> None:
        """Wait until all replicas know each other, and all workspaces are shown and synced."""
        wait_until(
            lambda: all(
                process.scrape().get(("late_exporter_cluster_members", ())) == len(self.processes)
                for process in self.processes
            )
        )
        wait_equal(self.apis.keys(), lambda: self.owners().keys())
        for process in self.processes:
            process.wait_ready()

    def wait_settled(self, workspace: str) -> int:
        """Wait until a workspace stays where it is, and return the number of its owner."""
        recent: deque[int | None] = deque(maxlen=OBSERVATIONS)

        def is_settled() -> bool:
            recent.append(self.owners().get(workspace))
            return len(recent) == OBSERVATIONS and len(set(recent)) == 1 and recent[0] is not None

        wait_until(is_settled)
        return recent[0] or 0

    def truth(self) -> Totals:
        """Return the final logs of the APIs."""
        return Counter(
            {
                (name, *labels): count
                for name, api in self.apis.items()
                for labels, count in expected_counts(api.world).items()
            }
        )

    def stored(self) -> Totals:
        """Return the counters in the state."""
        with open_snapshot(self.url) as snapshot:
            values = snapshot.series_values()
        return Counter(
            {
                labels: value.value
                for (family, labels), value in values.items()
                if family == LOGS and labels[-1] != "pending" and isinstance(value.value, int)
            }
        )

    def write_logs(self, stop: threading.Event) -> None:
        """Write logs to all workspaces, of which some are pending for a while, until an event is set."""
        draw, pending = Random(SEED), []
        while not stop.wait(0.03):
            api = self.apis[draw.choice(WORKSPACES)]
            fields: dict[str, Any] = {
                "platform": draw.choice(("instagram", "tiktok", "mastodon")),
                "status": draw.choice(("success", "failed", "pending")),
                "action": draw.choice(("publish", "retry")),
                "durationMs": draw.randrange(50, 9000),
            }
            with api.lock:
                log_id = api.world.insert(time.time() - draw.choice((0, 0, 20)), **fields)
            if fields["status"] == "pending":
                pending.append((api, log_id))
            if len(pending) > 20:
                _settle(*pending.pop(0))
        for each in pending:
            _settle(*each)


def _settle(api: LateServer, log_id: str) -> None:
    with api.lock:
        api.world.change(log_id, "success", durationMs=700)


@pytest.fixture
def replicas(tmp_path: Path, postgres: Cluster, exit_stack: ExitStack) -> Replicas:
    """Return three replicas that are not started yet, whose workspaces have a few logs."""
    new_replicas = Replicas(tmp_path, postgres.create_schema(), postgres.port, exit_stack)
    for number, api in enumerate(new_replicas.apis.values()):
        api.world.publish(5 + number, over=3600)
    return new_replicas


@pytest.fixture
def prometheus(tmp_path: Path, require_tool: Callable[[str], str], replicas: Replicas) -> Iterator[PrometheusApi]:
    """Run a Prometheus that scrapes all replicas, with the relabeling of the documentation."""
    targets = [
        argument.partition("=")[2] for each in replicas.processes for argument in each.arguments if "web." in argument
    ]
    config = {
        "global": {"scrape_interval": f"{SCRAPE_SECONDS:g}s", "scrape_timeout": f"{SCRAPE_SECONDS:g}s"},
        "scrape_configs": [
            {
                "job_name": "late",
                "static_configs": [{"targets": targets}],
                "metric_relabel_configs": [
                    {
                        "source_labels": ["workspace"],
                        "regex": ".+",
                        "target_label": "instance",
                        "replacement": "late-exporter",
                    }
                ],
            }
        ],
    }
    with run_prometheus(require_tool("prometheus"), tmp_path, json.dumps(config)) as api:
        yield api


class Faults:
    """Kills, pauses, stops, reloads and cuts off replicas, of which one is always left alone."""

    def __init__(self, replicas: Replicas) -> None:
        self._processes, self._networks = replicas.processes, replicas.networks
        self._draw = Random(SEED)
        self._kinds = itertools.cycle(("stop", "hole", "kill", "hup", "term"))
        self._ends: dict[int, tuple[float, Callable[[], object]]] = {}
        self.counts = Counter[str]()

    def run(self, seconds: float) -> None:
        """Cause faults for a time, then end all of them."""
        end, pause = time.monotonic() + seconds, threading.Event()
        while time.monotonic() < end:
            self._end_faults(time.monotonic())
            idle = [number for number in range(len(self._processes)) if number not in self._ends]
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
        process, draw = self._processes[number], self._draw
        fault = next(self._kinds)
        self.counts[fault] += 1
        seconds = draw.uniform(1, LEASE)
        if fault == "kill":
            process.kill()
        elif fault == "term":
            assert 0 == process.stop(), process.stderr
        elif fault == "hup":
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGHUP)
            return
        elif fault == "hole":
            network = self._networks[number]
            network.hang()
            self._ends[number] = time.monotonic() + LEASE + seconds, draw.choice((network.heal, network.resume))
            return
        else:
            process.send_signal(signal.SIGSTOP)
            finish = lambda: process.send_signal(signal.SIGCONT)  # noqa: E731 - the end of the fault
            self._ends[number] = time.monotonic() + LEASE + seconds, finish
            return
        self._ends[number] = time.monotonic() + seconds, process.start


def test_every_log_counts_once_whatever_happens_to_replicas(replicas: Replicas, prometheus: PrometheusApi) -> None:
    """In the state and in Prometheus all totals are exact, and no counter is reset by any handover."""
    replicas.start()
    truth = replicas.truth()
    wait_equal(truth, lambda: scraped(prometheus))
    with in_thread(replicas.write_logs):
        faults = Faults(replicas)
        faults.run(FAULT_SECONDS)
    assert {"kill", "stop", "term", "hup", "hole"} == faults.counts.keys()
    wait_equal(replicas.truth(), replicas.stored)
    wait_equal(replicas.truth(), lambda: scraped(prometheus))
    increases, resets = measure(prometheus)
    assert replicas.truth() - truth == increases
    assert 0 == resets
    assert 0 == prometheus.value(f'sum(resets({LOGS}{{job="late"}}[5m]))')
    assert [] == list(open_admin(replicas.url).check())
    for process in replicas.processes:
        assert "Traceback" not in process.stderr
        assert PASSWORD not in process.stderr


def scraped(prometheus: PrometheusApi) -> Totals:
    """Return the current values of the counters of final logs in Prometheus."""
    rows = prometheus.query(f'{LOGS}{{job="late", status!="pending"}}')
    return Counter({series_of(row["metric"]): int(float(row["value"][1])) for row in rows if float(row["value"][1])})


def series_of(metric: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(metric[name] for name in ("workspace", "platform", "action", "status"))


def measure(prometheus: PrometheusApi) -> tuple[Totals, int]:
    """Return the increases of the counters as ``increase`` measures them, without extrapolation, and their resets."""
    increases, resets = Totals(), 0
    for row in prometheus.query(f'{LOGS}{{job="late", status!="pending"}}[5m]'):
        assert "late-exporter" == row["metric"]["instance"]
        values = [float(value) for _, value in row["values"]]
        for before, after in itertools.pairwise(values):
            resets += after < before
            increases[series_of(row["metric"])] += int(after if after < before else after - before)
    return +increases, resets


def test_a_paused_replica_shows_nothing_that_is_not_its_own(replicas: Replicas) -> None:
    """When it continues, others have taken its workspaces over: it shows none with the total of before, and rejoins."""
    replicas.start()
    paused = replicas.processes[wait_until(lambda: replicas.owners().get("w00", -1) + 1) - 1]
    others = [process for process in replicas.processes if process is not paused]
    paused.send_signal(signal.SIGSTOP)
    wait_equal(set(WORKSPACES), lambda: {name for each in others for name in shown(each)})
    with replicas.apis["w00"].lock:
        replicas.apis["w00"].world.publish(9, over=1)
    wait_equal(14.0, lambda: sum(each.scrape().sum(LOGS, workspace="w00") for each in others))
    paused.send_signal(signal.SIGCONT)
    assert paused.scrape().sum(LOGS, workspace="w00") in (0, 14)
    replicas.wait_owned()
    wait_equal(replicas.truth(), replicas.stored)


@pytest.mark.parametrize("held", [b"WITH fenced", b"INSERT INTO late_observation"], ids=["before", "after"])
def test_a_transaction_that_is_late(tmp_path: Path, postgres: Cluster, exit_stack: ExitStack, held: bytes) -> None:
    """A commit that the network holds back, before or after the fence, changes nothing once another replica counts.

    One that has passed the fence holds a lock, and must not keep the others from taking over.
    """
    replicas = Replicas(tmp_path, postgres.create_schema(), postgres.port, exit_stack, ["w00"])
    api = replicas.apis["w00"]
    api.world.publish(5, over=3600)
    replicas.start()
    owner = replicas.wait_settled("w00")
    network = replicas.networks[owner]
    others = [process for number, process in enumerate(replicas.processes) if number != owner]
    with api.lock:
        network.hang_at(held)
        (log_id,) = api.world.publish()
    wait_until(lambda: network.is_hanging)
    with api.lock:
        api.world.delete(log_id)  # so that the late transaction has a key that is not stored yet
        api.world.publish(4, over=1)
    wait_equal(9.0, lambda: sum(each.scrape().sum(LOGS, workspace="w00") for each in others))
    network.resume()
    replicas.wait_owned()
    with api.lock:
        api.world.publish(2, over=1)
    wait_equal(replicas.truth(), replicas.stored)
    assert 11 == replicas.truth().total()
    assert [] == list(open_admin(replicas.url).check())


def shown(process: ExporterProcess) -> set[str]:
    """Return the workspaces that a process shows."""
    with suppress(OSError, http.client.HTTPException):
        return {dict(labels).get("workspace", "") for _, labels in process.scrape()} - {""}
    return set()


def test_a_replica_that_is_stopped_is_replaced_at_once(replicas: Replicas) -> None:
    """It gives its workspaces free, and the others take over long before a lease has passed."""
    replicas.start()
    stopped = replicas.processes.pop()
    assert 0 == stopped.stop()
    with open_snapshot(replicas.url) as snapshot:
        assert 2 == len(list(snapshot.rows("SELECT id FROM late_member")))  # type: ignore[attr-defined]
    replicas.wait_owned()
