"""Logs that arrive a few minutes late, which polls must find without a scan."""

from __future__ import annotations

from tests.adversary.observer import Observer
from tests.adversary.scene import Rows, Scene
from tests.support.clock import MINUTE
from tests.support.exporter import Poll as PollResult
from tests.support.oracle import created_at

MAX_POLLS = 3
"""Regular polls within which such a log is counted."""

MAX_INTERVAL = 2 * MINUTE
"""Seconds between two polls up to which they are regular."""

MAX_AGE = 15 * MINUTE + MAX_POLLS * MAX_INTERVAL
"""Age of a log in seconds beyond which it is left to the scan."""


class LateRows:
    """The logs that have arrived late, with the number of regular polls since."""

    def __init__(self, scene: Scene, observer: Observer) -> None:
        self._scene = scene
        self._observer = observer
        self._poll_counts: dict[str, int] = {}

    def add(self, log_id: str) -> None:
        """Expect a log that has arrived just now, unless the first sync will find it."""
        if self._scene.is_synced("publishing"):
            self._poll_counts[log_id] = 0

    def reset(self) -> None:
        """Count the polls from 0 again."""
        self._poll_counts = dict.fromkeys(self._poll_counts, 0)

    def forget(self) -> None:
        self._poll_counts.clear()

    def check(self, result: PollResult, before: Rows, *, seconds: float, is_regular: bool) -> None:
        """Check after a poll that the logs that were in the list ``before`` are counted in time."""
        rows = {row["_id"]: row for row in self._scene.world.rows}
        oldest = self._scene.world.clock.now - MAX_AGE
        waiting = self._observer.uncounted_ids(self._poll_counts.keys() & rows.keys())
        counts = {log_id: count for log_id, count in self._poll_counts.items() if log_id in waiting}
        self._poll_counts = counts = {log_id: n for log_id, n in counts.items() if created_at(rows[log_id]) >= oldest}
        if not is_regular or seconds > MAX_INTERVAL or result.error is not None or result.is_partial:
            self.reset()
            return
        for log_id in counts:
            counts[log_id] += log_id in before
        overdue = [log_id for log_id, count in counts.items() if count >= MAX_POLLS]
        for log_id in overdue:
            del counts[log_id]
            self._observer.report("late row", f"created {rows[log_id]['createdAt']}, now {self._scene.world.clock.now}")
