"""Collections of Python's garbage collector."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from late_exporter.app.collection import MAX_SECONDS, CollectionLimiter


class Node:
    """An object that refers to itself."""

    def __init__(self) -> None:
        self.node = self


@pytest.fixture
def cpu_times() -> Iterator[list[float]]:
    """Return the CPU times that the limiter reads, of which the last one stays."""
    gc.unfreeze()  # what other tests have frozen
    times = [0.0]
    limiter = CollectionLimiter(lambda: times.pop(0) if len(times) > 1 else times[0])
    gc.callbacks.append(limiter)
    yield times
    gc.callbacks.remove(limiter)
    gc.unfreeze()


def test_objects_are_frozen_after_a_long_collection(cpu_times: list[float]) -> None:
    """Only a full collection that took long leaves its objects out of the next ones."""
    before = gc.get_freeze_count()
    cpu_times[:] = [0.0, MAX_SECONDS / 2]
    gc.collect()
    cpu_times[:] = [0.0, MAX_SECONDS * 2]
    gc.collect(1)
    assert before == gc.get_freeze_count()
    cpu_times[:] = [0.0, MAX_SECONDS * 2]
    gc.collect()
    assert gc.get_freeze_count() > before + 1000


def test_cycles_are_freed_after_unfreeze(cpu_times: list[float]) -> None:
    """Frozen cycles that are dropped later are freed by the collection after ``gc.unfreeze``."""
    node = Node()
    reference = weakref.ref(node)
    cpu_times[:] = [0.0, MAX_SECONDS * 2]
    gc.collect()
    del node
    gc.collect()
    assert reference() is not None
    gc.unfreeze()
    gc.collect()
    assert reference() is None
