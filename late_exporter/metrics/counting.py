"""Count logs: all logs of one kind have the same increments, which are computed once and applied to them together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from late_exporter.feeds.feed import Feed
from late_exporter.model import UNKNOWN, LogEntry
from late_exporter.series import (
    Exemplar,
    IncCounter,
    Increment,
    ObserveHistogram,
    ObserveLog,
    ObserveValues,
    RecordAttempt,
    SetByLog,
    SetLatest,
)

MAX_EXEMPLAR_CHARACTERS = 128 - len("log_idpost_id")
"""Characters that an exemplar has for the ids; OpenMetrics limits names and values together to 128."""


def project_log(feed: Feed, workspace: str, log: LogEntry) -> Iterator[Increment]:
    """Yield the increments of a single log, with its exemplars."""
    now = log.created or 0
    for increment in feed.project(workspace, log.kind):
        if isinstance(increment, ObserveLog):
            yield observe_log(increment, log, now)
        else:
            yield from count_logs(increment, (log,), now)


def count_logs(increment: Increment, logs: Sequence[LogEntry], now: int) -> Sequence[Increment]:
    """Return an increment of a kind with the numbers of its logs; ``now`` is the API time in milliseconds."""
    series = increment.family, increment.labels, increment.once_per_log
    match increment:
        case IncCounter(amount=amount):
            return [IncCounter(*series, amount=amount * len(logs))]
        case ObserveLog(bounds=bounds):
            return [ObserveValues(*series, micros=tuple(_values(increment, logs, now)), bounds=bounds)]
        case SetByLog(value=value):
            at = max([log.created or 0 for log in logs])
            return [SetLatest(*series, at=at, value=at / 1000 if value is None else value)]
        case RecordAttempt(at=0, failed=failed):
            times = [log.created or 0 for log in logs]
            if not failed:
                times = [max(times)]  # An earlier success changes nothing.
            return [RecordAttempt(*series, at=at, failed=failed) for at in times]
    return [increment] * len(logs)


def observe_log(increment: ObserveLog, log: LogEntry, now: int) -> ObserveHistogram:
    """Return the observation of one log, with its exemplar if its ids are short enough."""
    (micros,) = _values(increment, (log,), now)
    exemplar = _exemplar(log, now) if increment.has_exemplar else None
    series = increment.family, increment.labels, increment.once_per_log
    return ObserveHistogram(*series, micros=micros, bounds=increment.bounds, exemplar=exemplar)


def lag_micros(log: LogEntry, now: int) -> int:
    """Return the time from the creation of a log to its count, in microseconds."""
    return max(0, now - (log.created or 0)) * 1000


def _exemplar(log: LogEntry, now: int) -> Exemplar | None:
    post_id = log.post_id or UNKNOWN
    if len(log.key) + len(post_id) > MAX_EXEMPLAR_CHARACTERS:
        return None
    return Exemplar((("log_id", log.key), ("post_id", post_id)), min(log.created or 0, now) / 1000)


def _values(increment: ObserveLog, logs: Sequence[LogEntry], now: int) -> list[int]:
    if increment.number == "lag":
        return [lag_micros(log, now) for log in logs]
    return [getattr(log, increment.number) or 0 for log in logs]
