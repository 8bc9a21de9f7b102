"""Attempts to publish within the last hour, for the status page."""

from __future__ import annotations

from collections.abc import Iterable

from late_exporter.feeds.publishing import ATTEMPTS
from late_exporter.ingest.fetched_page import FetchedPage
from late_exporter.model import FAILED, PENDING, Coverage, LogEntry
from late_exporter.status import RecentCounts

HOUR = 3600
SLOT_SECONDS = 300
SLOTS = HOUR // SLOT_SECONDS
HALF_HOUR_SLOTS = SLOTS // 2

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
        newest = coverage.newest.created if coverage is not None and coverage.newest is not None else 0
        self._known_since = max(newest, coverage.caught_up_at if coverage is not None else 0) / 1000
        self._has_page = False
        self._slot = 0
        self._final: dict[str, list[int]] = {}
        self._failed: dict[str, list[int]] = {}

    def known_since(self, now: float) -> float:
        """Return the time since which all logs are known: an hour ago, or the last poll of an earlier process."""
        return max(self._known_since, now - HOUR)

    def add(self, entries: Iterable[LogEntry], now: float) -> None:
        """Count new observations at a Unix time in seconds."""
        self._advance(now)
        oldest = (self._slot - SLOTS) * SLOT_SECONDS * 1000
        for entry in entries:
            created = entry.created
            if created is None or created < oldest or entry.action not in ATTEMPTS or entry.status == PENDING:
                continue
            if entry.platform not in self._final and len(self._final) >= MAX_PLATFORMS:
                continue
            # The clock of the API may be ahead.
            age = max(self._slot - created // (SLOT_SECONDS * 1000), 0)
            self._final.setdefault(entry.platform, [0] * (SLOTS + 1))[age] += 1
            if entry.status == FAILED:
                self._failed.setdefault(entry.platform, [0] * (SLOTS + 1))[age] += 1

    def add_counted(self, page: FetchedPage, now: float) -> None:
        """Count the logs that an earlier process has recorded, if this is the first page that this one has read."""
        if self._has_page:
            return
        self._has_page = True
        self.add((entry for entry in page.entries if entry.status in page.recorded_statuses(entry)), now)
        times = page.times
        if times and not page.is_last:
            self._known_since = min(self._known_since, min(times) / 1000)
        else:
            self._known_since = 0.0

    def counts(self, platform: str, now: float) -> RecentCounts:
        """Return the counts of a platform at a Unix time in seconds."""
        self._advance(now)
        final, failed = self._final.get(platform, []), self._failed.get(platform, [])
        attempts, failures = sum(final[: HALF_HOUR_SLOTS + 1]), sum(failed[: HALF_HOUR_SLOTS + 1])
        if attempts < FAILING_ATTEMPTS:  # A platform with little traffic is judged by the whole hour.
            attempts, failures = sum(final), sum(failed)
        is_failing = attempts >= FAILING_ATTEMPTS and failures > FAILING_SHARE * attempts
        return RecentCounts(failed=sum(failed), final=sum(final), is_failing=is_failing)

    def _advance(self, now: float) -> None:
        """Make the current slot the first one; platforms without an attempt in the hour are forgotten."""
        slot = int(now // SLOT_SECONDS)
        elapsed = min(max(slot - self._slot, 0), SLOTS + 1)
        if not elapsed:
            return
        self._slot = slot
        for counts in (self._final, self._failed):
            for platform, slots in list(counts.items()):
                counts[platform] = [0] * elapsed + slots[: SLOTS + 1 - elapsed]
                if not any(counts[platform]):
                    del counts[platform]
