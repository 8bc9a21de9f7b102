"""The content of a transaction: one round trip to read what the batch depends on, and one to write it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec
import psycopg

from late_exporter.metrics.aggregation import decode_value, encode_value
from late_exporter.metrics.counting import effective_increments
from late_exporter.model import PENDING, Batch, CommitResult, Observation, PendingLog
from late_exporter.series import Series, SeriesValue
from late_exporter.store.batches import apply_batch, group_by_series, select_new
from late_exporter.store.postgres import statements
from late_exporter.store.postgres.database import DeadlineConnection
from late_exporter.store.postgres.days import observation_day
from late_exporter.store.postgres.queries import (
    PENDING_LOGS,
    STATUSES,
    decode_pending,
    decode_statuses,
    encode,
    encode_labels,
    series_id,
    statuses_parameters,
)
from late_exporter.store.pruning import MAX_LOGS

Cursor: TypeAlias = psycopg.Cursor[tuple[Any, ...]]


class PreparedBatch(NamedTuple):
    """A batch, and what it changes.

    Args:
        new: Observations that are new.
        first: Those of them that are the first of their logs, by key.
        days: Day of the partition of each new observation by key.
        pending: New observations of logs that become pending.
    """

    batch: Batch
    new: Sequence[Observation]
    first: Mapping[str, Observation]
    days: Mapping[str, int]
    pending: Sequence[Observation]
    series_values: Mapping[Series, SeriesValue]

    @property
    def result(self) -> CommitResult:
        """The result of the commit, except what only the server knows afterwards."""
        return CommitResult(observations=self.new, series_values=self.series_values, pending_logs=None, log_count=0)


class WrittenBatch(NamedTuple):
    """The answers to the statements of a commit, which can be read once it is durable.

    ``log_changes`` are those to statements that change stored logs.
    """

    log_count_row: Cursor
    log_changes: Sequence[Cursor]
    pending_changes: Sequence[Cursor]
    pending_rows: Cursor | None

    @property
    def log_count(self) -> int:
        row = self.log_count_row.fetchone()
        return int(row[0]) if row else 0

    @property
    def keeps_logs(self) -> bool:
        """Whether no stored log has changed."""
        return not any(cursor.rowcount for cursor in self.log_changes)

    @property
    def pending_logs(self) -> Mapping[str, PendingLog] | None:
        """Pending logs of the feed by key; None if unchanged."""
        if self.pending_rows is None or not any(cursor.rowcount for cursor in self.pending_changes):
            return None
        return decode_pending(self.pending_rows)


class FeedBatch(NamedTuple):
    """A batch, the id of its feed, and series whose values the result has even if the batch changes none of them."""

    scope_id: int
    batch: Batch
    series: Collection[Series] = ()


def prepare(connection: DeadlineConnection, requests: Sequence[FeedBatch]) -> list[PreparedBatch]:
    """Read what is stored of some batches of different feeds, and return what each changes, one after the other."""
    # Logs of one kind share their increments.
    kinds = {id(each.increments): each.increments for _, batch, _ in requests for each in batch.observations}
    groups = [*(batch.increments for _, batch, _ in requests), *kinds.values()]
    all_series = {(each.family, each.labels) for group in groups for each in group}
    ids = {series: series_key(series) for series in all_series.union(*(series for _, _, series in requests))}
    names = sorted({workspace for workspace, _ in ids.values()})
    with connection.pipeline():
        status_rows = [
            connection.execute(STATUSES, statuses_parameters(scope_id, [each.entry.key for each in batch.observations]))
            if batch.observations
            else None
            for scope_id, batch, _ in requests
        ]
        series_rows = connection.execute(statements.READ_SERIES, (names, [identity for _, identity in ids.values()]))
    stored = {identity: SeriesValue(decode_value(value), created) for identity, value, created in series_rows}
    prepared: list[PreparedBatch] = []

    def stored_value(series: Series) -> SeriesValue | None:
        return stored.get(ids[series][1])

    for (_, batch, series), rows in zip(requests, status_rows, strict=True):
        changes = _prepare_batch(batch, rows.fetchall() if rows is not None else [], stored_value)
        current = {each: value for each in series if (value := stored_value(each)) is not None}
        prepared.append(changes._replace(series_values={**current, **changes.series_values}))
        # Feeds of one workspace share some series.
        stored.update({ids[series][1]: value for series, value in prepared[-1].series_values.items()})
    return prepared


def _prepare_batch(
    batch: Batch, rows: Sequence[tuple[Any, ...]], stored_value: Callable[[Series], SeriesValue | None]
) -> PreparedBatch:
    days = {key.decode(): day for key, _, day in rows}
    statuses = decode_statuses(rows)
    new, first = select_new(batch.observations, statuses)
    for observation in new:
        entry = observation.entry
        days.setdefault(entry.key, observation_day(entry.key, entry.created))
    increments = group_by_series(effective_increments(batch, new, first))
    return PreparedBatch(
        batch=batch,
        new=new,
        first=first,
        days={observation.entry.key: days[observation.entry.key] for observation in new},
        # A log that has another status is final: an outdated response must not make it pending again.
        pending=[each for each in new if each.entry.status == PENDING and statuses[each.entry.key] == {PENDING}],
        series_values=apply_batch(increments, batch, stored_value),
    )


def write(
    connection: DeadlineConnection, scope_id: int, prepared: PreparedBatch, place: Callable[[int], int]
) -> WrittenBatch:
    """Send the statements of a commit, within a pipeline and a transaction.

    Args:
        connection: Connection to the database.
        scope_id: Id of the feed.
        prepared: What the batch changes.
        place: Function that returns the day of the partition for a day.
    """
    batch, execute, log_changes = prepared.batch, connection.execute, list[Cursor]()
    execute(statements.UPDATE_SCOPE, _scope_changes(scope_id, prepared))
    if prepared.new:
        rows = sorted(
            (place(prepared.days[e.key]), encode(e.key), encode(e.status), e.created)
            for e in (observation.entry for observation in prepared.new)
        )
        log_changes.append(execute(statements.INSERT_OBSERVATIONS, (scope_id, *_columns(rows, 4))))
    if events := [observation.event for observation in prepared.new if observation.event is not None]:
        execute(statements.QUEUE_EVENTS, (scope_id, int(batch.committed_at * 1000), events))
    changes = _update_pending(connection, scope_id, prepared)
    if prepared.series_values:
        execute(statements.WRITE_SERIES, _series_columns(prepared.series_values))
    if batch.prune_before is not None:
        pruned = {"scope": scope_id, "before": batch.prune_before, "limit": MAX_LOGS}
        log_changes.append(execute(statements.PRUNE_REST, pruned))
        changes.append(execute(statements.EXPIRE_PENDING, (scope_id, batch.prune_before)))
    pending_rows = execute(PENDING_LOGS, (scope_id,)) if changes else None
    log_count_row = execute("SELECT logs FROM late_scope WHERE id = %s", (scope_id,))
    return WrittenBatch(log_count_row, log_changes, changes, pending_rows)


def _scope_changes(scope_id: int, prepared: PreparedBatch) -> dict[str, Any]:
    batch = prepared.batch
    return {
        "scope": scope_id,
        "logs": len(prepared.first),
        "observations": len(prepared.new),
        "coverage": msgspec.json.encode(batch.coverage) if batch.coverage else None,
        "progress": batch.progress,
        "prune_before": batch.prune_before,
        "caught_up": batch.coverage is not None and batch.coverage.is_caught_up,
    }


def _update_pending(connection: DeadlineConnection, scope_id: int, prepared: PreparedBatch) -> list[Cursor]:
    changes = []
    if prepared.pending:
        rows = [
            (encode(e.key), e.created or 0, encode(e.platform), encode(e.action), _encode_optional(e.post_id))
            for e in (observation.entry for observation in prepared.pending)
        ]
        changes.append(connection.execute(statements.ADD_PENDING, (scope_id, *_columns(rows, 5))))
    final = [encode(each.entry.key) for each in prepared.new if each.entry.status != PENDING]
    final += map(encode, prepared.batch.deleted_keys)
    if final:
        changes.append(connection.execute(statements.DELETE_PENDING, (scope_id, final)))
    return changes


def series_key(series: Series) -> tuple[str, bytes]:
    """Return the workspace and the id of a series, which identify its row."""
    family, labels = series
    return labels[0] if labels else "", series_id(family, encode_labels(labels))


def _series_columns(values: Mapping[Series, SeriesValue]) -> list[list[Any]]:
    rows = [
        (*series_key(series), family, encode_labels(labels), encode_value(each.value), each.created)
        for series, each in values.items()
        for family, labels in (series,)
    ]
    # In the order of the index, so that two processes never wait for each other.
    return _columns(sorted(rows, key=lambda row: row[:2]), 6)


def _columns(rows: Any, count: int) -> list[list[Any]]:
    """Return the columns of rows, for ``unnest``."""
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(count)]


def _encode_optional(text: str | None) -> bytes | None:
    return None if text is None else encode(text)
