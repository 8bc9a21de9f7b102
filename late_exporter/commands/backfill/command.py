"""The command ``backfill``."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from late_exporter.commands._runner import (
    ConnectWorkspaces,
    interruptible,
    selected_workspaces,
    warn,
    write_stdout,
)
from late_exporter.commands.backfill.collect import HEAD_BLOCK, Period, collect_history
from late_exporter.commands.backfill.history import SeriesHistory
from late_exporter.commands.backfill.openmetrics import (
    SampleGrid,
    estimate_size,
    sort_histories,
    write_openmetrics,
)
from late_exporter.commands.feed_choice import recorded_feed, require_retained
from late_exporter.commands.progress import ProgressBar
from late_exporter.commands.textfile import atomic_write
from late_exporter.config.sections import CommandFlags, MetricsSettings
from late_exporter.config.settings import CommandContext
from late_exporter.errors import ConfigError, LateError
from late_exporter.exposition.family import Family
from late_exporter.feeds.feed import Feed
from late_exporter.format import human_size, plural
from late_exporter.masking import quote
from late_exporter.metrics.catalogue import build_catalogue
from late_exporter.model import DAY_MS, Scope
from late_exporter.store.records import Coverage
from late_exporter.store.snapshot import Snapshot

WEEK_MS = 7 * DAY_MS
STANDARD_OUTPUT = "-"


def write_backfill(context: CommandContext, connect: ConnectWorkspaces) -> int:
    """Write the history to a file, which does not exist if the command fails; return the exit code."""
    now, flags = int(time.time() * 1000), context.flags
    metrics, target_labels = context.settings.metrics, dict(flags.label)
    families = build_catalogue(metrics.buckets)
    problems = [*_problems(context, families, now)]
    if problems:
        raise ConfigError(*problems)
    if "job" not in target_labels:
        warn("no --label job=...: Prometheus adds a job to everything it scrapes, so these will be separate series")
    progress, output = ProgressBar(sys.stderr), flags.output or ""

    def write() -> int:
        with _output_file(output) as file:
            since, histories = asyncio.run(_collect(context, connect, families, now, progress))
            progress.clear()
            grid = SampleGrid(since, int(flags.step * 1000))
            _write_series(file, output, sort_histories(histories, families), grid, target_labels, progress)
        return 0

    try:
        with interruptible():
            return write_stdout(write)
    except KeyboardInterrupt:
        progress.clear()
        unfinished = "standard output is incomplete" if output == STANDARD_OUTPUT else "nothing was written"
        warn(f"interrupted; {unfinished}")
        raise
    except BaseException:
        progress.clear()
        raise


def _write_series(
    file: IO[bytes],
    output: str,
    histories: Sequence[SeriesHistory],
    grid: SampleGrid,
    target_labels: Mapping[str, str],
    progress: ProgressBar,
) -> None:
    total = len(histories)
    require_space(output, estimate_size(histories, grid, target_labels), total)
    progress.start(output)

    def on_progress(count: int) -> None:
        progress.update(count, total, f"{count:,} of {total:,} series")

    sample_count = write_openmetrics(file, histories, grid, target_labels, on_progress=on_progress)
    progress.finish(f"{plural(sample_count, 'sample')} of {total:,} series")


def require_space(output: str, size: int, series_count: int) -> None:
    """Report how large the output will be; raise LateError if there is not enough space for it."""
    text = f"about {human_size(size)} in {series_count:,} series"
    if output == STANDARD_OUTPUT:
        warn(text)
        return
    try:
        free = shutil.disk_usage(Path(output).absolute().parent).free
    except OSError as exc:
        raise LateError(f"{output}: cannot be written: {exc.strerror}") from exc
    if free < size:
        raise LateError(
            f"{output}: {text} would be written, but only {human_size(free)} are free; choose another folder, a longer "
            "--step or a shorter --since"
        )
    warn(f"{output}: {text} will be written, {human_size(free)} are free")


def _is_exposed(family: Family, metrics: MetricsSettings) -> bool:
    return family.name not in metrics.disable and bool(metrics.max_accounts or "account_id" not in family.labels)


def _problems(context: CommandContext, families: Mapping[str, Family], now: int) -> Iterator[str]:
    flags = context.flags
    if not flags.output:
        yield "--output: required: a file, or - for standard output"
    elif flags.output != STANDARD_OUTPUT and os.path.lexists(flags.output):
        yield f"--output{quote(flags.output)}: already exists; remove it, or choose another name"
    yield from _period_problems(flags, now)
    try:
        selected_workspaces(context)
    except ConfigError as exc:
        yield from exc.problems
    reserved_names = {"le", *(label for family in families.values() for label in family.labels)}
    label_names = [name for name, _ in flags.label]
    for name in sorted(set(label_names)):
        if name in reserved_names:
            yield f"--label{quote(name)}: the metrics already have a label of that name"
        elif label_names.count(name) > 1:
            yield f"--label{quote(name)}: given {label_names.count(name)} times"


def _period_problems(flags: CommandFlags, now: int) -> Iterator[str]:
    if flags.until is not None and flags.until * 1000 > now - HEAD_BLOCK:
        yield "--until: must be at least 3h ago, because Prometheus keeps newer samples in its head block"
    if flags.until is not None and flags.since is not None:
        grid = SampleGrid(now - int(flags.since * 1000), int(flags.step * 1000))
        if not grid.timestamps(int(flags.until * 1000)):
            yield "--until: too early: no sample is between the time that --since selects and this one"


async def _collect(
    context: CommandContext, connect: ConnectWorkspaces, families: Mapping[str, Family], now: int, progress: ProgressBar
) -> tuple[int, Sequence[SeriesHistory]]:
    settings, flags = context.settings, context.flags
    scopes = [Scope(name, feed) for name in selected_workspaces(context) for feed in settings.poll.feeds]
    histories: list[SeriesHistory] = []
    async with connect as connections:
        with Snapshot(settings.state.url, settings.state.password_path) as snapshot:
            recorded_scopes = snapshot.scopes
            coverages = {
                scope: snapshot.feed_state(scope).coverage if scope in recorded_scopes else None for scope in scopes
            }
        feeds = {
            scope: await recorded_feed(scope.feed, *connections[scope.workspace], coverages[scope]) for scope in scopes
        }
        period = Period(
            now=now,
            since=_since(flags.since, feeds, coverages, now),
            until=None if flags.until is None else int(flags.until * 1000),
        )
        for scope, feed in feeds.items():
            collected = await collect_history(
                scope,
                feed,
                client=connections[scope.workspace].client,
                snapshot=Snapshot(settings.state.url, settings.state.password_path),
                families=families,
                period=period,
                progress=progress,
            )
            histories += [history for history in collected if _is_exposed(history.family, settings.metrics)]
    if not histories:
        raise LateError("there is no history to write: no log was counted in that period")
    return period.since, histories


def _since(
    since: float | None, feeds: Mapping[Scope, Feed], coverages: Mapping[Scope, Coverage | None], now: int
) -> int:
    """Return the start of the history in milliseconds: as given by --since, or that of the oldest counted logs."""
    longest = max(feeds.values(), key=lambda feed: feed.retention)
    require_retained(since, longest)
    if since is not None:
        return now - int(since * 1000)
    week_ago, oldest_kept = now - WEEK_MS, now - longest.retention
    floors = [coverage.retention_floor for coverage in coverages.values() if coverage is not None]
    # Three months of samples without a change would be a large file.
    return min(week_ago, max(oldest_kept, min(floors, default=week_ago)))


@contextmanager
def _output_file(output: str) -> Iterator[IO[bytes]]:
    if output == STANDARD_OUTPUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with atomic_write(Path(output), 0o600) as file:  # it contains account ids
        yield file
