"""Changes that wait for a publication, and the series that show 0 before their first increment."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from late_exporter.series import Series

ACTIVE_SECONDS = 150.0
"""Seconds for which the next scrape of a target is awaited; Prometheus scrapes every two minutes or more often."""

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


class SentVersions:
    """Versions of the bodies that were sent, to scrapers of the whole and to scrapers of each workspace."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._whole = (0, -math.inf)
        self._by_workspace: dict[str, tuple[int, float]] = {}

    def record(self, version: int, workspaces: Iterable[str] | None) -> None:
        """Record that a body was sent: that of some workspaces, or the whole if they are None."""
        now = self._monotonic()
        if workspaces is None:
            self._whole = (max(version, self._whole[0]), now)
            return
        for workspace in workspaces:
            previous, _ = self._by_workspace.get(workspace, (0, now))
            self._by_workspace[workspace] = (max(version, previous), now)

    def version_of(self, workspace: str) -> int:
        """Return the newest version that both kinds of scrapers have, ignoring a kind that no longer scrapes."""
        oldest = self._monotonic() - ACTIVE_SECONDS
        sent = (self._whole, self._by_workspace.get(workspace, (0, -math.inf)))
        return min((version for version, time in sent if time >= oldest), default=0)

    def discard(self, workspace: str) -> None:
        self._by_workspace.pop(workspace, None)


class InitialZeros:
    """The series that have started at zero and still show that."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._versions: dict[Series, int] = {}
        self._served: dict[Series, None] = {}
        self._sent = SentVersions(monotonic)

    def __contains__(self, series: Series) -> bool:
        return series in self._versions

    def add(self, series: Series, version: int) -> None:
        """Add a series that shows 0 from a version of the published bodies on."""
        self._versions.setdefault(series, version)

    def mark_served(self, version: int, workspaces: Iterable[str] | None) -> None:
        """Record that the body of a version was sent: that of some workspaces, or the whole if they are None."""
        self._sent.record(version, workspaces)
        self._served.update(
            (series, None)
            for series, first in self._versions.items()
            if first <= self._sent.version_of(series[1][0] if series[1] else "")
        )

    def served(self) -> list[Series]:
        """Return the series of which a body that showed 0 was sent, in the order in which they were first sent."""
        return list(self._served)

    def discard(self, series: Series) -> bool:
        """Return whether the series showed 0; it does not any more."""
        self._served.pop(series, None)
        return self._versions.pop(series, None) is not None

    def discard_workspace(self, families: Iterable[str], workspace: str) -> None:
        """Discard the series of some families whose first label is the workspace."""
        self._sent.discard(workspace)
        for series in [series for series in self._versions if series[0] in families and series[1][0] == workspace]:
            self.discard(series)
