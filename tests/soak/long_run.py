"""The duration of a program that runs for a long time."""

from __future__ import annotations

import argparse
import os
from typing import Annotated

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
