"""Lets the exporter count for a long time while everything around it goes wrong: SOAK=10m make soak.

The simulated world posts 200 logs a second; its API is unavailable, refuses, hangs and breaks off; the exporter is
killed, restarted, and given and taken a second workspace; a Prometheus scrapes it all the while. In the end each log
has to be counted once. Exit 0 where it is, 1 with the reasons where it is not.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from late_exporter.config.types import duration
from tests.soak.soak import Soak, SoakPlan

DEFAULT_DURATION = "10m"


def main() -> int:
    """Soak and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=200, help="publishing logs a second")
    parser.add_argument("--seed", type=int, help="decides what happens, but not when; a new one if not given")
    arguments = parser.parse_args()
    binary = shutil.which("prometheus")
    if binary is None:
        parser.error("prometheus is not installed; make tools fetches it")
    seed = int(time.time()) if arguments.seed is None else arguments.seed
    plan = SoakPlan(_parse_duration(parser, os.environ.get("SOAK") or DEFAULT_DURATION), arguments.rate, seed)
    signal.signal(signal.SIGTERM, _interrupt)
    _print(
        f"{plan.seconds:g} s at {plan.rate:g} logs/s, seed {seed}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory(prefix="late-exporter-soak-") as folder:
        try:
            problems = Soak(Path(folder), plan, binary, _print).run()
        except KeyboardInterrupt:
            _print("interrupted")
            return 130
    for problem in problems:
        _print(f"WRONG: {problem}")
    _print(
        f"{len(problems)} things are wrong" if problems else "every log was counted exactly once, and no counter fell"
    )
    return int(bool(problems))


def _parse_duration(parser: argparse.ArgumentParser, text: str) -> float:
    adapter: TypeAdapter[float] = TypeAdapter(Annotated[float, duration("5s", "30d")])
    try:
        return adapter.validate_python(text)
    except ValidationError as exc:
        parser.error(f"SOAK={text}: {exc.errors()[0]['ctx']['error']}")


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
