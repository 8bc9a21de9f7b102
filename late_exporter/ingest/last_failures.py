"""The last failed attempts to publish of each account, which are kept in the state for the status page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from late_exporter.feeds.publishing import ATTEMPTS
from late_exporter.feeds.view import without_unknown
from late_exporter.health import Failure
from late_exporter.model import FAILED, LogEntry

MAX_FAILURES, MAX_ACCOUNT_FAILURES = 100, 20
"""Failures that are kept of a workspace, and of one account."""

MAX_ERROR_LENGTH = 300


def add_failures(
    failures: Sequence[Failure], logs: Iterable[LogEntry], since: int
) -> tuple[Failure, ...]:
    """Return failures and those among some logs, newest first; none is older than a time in milliseconds."""
    by_key = {failure.key: failure for failure in failures}
    by_key |= {
        log.key: _failure(log) for log in logs if log.status == FAILED and log.action in ATTEMPTS
    }
    kept: list[Failure] = []
    counts: Counter[tuple[str, str]] = Counter()
    for failure in sorted(by_key.values(), key=lambda each: each.time, reverse=True):
        account = failure.platform, failure.account_id
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
