"""Expected values of the metric families, computed plainly from the rows of an API."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import accumulate
from typing import TypeAlias

import pytest

from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.simulator.log_list import LogRow
from tests.support.clock import DAY
from tests.support.samples import Samples
from tests.support.world import World

Values: TypeAlias = Mapping[tuple[str, ...], float]


class Oracle:
    """Expected values of the families of publishing and connection logs.

    Args:
        rows: Row of each observation of a publishing log.
        connections: Row of each connection log.
    """

    def __init__(self, rows: Iterable[LogRow], connections: Iterable[LogRow] = ()) -> None:
        self.expected: dict[str, Values] = {**_publishing(list(rows)), **_connections(list(connections))}

    def check(self, scrape: Samples) -> None:
        """Assert that every family has the expected values."""
        for family, values in self.expected.items():
            assert {labels: value for labels, value in values.items() if value} == pytest.approx(
                scrape.family(family)
            ), family


def _publishing(rows: Sequence[LogRow]) -> dict[str, Values]:
    attempts = [row for row in rows if row["action"] in {"publish", "retry"}]
    dated = [row for row in rows if row["createdAt"]]
    final = [row for row in attempts if row["status"] in {"success", "failed"}]
    failed = [row for row in rows if row["status"] == "failed"]
    pauses = {row["_id"]: row for row in rows if row["action"] == "rate_limit_pause"}
    return {
        "late_publishing_logs_total": _count(rows, "platform", "action", "status"),
        **_durations("late_publishing_duration_seconds", rows, "platform", "action", "status"),
        "late_publishing_failures_total": Counter(
            (row["platform"], row["action"], _cause(row), str(row["statusCode"] or "none")) for row in failed
        ),
        "late_publishing_retries_total": _count(
            [row for row in rows if row["action"] == "retry"], "platform", "status"
        ),
        "late_publishing_attempts_total": _count(final, "platform", "status"),
        "late_publishing_rate_limit_pauses_total": _count(pauses.values(), "platform"),
        "late_publishing_last_log_timestamp_seconds": _newest(dated, "platform", "action", "status"),
        "late_publishing_consecutive_failures": _post_streaks(attempts, "platform"),
        "late_workspace_consecutive_failures": _post_streaks(attempts),
        "late_account_logs_total": _count(attempts, "platform", "accountId", "status"),
        "late_account_last_success_timestamp_seconds": _last_success(attempts),
        "late_account_consecutive_failures": _streaks(attempts),
    }


def _connections(rows: Sequence[LogRow]) -> dict[str, Values]:
    failed = [row for row in rows if row["eventType"].endswith("_failed")]
    return {
        "late_connection_events_total": _count(rows, "platform", "eventType", "connectionMethod"),
        "late_connection_failures_total": Counter(
            (row["platform"], row["eventType"], row["error"]["code"]) for row in failed
        ),
        **_durations("late_connection_duration_seconds", rows, "platform", "eventType"),
        "late_connection_last_event_timestamp_seconds": _newest(rows, "platform", "eventType"),
    }


def _durations(family: str, rows: Iterable[LogRow], *fields: str) -> dict[str, Values]:
    timed = [row for row in rows if row["durationMs"] is not None]
    return {
        f"{family}_count": _count(timed, *fields),
        f"{family}_sum": {
            labels: sum(row["durationMs"] for row in group) / 1000 for labels, group in _group(timed, *fields).items()
        },
        f"{family}_bucket": _buckets(timed, CATALOGUE[family].buckets, fields, lambda row: row["durationMs"] / 1000),
    }


def _newest(rows: Iterable[LogRow], *fields: str) -> Values:
    return {labels: max(map(created_at, group)) for labels, group in _group(rows, *fields).items()}


def _group(rows: Iterable[LogRow], *fields: str) -> dict[tuple[str, ...], list[LogRow]]:
    groups: dict[tuple[str, ...], list[LogRow]] = {}
    for row in rows:
        groups.setdefault(tuple(str(row[name] or "unknown") for name in fields), []).append(row)
    return groups


def _count(rows: Iterable[LogRow], *fields: str) -> dict[tuple[str, ...], float]:
    return {labels: len(group) for labels, group in _group(rows, *fields).items()}


def _buckets(
    rows: Iterable[LogRow], bounds: Sequence[float], fields: Sequence[str], value: Callable[[LogRow], float]
) -> dict[tuple[str, ...], float]:
    names = [*(str(float(bound)) for bound in bounds), "+Inf"]
    found: dict[tuple[str, ...], float] = {}
    for labels, group in _group(rows, *fields).items():
        counts = Counter(bisect_left(bounds, value(row)) for row in group)
        running = accumulate(counts[place] for place in range(len(names)))
        found.update({(*labels, name): count for name, count in zip(names, running, strict=True)})
    return found


def _cause(row: LogRow) -> str:
    if row["action"] == "rate_limit_pause":
        return "platform_rate_limit"
    return CAUSES[row["statusCode"], row["response"]["errorCode"]]


def created_at(row: LogRow) -> float:
    """Return the creation time of a row, which must have one."""
    return _timestamp(row["createdAt"])


@lru_cache(maxsize=50_000)
def _timestamp(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _by_account(rows: Iterable[LogRow]) -> dict[tuple[str, ...], list[LogRow]]:
    known = [row for row in rows if row["createdAt"] and row["accountId"] and row["status"] in {"failed", "success"}]
    return _group(known, "platform", "accountId")


def _last_success(rows: Iterable[LogRow]) -> Values:
    return {
        account: max((created_at(row) for row in results if row["status"] == "success"), default=0)
        for account, results in _by_account(rows).items()
    }


def _streaks(rows: Iterable[LogRow]) -> Values:
    successes = _last_success(rows := list(rows))
    return {
        account: sum(row["status"] == "failed" and created_at(row) > successes[account] for row in results)
        for account, results in _by_account(rows).items()
    }


def _post_streaks(attempts: Iterable[LogRow], *fields: str) -> Values:
    """Return the failed ``publish`` logs since the last success, by some fields.

    Those within five minutes after a counted one do not count.
    """
    final = [row for row in attempts if row["createdAt"] and row["status"] in {"failed", "success"}]
    streaks: dict[tuple[str, ...], float] = {}
    for labels, rows in _group(final, *fields).items():
        successes = [created_at(row) for row in rows if row["status"] == "success"]
        last_success = max(successes, default=0)
        failed = [row for row in rows if row["status"] == "failed" and row["action"] == "publish"]
        counted: list[float] = []
        for time in sorted(created_at(row) for row in failed if created_at(row) > last_success):
            if not counted or time >= counted[-1] + 300:
                counted.append(time)
        streaks[labels] = len(counted)
    return streaks


CAUSES = {
    (429, "RATE_LIMITED"): "platform_rate_limit",
    (401, "TOKEN_EXPIRED"): "auth_expired",
    (500, None): "platform_error",
    (400, None): "user_content",
    (403, "PERMISSION_DENIED"): "platform_rejected",
    (None, "MEDIA_UPLOAD_FAILED"): "user_content",
    (None, None): "unknown",
}
"""What a failure with this ``statusCode`` and error code is counted as."""


def expected_pending(
    world: World, grace: float = 0.0, *, lost: Callable[[str], bool] = lambda _: False
) -> Counter[tuple[str, ...]]:
    """Return the number of logs that are pending, or expired a moment ago, by platform and action.

    ``lost`` tells by their ids which logs cannot be known.
    """
    edge = world.clock.now - 7 * DAY
    recent = [row for row in world.history.values() if row["createdAt"] and edge - grace <= created_at(row) < edge]
    return Counter(
        (row["platform"], row["action"])
        for row in (*world.visible.values(), *recent)
        if row["status"] == "pending" and not lost(row["_id"])
    )
