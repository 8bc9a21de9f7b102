"""Several replicas as processes on one state, the APIs of their workspaces, and a Prometheus that scrapes them."""

from __future__ import annotations

import http.client
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TypeAlias

from late_exporter.store.snapshot import open_snapshot
from tests.e2e.late import LateServer
from tests.e2e.program import ExporterProcess, wait_equal, wait_until
from tests.e2e.prometheus import PrometheusApi
from tests.e2e.traffic import LOGS, expected_counts
from tests.support.postgres import PASSWORD, free_port, without_password
from tests.support.proxy import Proxy

LEASE = 3.0
SCRAPE_SECONDS = 1.0
WORKSPACES = [f"w{number:02}" for number in range(12)]

HOST = "127.0.0.2"
"""Address of the replicas. No connection on this machine begins there, so none takes the port of one that is down."""

LOGS_SELECTOR = f'{LOGS}{{job="late", status!="pending"}}'

Totals: TypeAlias = Counter[tuple[str, ...]]
"""Logs by workspace, platform, action and status."""


class Replicas:
    """Several processes of the exporter on one state, and the API of each workspace.

    Args:
        folder: Folder in which each process has one of its own.
        url: URL by which the tests read the state.
        state_urls: URL by which each process reads the state.
        stack: Stack that ends the processes and the APIs.
    """

    def __init__(self, folder: Path, url: str, state_urls: Sequence[str], stack: ExitStack) -> None:
        # The machine of the tests may be busy.
        self.url = f"{url}{'&' if '?' in url else '?'}connect_timeout=60"
        self.apis = {
            name: stack.enter_context(LateServer(key=f"sk_{number:064x}")) for number, name in enumerate(WORKSPACES)
        }
        # A few logs of one platform, whose series begin at 0 from the start.
        for number, api in enumerate(self.apis.values()):
            api.world.publish(5 + number, over=3600)
        self.processes = [
            self._create(folder / f"replica-{number}", each, stack) for number, each in enumerate(state_urls, 1)
        ]

    def _create(self, folder: Path, state_url: str, stack: ExitStack) -> ExporterProcess:
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
            f"--web.listen-address={HOST}:{free_port()}",
            f"--state.url={without_password(state_url)}",
            "--state.password-file=password",
            "--state.replicas",
            f"--state.lease-duration={LEASE:g}s",
        )
        stack.callback(process.kill)
        return process

    def wait_owned(self) -> None:
        """Wait until all replicas know each other, and all workspaces are shown and synced."""
        wait_until(
            lambda: all(
                process.scrape().get(("late_exporter_cluster_members", ())) == len(self.processes)
                for process in self.processes
            )
        )
        wait_equal({*self.apis}, lambda: {name for process in self.processes for name in shown(process)})
        for process in self.processes:
            process.wait_ready()

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


def shown(process: ExporterProcess) -> set[str]:
    """Return the workspaces that a process shows, none if it does not answer."""
    with suppress(OSError, http.client.HTTPException, RuntimeError):
        return {dict(labels).get("workspace", "") for _, labels in process.scrape()} - {""}
    return set()


def create_networks(url: str, port: int, stack: ExitStack) -> tuple[list[Proxy], list[str]]:
    """Return networks between three replicas and the database, and the URL of the state behind each.

    Args:
        url: URL of the state.
        port: Port of the database in it.
        stack: Stack that ends the networks.
    """
    networks = [stack.enter_context(Proxy(port)) for _ in range(3)]
    return networks, [url.replace(f":{port}/", f":{network.port}/") for network in networks]


def scrape_config(replicas: Replicas) -> str:
    """Return a configuration of Prometheus that scrapes all replicas, with the relabeling of the documentation."""
    targets = [
        argument.partition("=")[2] for each in replicas.processes for argument in each.arguments if "web." in argument
    ]
    relabeling = {
        "source_labels": ["workspace"],
        "regex": ".+",
        "target_label": "instance",
        "replacement": "late-exporter",
    }
    config = {
        "global": {"scrape_interval": f"{SCRAPE_SECONDS:g}s", "scrape_timeout": f"{SCRAPE_SECONDS:g}s"},
        "scrape_configs": [
            {"job_name": "late", "static_configs": [{"targets": targets}], "metric_relabel_configs": [relabeling]}
        ],
    }
    return json.dumps(config)


def scraped(prometheus: PrometheusApi) -> Totals:
    """Return the current values of the counters of final logs in Prometheus."""
    rows = prometheus.query(LOGS_SELECTOR)
    return Counter({series_of(row["metric"]): int(float(row["value"][1])) for row in rows if float(row["value"][1])})


def series_of(metric: Mapping[str, str]) -> tuple[str, ...]:
    """Return the labels of a series of Prometheus by which totals are compared."""
    return tuple(metric[name] for name in ("workspace", "platform", "action", "status"))
