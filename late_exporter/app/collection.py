"""Keep the collections of Python's garbage collector short, however many objects are in use."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping

MAX_SECONDS = 0.01
"""CPU time of a full collection beyond which its objects are left out of the next ones."""

OLDEST_GENERATION = 2


class CollectionLimiter:
    """Callback of the garbage collector.

    A full collection looks at all objects and holds the event loop meanwhile: 0.2 s with the series of a thousand
    workspaces. After one that took long, all objects that are in use are frozen. A frozen object is freed as usual,
    unless it is part of a reference cycle: ``gc.unfreeze`` is to be called when many such objects are dropped.
    """

    def __init__(self, cpu_time: Callable[[], float] = time.thread_time) -> None:
        self._cpu_time = cpu_time
        self._started_at = 0.0

    def __call__(self, phase: str, info: Mapping[str, int]) -> None:
        """Measure a collection of the oldest generation."""
        if info["generation"] != OLDEST_GENERATION:
            return
        if phase == "start":
            self._started_at = self._cpu_time()
        elif self._cpu_time() - self._started_at > MAX_SECONDS:
            gc.freeze()
