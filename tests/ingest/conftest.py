"""Fixtures of the ingestion tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.support.clock import VirtualClock
from tests.support.exporter import NEVER
from tests.support.inside import InsideHarness
from tests.support.late_api import FakeLateApi
from tests.support.world import World

OpenExporter: TypeAlias = Callable[..., InsideHarness]


@pytest.fixture
def world() -> World:
    """Return a key without logs."""
    return World(VirtualClock())


@pytest.fixture
def open_exporter(tmp_path: Path) -> Iterator[OpenExporter]:
    """Return a function that opens an exporter with a state of its own; all are closed after the test."""
    numbers = count()

    with ExitStack() as stack:

        def open_exporter(apis: FakeLateApi | Mapping[str, FakeLateApi], **options: Any) -> InsideHarness:
            path = tmp_path / f"{next(numbers)}.db"
            generation = apis.generation if isinstance(apis, FakeLateApi) else "late"
            return stack.enter_context(closing(InsideHarness(apis, path, **{"generation": generation, **options})))

        yield open_exporter


@pytest.fixture
def start(open_exporter: OpenExporter) -> OpenExporter:
    """Return a function that starts an exporter, by default without scheduled reconciliation scans."""
    return partial(open_exporter, reconcile_interval=NEVER)
