"""The command that writes the past to a file."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

from late_exporter.commands._runner import ConnectWorkspaces, write_stdout
from late_exporter.commands.backfill import (
    HEAD_BLOCK,
    Period,
    ProgressBar,
    SampleGrid,
    SeriesHistory,
    collect_history,
    write_openmetrics,
)
from late_exporter.commands.feed_choice import recorded_feed, require_retained
from late_exporter.commands.textfile import atomic_write
from late_exporter.config.settings import CommandContext
from late_exporter.config.types import quote
from late_exporter.errors import ConfigError, LateError
from late_exporter.exposition.family import Family
from late_exporter.metrics.catalogue import build_catalogue
from late_exporter.model import Coverage, Feed, Scope
from late_exporter.store import open_snapshot

__all__ = ["backfill"]

PRIVATE_MODE = 0o600
"""Ids of accounts are nobody else's business."""

WEEK = 604_800_000
STANDARD_OUTPUT = "-"


def backfill(call: CommandContext, clients: ConnectWorkspaces) -> int:
    """Write the past; where that fails or is broken off there is no file."""
    now, asked = int(time.time() * 1000), call.flags
    families, target = _families(call), dict(asked.label)
    problems = [*_problems(call, families, now)]
    if problems:
        raise ConfigError(*problems)
    if "job" not in target:
        _warn("no --label job=...: Prometheus gives one to all that it scrapes, and these will be other series")
    progress = ProgressBar(sys.stderr)

    def work() -> int:
        with _interruptible(), _destination(asked.output or "") as file:
            since, tracks = asyncio.run(_collect(call, clients, families, now, progress))
            progress.start(asked.output or "")
            grid = SampleGrid(since, int(asked.step * 1000))
            samples = write_openmetrics(
                file, tracks, families, grid, target, on_progress=partial(_show_progress, progress, len(tracks))
            )
        progress.finish(f"{samples:,} samples of {len(tracks):,} series")
        return 0

    try:
        return write_stdout(work)
    except BaseException:
        progress.clear()
        raise


def _families(call: CommandContext) -> Mapping[str, Family]:
    """What may be told of, as the exporter shows it."""
    families = build_catalogue(call.settings.metrics.duration_buckets)
    if call.settings.metrics.max_accounts:
        return families
    return {name: family for name, family in families.items() if "account_id" not in family.labels}


def _problems(call: CommandContext, families: Mapping[str, Family], now: int) -> Iterator[str]:
    asked = call.flags
    if asked.output is None:
        yield "--output: is needed: a file, or - for standard output"
    elif asked.output != STANDARD_OUTPUT and Path(asked.output).exists():
        yield f"--output{quote(asked.output)}: there is such a file already; remove it, or choose another name"
    if asked.until is not None and asked.until * 1000 > now - HEAD_BLOCK:
        yield "--until: must be at least 3h ago: what is newer Prometheus still holds in its head"
    names = [workspace.name for workspace in call.settings.workspaces]
    if asked.workspace is not None and asked.workspace not in names:
        yield f"--workspace{quote(asked.workspace)}: there is no such workspace, but {', '.join(names)}"
    taken = {"le", *(label for family in families.values() for label in family.labels)}
    given = [name for name, _ in asked.label]
    for name in sorted(set(given)):
        if name in taken:
            yield f"--label{quote(name)}: the metrics have such a label of their own"
        elif given.count(name) > 1:
            yield f"--label{quote(name)}: given {given.count(name)} times"


async def _collect(
    call: CommandContext, clients: ConnectWorkspaces, families: Mapping[str, Family], now: int, progress: ProgressBar
) -> tuple[int, Sequence[SeriesHistory]]:
    """Where history begins, and what it is."""
    settings, asked = call.settings, call.flags
    scopes = [
        Scope(workspace.name, feed)
        for workspace in settings.workspaces
        for feed in settings.poll.feeds
        if asked.workspace in (None, workspace.name)
    ]
    tracks: list[SeriesHistory] = []
    async with clients as known:
        coverages = _coverages(settings.state.url, scopes)
        feeds = {scope: await recorded_feed(scope.feed, coverages[scope], *known[scope.workspace]) for scope in scopes}
        span = Period(
            now=now,
            since=_since(call, feeds, coverages, now),
            until=None if asked.until is None else int(asked.until * 1000),
        )
        for scope, feed in feeds.items():
            tracks += await collect_history(
                scope,
                feed,
                client=known[scope.workspace].client,
                records=open_snapshot(settings.state.url),
                families=families,
                period=span,
                progress=progress,
            )
    if not tracks:
        raise LateError("there is nothing to tell: no log was counted in that time")
    return span.since, tracks


def _coverages(url: str, scopes: Sequence[Scope]) -> Mapping[Scope, Coverage | None]:
    with open_snapshot(url) as records:
        there = records.scopes
        return {scope: records.feed_state(scope).coverage if scope in there else None for scope in scopes}


def _since(
    call: CommandContext, feeds: Mapping[Scope, Feed], coverages: Mapping[Scope, Coverage | None], now: int
) -> int:
    """Where history begins: where it is asked to, or with the oldest logs that there can be."""
    longest = max(feeds.values(), key=lambda feed: feed.retention)
    require_retained(call.flags.since, longest)
    if call.flags.since is not None:
        return now - int(call.flags.since * 1000)
    horizons = [coverage.retention_floor for coverage in coverages.values() if coverage is not None]
    week, kept = now - WEEK, now - longest.retention
    # Three months of samples of nothing would be large.
    return min(week, max(kept, min(horizons, default=week)))


@contextmanager
def _destination(output: str) -> Iterator[IO[bytes]]:
    if output == STANDARD_OUTPUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with atomic_write(Path(output), PRIVATE_MODE) as file:
        yield file


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM end it as Ctrl-C does, so that nothing is left behind."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _show_progress(progress: ProgressBar, total: int, done: int) -> None:
    progress.update(done, total, f"{done:,} of {total:,} series")


def _warn(words: str) -> None:
    sys.stderr.write(f"late-exporter: {words}\n")
