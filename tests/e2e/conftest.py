"""Fixtures of the tests that run processes on the loopback interface. Every test ends what it started."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.late import KEY, LateServer
from tests.e2e.program import ExporterProcess, Run


@pytest.fixture
def exit_stack() -> Iterator[ExitStack]:
    """Return a stack that is closed at the end of the test."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def late(exit_stack: ExitStack) -> LateServer:
    """Return a running Late API without logs."""
    return exit_stack.enter_context(LateServer())


@pytest.fixture
def start_exporter(exit_stack: ExitStack, tmp_path: Path, late: LateServer) -> Run:
    """Return a function that starts the exporter with the API, an interval of 100 ms and a state below ``tmp_path``."""

    def start(*arguments: str, **options: Any) -> ExporterProcess:
        return exit_stack.enter_context(ExporterProcess.for_api(tmp_path, late.url, *arguments, **options))

    return start


@pytest.fixture
def start_command(exit_stack: ExitStack, tmp_path: Path, late: LateServer) -> Run:
    """Return a function that starts a command with the API, and with the state of the exporter below ``tmp_path``."""

    def start(*arguments: str, **environ: str) -> ExporterProcess:
        options = (f"--api.base-url={late.url}", f"--state.url=sqlite:///{tmp_path / 'state.db'}")
        env = {"ZERNIO_API_KEY": KEY, **environ}
        return exit_stack.enter_context(ExporterProcess(tmp_path, *arguments, *options, env=env))

    return start
