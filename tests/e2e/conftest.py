"""Real processes on the loopback interface: every test ends what it started, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.late import LateServer
from tests.e2e.program import ExporterProcess


@pytest.fixture
def ending() -> Iterator[ExitStack]:
    """Ends what a test started, the last first."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def late(ending: ExitStack) -> LateServer:
    """A Late API without logs, which serves."""
    return ending.enter_context(LateServer())


@pytest.fixture
def run(ending: ExitStack, tmp_path: Path, late: LateServer) -> Callable[..., ExporterProcess]:
    """Starts the exporter against the API, polling ten times a second, with a state below ``tmp_path``."""

    def start(*arguments: str, **options: Any) -> ExporterProcess:
        return ending.enter_context(ExporterProcess.for_api(tmp_path, late.url, *arguments, **options))

    return start
