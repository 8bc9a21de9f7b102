"""Run the exporter for a long time against a failing API: SOAK=10m make soak.

The simulated world writes 200 logs per second. Its API is unavailable, rate limits, hangs and truncates responses; the
exporter is killed, restarted and reloaded with another workspace; a Prometheus scrapes it. At the end every log has to
be counted exactly once. Exit code 0 if it is, 1 with the problems otherwise.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from tests.soak.long_run import print_line, read_duration, report_problems
from tests.soak.soak import Soak, SoakPlan


def main() -> int:
    """Run a soak, print its report, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=200, help="publishing logs per second")
    parser.add_argument("--seed", type=int, help="seed of the logs and events, but not of their times; default: new")
    arguments = parser.parse_args()
    prometheus = shutil.which("prometheus")
    if prometheus is None:
        parser.error("prometheus is not installed; make tools fetches it")
    seed = int(time.time()) if arguments.seed is None else arguments.seed
    plan = SoakPlan(read_duration(parser, "SOAK"), arguments.rate, seed)
    print_line(
        f"{plan.seconds:g} s at {plan.rate:g} logs/s, seed {seed}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory(prefix="late-exporter-soak-") as folder:
        return report_problems(partial(Soak(Path(folder), plan, print_line).run, prometheus))


if __name__ == "__main__":
    sys.exit(main())
