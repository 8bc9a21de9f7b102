"""What a batch changes, given what is stored; the same for every backend."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from late_exporter.metrics.aggregation import apply_increments, count_logs
from late_exporter.model import LogEntry
from late_exporter.series import Increment, Series, SeriesValue
from late_exporter.store.records import Batch, Observation, with_status


def select_new(
    observations: Iterable[Observation], statuses: dict[str, frozenset[str]]
) -> tuple[list[Observation], dict[str, Observation]]:
    """Return the observations that are new, and by key those of them that are the first of their logs.

    Args:
        observations: Observations of a batch.
        statuses: Stored statuses by key; those of the new observations are added.
    """
    new: list[Observation] = []
    first: dict[str, Observation] = {}
    for observation in observations:
        entry = observation.entry
        key, status = entry.key, entry.status
        stored = statuses.get(key)
        if stored is None:
            first[key] = observation
        elif status in stored:
            continue
        statuses[key] = with_status(stored, status)
        new.append(observation)
    return new, first


def effective_increments(
    batch: Batch, new: Sequence[Observation], first: Mapping[str, Observation]
) -> Iterator[Sequence[Increment]]:
    """Yield the increments of a batch that apply, in groups of one series.

    Args:
        batch: Batch that is being committed.
        new: Its observations that are new.
        first: By key those of them that are the first of their logs, for which increments once per log apply.
    """
    yield from ((increment,) for increment in batch.increments)
    for increment, logs in _logs_by_increment(new, first):
        if logs:
            yield count_logs(increment, logs, batch.now)


def _logs_by_increment(
    new: Sequence[Observation], first: Mapping[str, Observation]
) -> Iterable[tuple[Increment, list[LogEntry]]]:
    """Return each increment of observations, which those of one kind share, with the logs for which it applies."""
    by_kind: dict[int, list[Observation]] = {}
    for observation in new:
        by_kind.setdefault(id(observation.increments), []).append(observation)
    has_only_first = len(first) == len(new)
    by_increment: dict[int, tuple[Increment, list[LogEntry]]] = {}
    for observations in by_kind.values():
        logs = [observation.entry for observation in observations]
        first_logs = logs if has_only_first else [o.entry for o in observations if first.get(o.entry.key) is o]
        for increment in observations[0].increments:
            _, increment_logs = by_increment.setdefault(id(increment), (increment, []))
            increment_logs += first_logs if increment.once_per_log else logs
    return by_increment.values()


def group_by_series(groups: Iterable[Sequence[Increment]]) -> dict[Series, list[Increment]]:
    """Return increments by their series; each group is of one series."""
    by_series: dict[Series, list[Increment]] = {}
    for group in groups:
        by_series.setdefault((group[0].family, group[0].labels), []).extend(group)
    return by_series


def apply_batch(
    increments: Mapping[Series, Sequence[Increment]],
    batch: Batch,
    stored_value: Callable[[Series], SeriesValue | None],
) -> dict[Series, SeriesValue]:
    """Return the values of series after a batch; a function returns the stored ones."""
    values: dict[Series, SeriesValue] = {}
    for series, changes in increments.items():
        stored = stored_value(series)
        values[series] = SeriesValue(
            apply_increments(changes, stored.value if stored else None),
            stored.created if stored else batch.series_created_at,
        )
    return values
