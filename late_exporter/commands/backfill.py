"""The command ``backfill``: write the history that the API still holds as OpenMetrics, for Prometheus."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import IO

import msgspec

from late_exporter.commands.backfill_history import FeedHistory, RecordedLogs, SeriesHistory
from late_exporter.commands.connections import connect_workspaces, recorded_feed, require_retained
from late_exporter.commands.event_loop import interruptible
from late_exporter.commands.list_reader import PAUSES, ListReader
from late_exporter.commands.output import warn, write_stdout
from late_exporter.commands.progress import ProgressBar
from late_exporter.config.settings import CommandContext
from late_exporter.errors import ConfigError, LateError
from late_exporter.exposition.family import Family
from late_exporter.exposition.text import FamilyFormatter
from late_exporter.feeds.feed import Feed
from late_exporter.format import iso_time, plural
from late_exporter.masking import quote
from late_exporter.metrics.catalogue import build_catalogue
from late_exporter.model import MINUTE_MS, Coverage, Scope
from late_exporter.series import Labels
from late_exporter.store.snapshot import Snapshot

HEAD_BLOCK = 180 * MINUTE_MS  # that Prometheus keeps in its head block, which imported blocks must not overlap
LATE_ARRIVAL_WINDOW = 60 * MINUTE_MS  # by which logs may appear late


def backfill(context: CommandContext) -> int:
    """Write the history, or nothing if it cannot be collected; promtool rejects a file that is incomplete."""
    metrics = context.settings.metrics
    families = build_catalogue(metrics.duration_buckets, metrics.buckets)
    if problems := [*_problems(context, families)]:
        raise ConfigError(*problems)
    target_labels = dict(context.flags.label)
    if "job" not in target_labels:
        warn("no --label job=...: Prometheus adds a job to everything it scrapes, so these will be separate series")

    def write() -> int:
        progress = ProgressBar(sys.stderr)
        since, histories = asyncio.run(_collect(context, families, progress))
        progress.start("writing")
        total = len(histories)
        count = write_openmetrics(
            sys.stdout.buffer,
            histories,
            since,
            target_labels,
            on_progress=lambda done: progress.update(done, total, f"{done:,} of {total:,} series"),
        )
        progress.finish(f"{plural(count, 'sample')} of {total:,} series")
        return 0

    with interruptible():
        return write_stdout(write, broken_pipe_code=1)


def _problems(context: CommandContext, families: Mapping[str, Family]) -> Iterator[str]:
    if sys.stdout.isatty():
        yield "the history is written to standard output: redirect it to a file, as in late-exporter backfill > late.om"
    reserved_names = {"le", *(label for family in families.values() for label in family.labels)}
    for name in sorted(reserved_names & {name for name, _ in context.flags.label}):
        yield f"--label{quote(name)}: the metrics already have a label of that name"


async def _collect(
    context: CommandContext, families: Mapping[str, Family], progress: ProgressBar
) -> tuple[int, Sequence[SeriesHistory]]:
    """Return the start in milliseconds, and the series of all feeds in the order of the families."""
    settings, now = context.settings, int(time.time() * 1000)
    histories: list[SeriesHistory] = []
    async with connect_workspaces(context) as connections, progress.live():
        scopes = [Scope(name, feed) for name in connections for feed in settings.poll.feeds]
        with Snapshot(settings.state.url, settings.state.password_path) as snapshot:
            coverages = {
                scope: snapshot.feed_state(scope).coverage if scope in snapshot.scopes else None for scope in scopes
            }
        feeds = {
            scope: await recorded_feed(scope.feed, *connections[scope.workspace], coverages[scope]) for scope in scopes
        }
        since = _start(context.flags.since, feeds, coverages, now)
        for scope, feed in feeds.items():
            client = connections[scope.workspace].client
            progress.start(f"{scope.workspace} {scope.feed}", client)
            histories += await collect_history(
                scope,
                feed,
                ListReader(client, feed, progress=progress, pauses=PAUSES),
                snapshot=Snapshot(settings.state.url, settings.state.password_path),
                families=families,
                now=now,
                since=since,
                progress=progress,
            )
    metrics, order = settings.metrics, list(families)
    excluded_names = {*metrics.disable} | {
        name for name, family in families.items() if "account_id" in family.labels and not metrics.max_accounts
    }
    selection = [history for history in histories if history.family.name not in excluded_names]
    if not selection:
        raise LateError("there is no history to write: no log was counted in that period")
    return since, sorted(selection, key=lambda history: (order.index(history.family.name), history.labels))


def _start(
    since: float | None, feeds: Mapping[Scope, Feed], coverages: Mapping[Scope, Coverage | None], now: int
) -> int:
    """Return the start of the history in milliseconds: as given by --since, or that of the oldest counted logs."""
    longest = max(feeds.values(), key=lambda feed: feed.retention)
    require_retained(since, longest)
    if since is not None:
        return now - int(since * 1000)
    floors = [coverage.retention_floor for coverage in coverages.values() if coverage is not None]
    return max(now - longest.retention, min(floors, default=0))


async def collect_history(
    scope: Scope,
    feed: Feed,
    reader: ListReader,
    *,
    snapshot: Snapshot,
    families: Mapping[str, Family],
    now: int,
    since: int,
    progress: ProgressBar,
) -> Sequence[SeriesHistory]:
    """Return the series of a feed before they were first scraped, and close the snapshot; raise LateError.

    ``now`` and ``since`` are times in milliseconds.
    """
    # Read the state at once: requests take as long as the quota requires, and the state must not stay open meanwhile.
    with snapshot:
        coverage = snapshot.feed_state(scope).coverage if scope in snapshot.scopes else None
        until, values = _end(scope, coverage, now, since), snapshot.series_values()
        recorded_logs = RecordedLogs(snapshot.recorded_statuses(scope), until=until)
    lower = max(since, coverage.retention_floor if coverage else 0)  # older logs were never counted, or are pruned
    history = FeedHistory(
        scope, feed, families=families, values=values, recorded_logs=recorded_logs, since=lower, until=until
    )
    async for response in reader.pages(lower):
        history.add_page(response.page.entries)
    logs, requests = plural(history.log_count, "log"), plural(reader.request_count, "request")
    progress.finish(f"{logs} until {iso_time(until)}, {requests}")
    return list(history.series(published_at=max(until, coverage.published_at if coverage else 0)))


def _end(scope: Scope, coverage: Coverage | None, now: int, since: int) -> int:
    """Return the end of the history of a feed: before the first possible scrape; raise LateError if there is none."""
    problem, end = "", 0
    if coverage is None or not coverage.is_synced:
        problem = "the first sync is not complete; try again when the exporter is ready"
    elif coverage.is_switched:
        floor = iso_time(coverage.retention_floor)
        problem = f"there is no history to write: logs before {floor} were counted from another list than the API has"
    else:
        end = min(now - HEAD_BLOCK, coverage.published_at - LATE_ARRIVAL_WINDOW)
        if end <= since:
            problem = f"there is no history to write: it would begin at {iso_time(since)} and end at {iso_time(end)}"
    if problem:
        raise LateError(f"{scope.workspace} {scope.feed}: {problem}")
    return end


STEP_MS, SPARSE_STEP_MS = 60_000, 240_000
"""Milliseconds between two samples near a change, and of an unchanged series; after 5 minutes, it would be stale."""

DENSE_WINDOW = 60 * MINUTE_MS
"""Milliseconds around a change with a sample at every step, so that ``increase()`` over an hour is as with scrapes."""


def write_openmetrics(
    file: IO[bytes],
    histories: Iterable[SeriesHistory],
    since: int,
    target_labels: Mapping[str, str],
    *,
    on_progress: Callable[[int], object] = lambda _: None,
) -> int:
    """Write series that are ordered by family, with target labels in every sample; return the number of samples.

    The samples begin at ``since``, a time in milliseconds.
    """
    sample_count = series_count = 0
    for family, group in groupby(histories, key=lambda history: history.family):
        formatter = FamilyFormatter(msgspec.structs.replace(family, labels=(*family.labels, *target_labels)))
        file.write(formatter.header[1])
        for history in group:
            for text in _series_text(formatter, history, (*history.labels, *target_labels.values()), since):
                file.write(text)
                sample_count += text.count(b"\n")
            series_count += 1
            on_progress(series_count)
    file.write(b"# EOF\n")
    return sample_count


def _series_text(formatter: FamilyFormatter, history: SeriesHistory, labels: Labels, since: int) -> Iterator[bytes]:
    value, index = history.base, 0
    lines = formatter.samples(labels, value)
    # Whole minutes, so that full hours are among them, and the file does not depend on when the command runs.
    for timestamp in range(-(-since // STEP_MS) * STEP_MS, history.until + 1, STEP_MS):
        first = index
        while index < len(history.changes) and history.changes[index].at <= timestamp:
            value, index = history.changes[index].apply(value), index + 1
        if index > first:
            lines = formatter.samples(labels, value)
        is_near = any(
            abs(change.at - timestamp) <= DENSE_WINDOW for change in history.changes[max(0, index - 1) : index + 1]
        )
        if is_near or timestamp % SPARSE_STEP_MS == 0 or timestamp + STEP_MS > history.until:
            yield "".join(f"{line} {timestamp // 1000}\n" for line in lines).encode(errors="replace")
