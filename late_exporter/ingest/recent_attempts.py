"""Attempts to publish within the last hour, and the last failed ones of each account, for the status page."""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Iterable

from msgspec.structs import replace

from late_exporter.feeds.publishing import ATTEMPTS
from late_exporter.feeds.view import without_unknown
from late_exporter.ingest.poll_context import FetchedPage
from late_exporter.model import FAILED, PENDING, LogEntry
from late_exporter.status import Failure, PlatformHealth, RecentCounts
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

MAX_FAILURES, MAX_ACCOUNT_FAILURES = 100, 20
"""Failed attempts that are kept of a workspace, and of one account."""


class RecentAttempts:
    """Publish and retry logs with a final status by platform and by time of creation, in slots of five minutes.

    Args:
        coverage: Coverage at the start; None if everything is still to be read.
    """

    def __init__(self, coverage: Coverage | None) -> None:
        newest = coverage.newest.created if coverage is not None and coverage.newest is not None else 0
        self._known_since = max(newest, coverage.caught_up_at if coverage is not None else 0) / 1000
        self._has_page = False
        self._slots: dict[str, Counter[tuple[int, bool]]] = {}
        self._failures: list[Failure] = []  # oldest first

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Return the last failed attempts of each account, newest first."""
        return tuple(reversed(self._failures))

    def known_since(self, now: float) -> float:
        """Return the time since which all logs are known: an hour ago, or the last poll of an earlier process."""
        return max(self._known_since, now - HOUR)

    def add(self, entries: Iterable[LogEntry], now: float) -> None:
        """Count new observations at a Unix time in seconds."""
        present = int(now // SLOT_SECONDS)
        oldest = present - HOUR // SLOT_SECONDS
        for platform, counts in list(self._slots.items()):
            self._slots[platform] = Counter({slot: count for slot, count in counts.items() if slot[0] >= oldest})
            if not self._slots[platform]:
                del self._slots[platform]
        for entry in entries:
            if entry.created is None or entry.action not in ATTEMPTS or entry.status == PENDING:
                continue
            if entry.status == FAILED:
                self._add_failure(entry, entry.created / 1000)
            # The clock of the API may be ahead.
            slot = min(entry.created // (SLOT_SECONDS * 1000), present)
            if slot >= oldest and (entry.platform in self._slots or len(self._slots) < MAX_PLATFORMS):
                self._slots.setdefault(entry.platform, Counter())[slot, entry.status == FAILED] += 1

    def _add_failure(self, entry: LogEntry, time: float) -> None:
        code = f"HTTP {entry.status_code}" if entry.status_code is not None else ""
        failure = Failure(
            time=time,
            platform=entry.platform,
            account_id=entry.account_id or "",
            username=without_unknown(entry.username),
            post_id=entry.post_id or "",
            error=", ".join(filter(None, (without_unknown(entry.error_code), code))),
        )
        insort(self._failures, failure, key=lambda each: each.time)
        account = failure.platform, failure.account_id
        of_account = [each for each in self._failures if (each.platform, each.account_id) == account]
        if len(of_account) > MAX_ACCOUNT_FAILURES:
            self._failures.remove(of_account[0])
        del self._failures[:-MAX_FAILURES]

    def add_counted(self, page: FetchedPage, now: float) -> None:
        """Count the logs that an earlier process has recorded, if this is the first page that this one has read."""
        if self._has_page:
            return
        self._has_page = True
        self.add((entry for entry in page.entries if entry.status in page.recorded_statuses(entry)), now)
        is_whole = not page.times or page.is_last
        self._known_since = 0.0 if is_whole else min(self._known_since, min(page.times) / 1000)

    def add_counts(
        self, platforms: Iterable[PlatformHealth], now: float, history_since: float
    ) -> tuple[PlatformHealth, ...]:
        """Return the health of platforms with their recent counts; logs of the first sync count since a Unix time."""
        return tuple(
            replace(each, recent=self.counts(each.name, now), counted_since=each.counted_since or history_since)
            for each in platforms
        )

    def counts(self, platform: str, now: float) -> RecentCounts:
        """Return the counts of a platform at a Unix time in seconds."""
        failed, final = self._sum(platform, now - HOUR)
        failures, attempts = self._sum(platform, now - HOUR / 2)
        if attempts < FAILING_ATTEMPTS:  # A platform with little traffic is judged by the whole hour.
            failures, attempts = failed, final
        is_failing = attempts >= FAILING_ATTEMPTS and failures > FAILING_SHARE * attempts
        return RecentCounts(failed=failed, final=final, is_failing=is_failing)

    def _sum(self, platform: str, since: float) -> tuple[int, int]:
        """Return the number of failed and of all attempts since a Unix time."""
        slots = self._slots.get(platform, Counter()).items()
        recent = [(count, is_failed) for (slot, is_failed), count in slots if slot >= since // SLOT_SECONDS]
        return sum(count for count, is_failed in recent if is_failed), sum(count for count, _ in recent)
