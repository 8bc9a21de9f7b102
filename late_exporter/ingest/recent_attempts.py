"""Attempts to publish, for the status page.

These are counts of the last hour, and the last failures of each account.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from late_exporter.feeds.publishing import ATTEMPTS
from late_exporter.feeds.view import without_unknown
from late_exporter.health import Failure, PlatformHealth, RecentCounts
from late_exporter.model import FAILED, PENDING, LogEntry, LogPage
from late_exporter.store.records import Coverage
from late_exporter.thresholds import HOUR, PLATFORM_ATTEMPTS, PLATFORM_FAILED_SHARE

SLOT_SECONDS = 300
MAX_PLATFORMS = 100
"""Platforms that are counted, because the API chooses their names."""

MAX_FAILURES = 100
MAX_ACCOUNT_FAILURES = 20
"""Failures that are kept in the state of a workspace, and of one account."""

MAX_ERROR_LENGTH = 300


class RecentAttempts:
    """Publish and retry logs with a final status by platform and time of creation.

    They are kept in slots of five minutes.

    Args:
        coverage: Coverage at the start; None if everything is still to be read.
    """

    def __init__(self, coverage: Coverage | None) -> None:
        known_since = 0
        if coverage is not None:
            newest = coverage.newest.created if coverage.newest is not None else 0
            known_since = max(newest, coverage.caught_up_at)
        self._known_since = known_since / 1000
        self._has_page = False
        self._slots: dict[str, Counter[tuple[int, bool]]] = {}

    def known_since(self, now: float) -> float:
        """Return the time since which all logs are known.

        That is an hour ago, or the last poll of an earlier process.
        """
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
        """Count the logs of the first page of this process that an earlier one has recorded."""
        if self._has_page:
            return
        self._has_page = True
        old_entries = [
            entry for entry in page.entries if entry.status in page.statuses.get(entry.key, ())
        ]
        self.add(old_entries, now)
        if page.is_last or not page.times:
            self._known_since = 0.0
        else:
            self._known_since = min(self._known_since, min(page.times) / 1000)

    def add_counts(
        self, platforms: Iterable[PlatformHealth], now: float, history_since: float
    ) -> tuple[PlatformHealth, ...]:
        """Return the health of platforms with their recent counts.

        Logs of the first sync count since a Unix time.
        """
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
        if attempts < PLATFORM_ATTEMPTS:
            # A platform with little traffic is judged by the whole hour.
            failures = failed
            attempts = final
        is_failing = attempts >= PLATFORM_ATTEMPTS and failures > PLATFORM_FAILED_SHARE * attempts
        return RecentCounts(failed=failed, final=final, is_failing=is_failing)

    def _sum(self, platform: str, since: float) -> tuple[int, int]:
        """Return the number of failed and of all attempts since a Unix time."""
        failed = 0
        final = 0
        for (slot, is_failed), count in self._slots.get(platform, Counter()).items():
            if slot >= since // SLOT_SECONDS:
                final += count
                failed += count if is_failed else 0
        return failed, final


def add_failures(
    failures: Sequence[Failure], logs: Iterable[LogEntry], since: int
) -> tuple[Failure, ...]:
    """Return failures and those among some logs, newest first.

    None is older than a time in milliseconds.
    """
    by_key = {failure.key: failure for failure in failures}
    by_key |= {
        log.key: _failure(log) for log in logs if log.status == FAILED and log.action in ATTEMPTS
    }
    kept: list[Failure] = []
    counts: Counter[tuple[str, str]] = Counter()
    for failure in sorted(by_key.values(), key=lambda each: each.time, reverse=True):
        account = (failure.platform, failure.account_id)
        counts[account] += 1
        if counts[account] <= MAX_ACCOUNT_FAILURES and failure.time * 1000 >= since:
            kept.append(failure)
    return tuple(kept[:MAX_FAILURES])


def _failure(log: LogEntry) -> Failure:
    status_code = f"HTTP {log.status_code}" if log.status_code is not None else ""
    code = ", ".join(filter(None, (without_unknown(log.error_code), status_code)))
    return Failure(
        key=log.key,
        time=(log.created or 0) / 1000,
        platform=log.platform,
        account_id=log.account_id or "",
        username=without_unknown(log.username),
        post_id=log.post_id or "",
        error=": ".join(filter(None, (code, log.error)))[:MAX_ERROR_LENGTH],
    )
