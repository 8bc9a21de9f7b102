"""Fixtures of the ingestion tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.support.clock import VirtualClock
from tests.support.exporter import ExporterHarness
from tests.support.late_api import FakeLateApi
from tests.support.world import World

OpenExporter: TypeAlias = Callable[..., ExporterHarness]


@pytest.fixture
def world() -> World:
    """Return a key without logs."""
    return World(VirtualClock())


@pytest.fixture
def open_exporter(tmp_path: Path) -> Iterator[OpenExporter]:
    """Return a function that opens an exporter with a state of its own; all are closed after the test."""
    numbers = count()

    with ExitStack() as stack:

        def open_exporter(api: FakeLateApi, *, in_memory: bool = False, **options: Any) -> ExporterHarness:
            path = None if in_memory else tmp_path / f"{next(numbers)}.db"
            return stack.enter_context(closing(ExporterHarness(api, path, **options)))

        yield open_exporter
