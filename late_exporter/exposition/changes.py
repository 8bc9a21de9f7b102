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
    """

    def __init__(self) -> None:
        self.batch = self.applied_batch = 0
        self._changes: list[_Change] = []
        self._taken_batches: deque[tuple[int, list[_Change]]] = deque()

    def add(self, apply: Callable[..., object], *args: Any) -> None:
        self._changes.append((apply, args))

    def take(self) -> int:
        """End a batch; return its number of changes."""
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


class InitialZeros:
    """The series that have started at zero and still show that."""

    def __init__(self) -> None:
        self._versions: dict[Series, int] = {}
        self._served: dict[Series, None] = {}

    def __contains__(self, series: Series) -> bool:
        return series in self._versions

    def add(self, series: Series, version: int) -> None:
        """Add a series that shows 0 from a version of the published bodies on."""
        self._versions.setdefault(series, version)

    def mark_served(self, version: int) -> None:
        """Record that the body of a version was sent."""
        self._served.update((series, None) for series, first in self._versions.items() if first <= version)

    def served(self) -> list[Series]:
        """Return the series of which a body that showed 0 was sent, in the order in which they were first sent."""
        return list(self._served)

    def discard(self, series: Series) -> bool:
        """Return whether the series showed 0; it does not any more."""
        self._served.pop(series, None)
        return self._versions.pop(series, None) is not None

    def discard_workspace(self, families: Iterable[str], workspace: str) -> None:
        """Discard the series of some families whose first label is the workspace."""
        for series in [series for series in self._versions if series[0] in families and series[1][0] == workspace]:
            self.discard(series)
