"""What programs that run for a long time share: their duration and their report."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from late_exporter.config.parsers import duration

DEFAULT_DURATION = "10m"


def read_duration(parser: argparse.ArgumentParser, variable: str) -> float:
    """Return the seconds in an environment variable, ten minutes by default; end the program if it is not usable."""
    text = os.environ.get(variable) or DEFAULT_DURATION
    adapter: TypeAdapter[float] = TypeAdapter(Annotated[float, duration("5s", "30d")])
    try:
        return adapter.validate_python(text)
    except ValidationError as exc:
        parser.error(f"{variable}={text}: {exc.errors()[0]['ctx']['error']}")


def print_line(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def report_problems(find_problems: Callable[[], Sequence[str]]) -> int:
    """Print the problems that a function finds, which SIGINT and SIGTERM interrupt; return the exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        problems = find_problems()
    except KeyboardInterrupt:
        print_line("interrupted")
        return 130
    for problem in problems:
        print_line(f"PROBLEM: {problem}")
    print_line(f"{len(problems)} problems" if problems else "every log was counted exactly once, and no counter fell")
    return int(bool(problems))


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt
