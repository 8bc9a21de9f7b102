"""Attempts to publish within the last hour, for the status page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from msgspec.structs import replace

from late_exporter.feeds.publishing import ATTEMPTS
from late_exporter.health import PlatformHealth, RecentCounts
from late_exporter.model import FAILED, PENDING, LogEntry, LogPage
from late_exporter.store.records import Coverage

HOUR = 3600
SLOT_SECONDS = 300
FAILING_SHARE = 0.5
FAILING_ATTEMPTS = 20
"""Failed share, and number of attempts, above which a platform fails; as in LatePlatformFailing.

The last half hour counts if it has so many attempts, otherwise the last hour.
"""

MAX_PLATFORMS = 100
"""Platforms that are counted, because the API chooses their names."""


class RecentAttempts:
    """Publish and retry logs with a final status by platform and by time of creation, in slots of five minutes.

    Args:
        coverage: Coverage at the start; None if everything is still to be read.
    """

    def __init__(self, coverage: Coverage | None) -> None:
        newest = (
            coverage.newest.created if coverage is not None and coverage.newest is not None else 0
        )
        self._known_since = max(newest, coverage.caught_up_at if coverage is not None else 0) / 1000
        self._has_page = False
        self._slots: dict[str, Counter[tuple[int, bool]]] = {}

    def known_since(self, now: float) -> float:
        """Return the time since which all logs are known: an hour ago, or the last poll of an earlier process."""
        return max(self._known_since, now - HOUR)

    def add(self, entries: Iterable[LogEntry], now: float) -> None:
        """Count new observations at a Unix time in seconds."""
        present = int(now // SLOT_SECONDS)
        oldest = present - HOUR // SLOT_SECONDS
        self._drop_before(oldest)
        for entry in entries:
            if entry.created is None or entry.action not in ATTEMPTS or entry.status == PENDING:
                continue
            # The clock of the API may be ahead.
            slot = min(entry.created // (SLOT_SECONDS * 1000), present)
            if slot >= oldest and (
                entry.platform in self._slots or len(self._slots) < MAX_PLATFORMS
            ):
                self._slots.setdefault(entry.platform, Counter())[slot, entry.status == FAILED] += 1

    def _drop_before(self, oldest: int) -> None:
        for platform, counts in list(self._slots.items()):
            self._slots[platform] = Counter(
                {slot: count for slot, count in counts.items() if slot[0] >= oldest}
            )
            if not self._slots[platform]:
                del self._slots[platform]

    def add_counted(self, page: LogPage, now: float) -> None:
        """Count the logs that an earlier process has recorded, if this is the first page that this one has read."""
        if self._has_page:
            return
        self._has_page = True
        self.add(
            (entry for entry in page.entries if entry.status in page.statuses.get(entry.key, ())),
            now,
        )
        is_whole = not page.times or page.is_last
        self._known_since = 0.0 if is_whole else min(self._known_since, min(page.times) / 1000)

    def add_counts(
        self, platforms: Iterable[PlatformHealth], now: float, history_since: float
    ) -> tuple[PlatformHealth, ...]:
        """Return the health of platforms with their recent counts; logs of the first sync count since a Unix time."""
        return tuple(
            replace(
                each,
                recent=self.counts(each.name, now),
                counted_since=each.counted_since or history_since,
            )
            for each in platforms
        )

    def counts(self, platform: str, now: float) -> RecentCounts:
        """Return the counts of a platform at a Unix time in seconds."""
        failed, final = self._sum(platform, now - HOUR)
        failures, attempts = self._sum(platform, now - HOUR / 2)
        if (
            attempts < FAILING_ATTEMPTS
        ):  # A platform with little traffic is judged by the whole hour.
            failures, attempts = failed, final
        is_failing = attempts >= FAILING_ATTEMPTS and failures > FAILING_SHARE * attempts
        return RecentCounts(failed=failed, final=final, is_failing=is_failing)

    def _sum(self, platform: str, since: float) -> tuple[int, int]:
        """Return the number of failed and of all attempts since a Unix time."""
        slots = self._slots.get(platform, Counter()).items()
        recent = [
            (count, is_failed)
            for (slot, is_failed), count in slots
            if slot >= since // SLOT_SECONDS
        ]
        return sum(count for count, is_failed in recent if is_failed), sum(
            count for count, _ in recent
        )
