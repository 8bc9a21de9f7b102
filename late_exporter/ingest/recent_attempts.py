"""Attempts to publish, for the status page.

These are counts of the last hour and of the last day, and the last failures of each account.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from late_exporter.feeds.publishing import ATTEMPTS
from late_exporter.feeds.view import without_unknown
from late_exporter.health import Failure, PlatformHealth, RecentCounts
from late_exporter.model import FAILED, PENDING, LogEntry
from late_exporter.thresholds import (
    BUDGET_FAILURES,
    DAY,
    FAST_BURN,
    HOUR,
    PLATFORM_ATTEMPTS,
    PLATFORM_FAILED_SHARE,
    SUCCESS_OBJECTIVE,
)

SLOT_SECONDS = 300
MAX_COUNTS = 2600
"""Counts that are kept, of about a hundred platforms, because the API chooses their names."""

MAX_FAILURES = 100
MAX_ACCOUNT_FAILURES = 20
"""Failures that are kept in the state of a workspace, and of one account."""

MAX_ERROR_LENGTH = 300


class RecentAttempts:
    """Publish and retry logs with a final status by platform and time of creation.

    They are kept in slots of five minutes for an hour, and their sum in slots of an hour for a day.

    Args:
        known_since: Time in milliseconds until which an earlier process has counted; 0 if none has.
    """

    def __init__(self, known_since: int) -> None:
        self._known_since = known_since
        self._counts = Counter[tuple[str, int, bool]]()
        self._hourly_counts = Counter[int]()

    def known_since(self, now: float) -> float:
        """Return the time since which all logs are known.

        That is an hour ago, or the last poll of an earlier process.
        """
        return max(self._known_since / 1000, now - HOUR)

    def add(self, entries: Iterable[LogEntry], now: float) -> None:
        """Count new observations at a Unix time in seconds."""
        present = int(now // SLOT_SECONDS)
        oldest = present - HOUR // SLOT_SECONDS
        for place in [place for place in self._counts if place[1] < oldest]:
            del self._counts[place]
        self._drop_hours(now)
        for entry in entries:
            if entry.created is None or entry.action not in ATTEMPTS or entry.status == PENDING:
                continue
            # The clock of the API may be ahead.
            seconds = min(entry.created / 1000, now)
            if seconds > now - DAY:
                self._hourly_counts[int(seconds // HOUR)] += 1
            slot = int(seconds // SLOT_SECONDS)
            place = (entry.platform, slot, entry.status == FAILED)
            if slot >= oldest and (place in self._counts or len(self._counts) < MAX_COUNTS):
                self._counts[place] += 1

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

    def per_day(self, platforms: Iterable[PlatformHealth], now: float) -> float:
        """Return the attempts of the last day at a Unix time in seconds.

        As long as this process does not know a whole day, return the average of the days that the
        counters of the platforms cover.
        """
        if self._known_since / 1000 <= now - DAY:
            self._drop_hours(now)
            return self._hourly_counts.total()
        attempts = 0
        counted_since = now - DAY
        for each in platforms:
            attempts += each.final
            counted_since = min(counted_since, each.counted_since)
        return attempts * DAY / (now - counted_since)

    def other_counts(self, now: float) -> RecentCounts:
        """Return the counts of the platforms on which not most attempts fail.

        They are failing if LateErrorBudgetBurningFast would fire: too large a share has failed in
        the last hour and in the last minutes.
        """
        names = {name for name, _, _ in self._counts}
        others = [name for name in names if not self.counts(name, now).is_failing]
        failed, final = self._total(others, now - HOUR)
        latest_failed, latest_final = self._total(others, now - SLOT_SECONDS)
        allowed_share = FAST_BURN * (1 - SUCCESS_OBJECTIVE)
        is_failing = (
            failed >= BUDGET_FAILURES
            and failed > allowed_share * final
            and latest_failed > allowed_share * latest_final
        )
        return RecentCounts(failed=failed, final=final, is_failing=is_failing)

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

    def _drop_hours(self, now: float) -> None:
        oldest = (now - DAY) // HOUR
        for hour in [hour for hour in self._hourly_counts if hour <= oldest]:
            del self._hourly_counts[hour]

    def _total(self, platforms: Iterable[str], since: float) -> tuple[int, int]:
        """Return the number of failed and of all attempts on some platforms since a Unix time."""
        failed = 0
        final = 0
        for platform in platforms:
            counts = self._sum(platform, since)
            failed += counts[0]
            final += counts[1]
        return failed, final

    def _sum(self, platform: str, since: float) -> tuple[int, int]:
        """Return the number of failed and of all attempts since a Unix time."""
        failed = 0
        final = 0
        for (name, slot, is_failed), count in self._counts.items():
            if name == platform and slot >= since // SLOT_SECONDS:
                final += count
                failed += count * is_failed
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
