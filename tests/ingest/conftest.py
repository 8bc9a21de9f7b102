"""Fixtures of the ingestion tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest

from late_exporter.ingest.recorder import FeedRecorder
from late_exporter.model import KnownLogs, LogPage
from tests.support.clock import VirtualClock
from tests.support.exporter import ExporterHarness
from tests.support.late_api import FakeLateApi
from tests.support.store import StoreProxy
from tests.support.world import World

OpenExporter: TypeAlias = Callable[..., ExporterHarness]


@pytest.fixture(autouse=True)
def check_lookups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check in every test that a page which was not looked up in the store would have had the same result."""
    original = FeedRecorder.lookup

    async def lookup(recorder: FeedRecorder, page: LogPage, **options: Any) -> KnownLogs:
        known_logs = await original(recorder, page, **options)
        scope, proxy = recorder._scope, recorder._store  # noqa: SLF001 - the store that may have been asked
        if isinstance(proxy, StoreProxy) and "lookup" not in vars(proxy):  # No test makes it lie.
            stored = proxy.store.lookup(scope, page.entries, **options)
            assert _comparable(known_logs) == _comparable(stored)
        return known_logs

    monkeypatch.setattr(FeedRecorder, "lookup", lookup)


def _comparable(known_logs: KnownLogs) -> KnownLogs:
    return msgspec.structs.replace(known_logs, empty_range=None)


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
