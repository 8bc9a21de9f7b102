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
def exit_stack() -> Iterator[ExitStack]:
    """Ends what a test started, the last first."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def late(exit_stack: ExitStack) -> LateServer:
    """A Late API without logs, which serves."""
    return exit_stack.enter_context(LateServer())


@pytest.fixture
def start_exporter(exit_stack: ExitStack, tmp_path: Path, late: LateServer) -> Callable[..., ExporterProcess]:
    """Starts the exporter against the API, polling ten times a second, with a state below ``tmp_path``."""

    def start(*arguments: str, **options: Any) -> ExporterProcess:
        return exit_stack.enter_context(ExporterProcess.for_api(tmp_path, late.url, *arguments, **options))

    return start
