"""The command ``backfill``: write the history that the API still holds as OpenMetrics, for Prometheus."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import closing

from late_exporter.app.assembly import PipelineConfig
from late_exporter.commands.backfill_history import FeedHistory
from late_exporter.commands.connections import WorkspaceConnection, connect_workspaces, recorded_feed
from late_exporter.commands.event_loop import run_interruptible
from late_exporter.commands.list_reader import ListReader
from late_exporter.commands.output import warn, write_stdout
from late_exporter.commands.progress import ProgressLine
from late_exporter.config.quoting import quote
from late_exporter.config.settings import CommandContext
from late_exporter.errors import ConfigError, LateError
from late_exporter.exposition.family import Family
from late_exporter.format import iso_time, plural
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.metrics.series_history import SeriesHistory, write_openmetrics
from late_exporter.model import MINUTE_MS, Scope
from late_exporter.store.snapshot import Snapshot

HEAD_BLOCK = 180 * MINUTE_MS  # that Prometheus keeps in its head block, which imported blocks must not overlap
LATE_ARRIVAL_WINDOW = 60 * MINUTE_MS  # by which logs may appear late


def backfill(context: CommandContext) -> int:
    """Write the history, or nothing if it cannot be collected; promtool rejects a file that is incomplete."""
    if problems := [*_problems(context)]:
        raise ConfigError(*problems)
    target_labels = dict(context.flags.label)
    if "job" not in target_labels:
        warn("no --label job=...: Prometheus adds a job to everything it scrapes, so these will be separate series")

    histories = run_interruptible(_collect(context))

    def write() -> int:
        write_openmetrics(sys.stdout.buffer, histories, target_labels)
        return 0

    return write_stdout(write, broken_pipe_code=1)


def _problems(context: CommandContext) -> Iterator[str]:
    if sys.stdout.isatty():
        yield "the history is written to standard output: redirect it to a file, as in late-exporter backfill > late.om"
    reserved_names = {"le", *(label for family in CATALOGUE.values() for label in family.labels)}
    for name in sorted(reserved_names & {name for name, _ in context.flags.label}):
        yield f"--label{quote(name)}: the metrics already have a label of that name"


async def _collect(context: CommandContext) -> Sequence[SeriesHistory]:
    """Return the exposed series of all feeds in the order of the families."""
    settings, histories = context.settings, list[SeriesHistory]()
    config = PipelineConfig.of(settings)
    with closing(ProgressLine(sys.stderr)) as progress:
        async with connect_workspaces(context) as connections:
            for scope in [Scope(name, feed) for name in connections for feed in settings.poll.feeds]:
                connection = connections[scope.workspace]
                progress.start(f"{scope.workspace} {scope.feed}", connection[0].quota_wait)
                snapshot = Snapshot(settings.state.url, settings.state.password_path)
                histories += await collect_history(scope, connection, snapshot, config.families, progress)
    exposed = [name for name in config.visible_families if name not in config.disabled_families]
    selection = [history for history in histories if history.family.name in exposed]
    if not selection:
        raise LateError("there is no history to write: no log was counted in that period")
    return sorted(selection, key=lambda history: (exposed.index(history.family.name), history.labels))


async def collect_history(
    scope: Scope,
    connection: WorkspaceConnection,
    snapshot: Snapshot,
    families: Mapping[str, Family],
    progress: ProgressLine,
    *,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Sequence[SeriesHistory]:
    """Return the series of a feed before they were first scraped, and close the snapshot; raise LateError."""
    (client, detector), now, name = connection, int(clock() * 1000), f"{scope.workspace} {scope.feed}"
    # Read all at once: requests take as long as the quota requires, and the state must not stay open meanwhile.
    with snapshot:
        coverage = snapshot.feed_state(scope).coverage if scope in snapshot.scopes else None
        if coverage is None or not coverage.is_synced:
            raise LateError(f"{name}: the first sync is not complete; try again when the exporter is ready")
        until = min(now - HEAD_BLOCK, coverage.published_at - LATE_ARRIVAL_WINDOW)
        values = snapshot.series_values()
        recorded_statuses = [*snapshot.recorded_statuses(scope)]
    feed = await recorded_feed(scope.feed, client, detector, coverage)
    if coverage.is_switched:
        raise LateError(f"{name}: no history: earlier logs were counted from another list than the API has")
    # Older logs were never counted, or are pruned.
    start = max(now - feed.retention, coverage.retention_floor)
    if until <= start:
        raise LateError(f"{name}: no history: it would begin at {iso_time(start)} and end at {iso_time(until)}")
    history = FeedHistory(scope, feed, families, values, recorded_statuses, since=start, until=until)
    reader = ListReader(client, feed, progress=progress, sleep=sleep)
    async for page, _ in reader.pages(start):
        history.add_page(page.entries)
    progress.finish(f"{plural(history.log_count, 'log')} until {iso_time(until)}")
    return list(history.series(published_at=max(until, coverage.published_at)))
