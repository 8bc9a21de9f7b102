"""Changes that wait for a publication, and the series that show 0 before their first increment."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from late_exporter.series import Series

_Change: TypeAlias = tuple[Callable[..., object], tuple[Any, ...]]
"""A function and its arguments."""


class ChangeQueue:
    """Changes in the order in which they are made, in batches that are applied together.

    ``apply`` may run in another thread than the other methods.

    Attributes:
        batch: Number of the last batch that was taken.
        applied_batch: Number of the last batch that was applied.
        is_held: Whether more changes follow that belong to the same batch as the last ones.
    """

    def __init__(self) -> None:
        self.batch = self.applied_batch = 0
        self.is_held = False
        self._changes: list[_Change] = []
        self._taken_batches: deque[tuple[int, list[_Change]]] = deque()

    def add(self, apply: Callable[..., object], *args: Any) -> None:
        self._changes.append((apply, args))

    def take(self) -> int:
        """End a batch, unless it is held; return its number of changes."""
        if self.is_held:
            return 0
        changes, self._changes = self._changes, []
        self.batch += 1
        self._taken_batches.append((self.batch, changes))
        return len(changes)

    def apply(self) -> None:
        """Apply the batches that were taken."""
        while self._taken_batches:
            self.applied_batch, changes = self._taken_batches.popleft()
            for apply, args in changes:
                apply(*args)


class HeldZeros:
    """The series that show 0, because they were created a short time ago.

    Args:
        hold: Age in seconds until which they do.
        clock: Returns the Unix time in seconds.
    """

    def __init__(self, hold: float, clock: Callable[[], float]) -> None:
        self._hold = hold
        self._clock = clock
        self._created: dict[Series, float] = {}

    def add(self, series: Series, created: float) -> bool:
        """Add a series if it is young enough; return whether it shows 0."""
        if self._is_held(created):
            self._created[series] = created
        return series in self._created

    def pop_ended(self) -> list[Series]:
        """Remove and return the series that are old enough."""
        old = [series for series, created in self._created.items() if not self._is_held(created)]
        for series in old:
            del self._created[series]
        return old

    def next_end(self) -> float | None:
        """Return the seconds until the next series is old enough; None if there is none."""
        return min(self._created.values()) + self._hold - self._clock() if self._created else None

    def discard(self, series: Series) -> None:
        self._created.pop(series, None)

    def discard_workspace(self, families: Iterable[str], workspace: str) -> None:
        """Discard the series of some families whose first label is the workspace."""
        for series in [series for series in self._created if series[0] in families and series[1][0] == workspace]:
            self.discard(series)

    def _is_held(self, created: float) -> bool:
        # A time in the future means that the clock was set back: the series may have been shown with its value.
        return 0 <= self._clock() - created < self._hold
