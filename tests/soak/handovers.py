"""Run replicas under faults for a long time: HANDOVERS=10m make handovers.

Three replicas share a PostgreSQL, and logs are written to twelve workspaces all the time. Replicas are killed, stopped,
reloaded, paused for longer than their lease and cut off from the database; sessions are ended, and the database is
restarted. A Prometheus scrapes all replicas. At the end the state, the samples in Prometheus and its ``increase()`` are
compared with the logs that were written. Exit code 0 if every total is exact and no counter fell, 1 with the problems
otherwise.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

from pydantic import TypeAdapter, ValidationError

from late_exporter.config.fields import duration
from tests.e2e.handovers import Handovers
from tests.e2e.prometheus import run_prometheus
from tests.e2e.replicas import LEASE, Replicas, create_networks, scrape_config
from tests.support.postgres import find_programs, running_cluster


def main() -> int:
    """Run replicas under faults, print a report, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, help="seed of the logs and faults, but not of their times; default: new")
    arguments = parser.parse_args()
    prometheus, postgres = shutil.which("prometheus"), find_programs()
    if prometheus is None or postgres is None:
        parser.error("prometheus or postgresql is not installed; make tools fetches them")
    try:
        seconds = TypeAdapter(Annotated[float, duration("5s", "30d")]).validate_python(
            os.environ.get("HANDOVERS") or "10m"
        )
    except ValidationError as exc:
        parser.error(f"HANDOVERS: {exc.errors()[0]['ctx']['error']}")
    seed = int(time.time()) if arguments.seed is None else arguments.seed
    print_line(
        f"{seconds:g} s, a lease of {LEASE:g} s, seed {seed}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
    )
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
    try:
        problems = _run(prometheus, postgres, seconds, seed)
    except KeyboardInterrupt:
        print_line("interrupted")
        return 130
    for problem in problems:
        print_line(f"PROBLEM: {problem}")
    print_line(f"{len(problems)} problems" if problems else "every log was counted exactly once, and no counter fell")
    return int(bool(problems))


def print_line(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _run(prometheus: str, postgres: Path, seconds: float, seed: int) -> list[str]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="late-exporter-handovers-")))
        cluster = stack.enter_context(running_cluster(postgres))
        url = cluster.create_database()
        networks, state_urls = create_networks(url, cluster.port, stack)
        replicas = Replicas(folder, url, state_urls, stack)
        replicas.publish_history()
        api = stack.enter_context(run_prometheus(prometheus, folder, scrape_config(replicas)))
        return Handovers(replicas, networks, api, seed, print_line, cluster).run(seconds)


if __name__ == "__main__":
    sys.exit(main())
