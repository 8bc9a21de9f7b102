"""Health of platforms and accounts, by the current series of publishing logs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from late_exporter.feeds.publishing import ATTEMPTS as ATTEMPT_ACTIONS
from late_exporter.health import AccountHealth, Failure, PlatformHealth
from late_exporter.metrics.catalogue import LOGS, OLDEST_PENDING, PENDING_LOGS
from late_exporter.metrics.registry import SeriesRegistry
from late_exporter.model import FAILED, SUCCESS, UNKNOWN, Labels, LatestValue
from late_exporter.thresholds import CONSECUTIVE_FAILURES, DAY

ATTEMPTS = "late_publishing_attempts_total"
LAST_LOG = "late_publishing_last_log_timestamp_seconds"
STREAKS = "late_account_consecutive_failures"
PLATFORM_STREAKS = "late_publishing_consecutive_failures"
INFO = "late_account_info"


def platform_health(registry: SeriesRegistry, workspace: str) -> tuple[PlatformHealth, ...]:
    """Return the health of the platforms of a workspace that have logs, sorted by name.

    A platform with logs of the first sync has no time since which they are counted, but 0.
    """
    attempts = registry.numbers(workspace, ATTEMPTS)
    logs = _by_platform(registry.numbers(workspace, LOGS))
    times = {labels: each.created for labels, each in registry.values(workspace, LOGS).items()}
    created = _by_platform(times)
    pending = _by_platform(registry.numbers(workspace, PENDING_LOGS))
    oldest_pending = _by_platform(registry.numbers(workspace, OLDEST_PENDING))
    streaks = registry.numbers(workspace, PLATFORM_STREAKS)
    log_times = registry.numbers(workspace, LAST_LOG)
    last_logs = _by_platform(log_times)
    last_failures = _by_platform(
        {
            labels: time
            for labels, time in log_times.items()
            if labels[2] in ATTEMPT_ACTIONS and labels[3] == FAILED
        }
    )

    health = []
    for name in sorted(name for name, counts in logs.items() if any(counts)):
        failed = int(attempts.get((workspace, name, FAILED), 0))
        health.append(
            PlatformHealth(
                name=name,
                counted_since=min(created[name]),
                failed=failed,
                final=failed + int(attempts.get((workspace, name, SUCCESS), 0)),
                consecutive_failures=int(streaks.get((workspace, name), 0)),
                last_failure=max(last_failures[name], default=None),
                pending=int(sum(pending[name])),
                last_log=max(last_logs[name], default=None),
                oldest_pending=min(oldest_pending[name], default=None),
            )
        )
    return tuple(health)


def failing_accounts(registry: SeriesRegistry, workspace: str) -> tuple[AccountHealth, ...]:
    """Return the accounts that failed again and again, most consecutive failures first."""
    accounts = [
        AccountHealth(
            platform=labels[1],
            account_id=labels[2],
            username=username(registry, labels),
            consecutive_failures=int(failures),
        )
        for labels, failures in registry.numbers(workspace, STREAKS).items()
        if failures >= CONSECUTIVE_FAILURES
    ]
    accounts.sort(key=lambda each: (-each.consecutive_failures, each.platform, each.account_id))
    return tuple(accounts)


def unhealed_failures(
    registry: SeriesRegistry, workspace: str, failures: Iterable[Failure], now: float
) -> tuple[Failure, ...]:
    """Return the last failure of each account that has published nothing since.

    Of the failures of the workspace, newest first, those of more than a day before a Unix time in
    seconds are left out.
    """
    streaks = registry.numbers(workspace, STREAKS)
    newest: dict[Labels, Failure] = {}
    for failure in failures:
        account = (workspace, failure.platform, failure.account_id)
        if failure.time > now - DAY and streaks.get(account, 0):
            newest.setdefault(account, failure)
    return tuple(newest.values())


def _by_platform(numbers: Mapping[Labels, float]) -> defaultdict[str, list[float]]:
    by_platform = defaultdict[str, list[float]](list)
    for labels, number in numbers.items():
        by_platform[labels[1]].append(number)
    return by_platform


def username(registry: SeriesRegistry, account: Labels) -> str:
    """Return the name of an account, by the labels of its series; empty if unknown."""
    current = registry.get((INFO, account))
    if current is None or not isinstance(current.value, LatestValue):
        return ""
    names = current.value.value
    return names[0] if isinstance(names, tuple) and names[0] != UNKNOWN else ""
