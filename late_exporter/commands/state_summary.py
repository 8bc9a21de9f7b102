"""Summarize a state: its workspaces and feeds, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from late_exporter.errors import StoreError
from late_exporter.format import iso_time, plural
from late_exporter.model import Scope
from late_exporter.store import database_at
from late_exporter.store.snapshot import Snapshot


class FeedSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Summary of a feed in a state; times are ISO 8601 in UTC, and every log since ``since`` was counted."""

    feed: str
    logs: int
    pending: int
    oldest: str | None
    newest: str | None
    since: str | None
    gaps: int
    synced: bool


class WorkspaceSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Summary of a workspace in a state."""

    workspace: str
    series: int
    feeds: Sequence[FeedSummary]


class StateSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Summary of a state; the size is in bytes, and ``in_use`` is None if unknown."""

    path: str
    size: int
    in_use: bool | None
    workspaces: Sequence[WorkspaceSummary]

    def text(self) -> Iterator[str]:
        usage = {True: "in use by an exporter", False: "not in use", None: "may be in use"}[self.in_use]
        yield f"{self.path}: {self.size:,} bytes, {usage}"
        for summary in self.workspaces:
            yield f"{summary.workspace}: {summary.series:,} series"
            yield from (f"  {feed.feed}: {', '.join(_feed_details(feed))}" for feed in summary.feeds)


def summarize_state(url: str, password_file: Path | None = None) -> StateSummary:
    """Return the summary of the state at a URL; raise StoreError if there is none, or if it cannot be read."""
    with Snapshot(url, password_file) as snapshot:
        series_names = [labels[0] for _, labels in snapshot.series_values()]
        feeds: dict[str, list[FeedSummary]] = {}
        for scope in snapshot.scopes:
            feeds.setdefault(scope.workspace, []).append(_summarize_feed(snapshot, scope))
        workspaces = [
            WorkspaceSummary(workspace=name, series=series_names.count(name), feeds=feeds.get(name, []))
            for name in sorted({*feeds, *series_names})
        ]
        size = snapshot.size
    is_used = _is_in_use(url, password_file)
    return StateSummary(path=snapshot.name, size=size, in_use=is_used, workspaces=workspaces)


def _summarize_feed(snapshot: Snapshot, scope: Scope) -> FeedSummary:
    state, created_range = snapshot.feed_state(scope), snapshot.created_range(scope)
    coverage = state.coverage
    oldest, newest = map(iso_time, created_range) if created_range is not None else (None, None)
    return FeedSummary(
        feed=scope.feed,
        logs=state.log_count,
        pending=len(state.pending_logs),
        oldest=oldest,
        newest=newest,
        since=iso_time(coverage.complete_since) if coverage else None,
        gaps=len(coverage.gaps) if coverage else 0,
        synced=coverage is not None and coverage.is_synced,
    )


def _is_in_use(url: str, password_file: Path | None) -> bool | None:
    try:
        return database_at(url, password_file).is_in_use()
    except StoreError:
        return None  # the state is readable, but its lock file is not writable


def _feed_details(feed: FeedSummary) -> Iterator[str]:
    yield plural(feed.logs, "log")
    if feed.pending:
        yield f"{feed.pending:,} pending"
    if feed.newest:
        yield f"created {feed.oldest} to {feed.newest}"
    if not feed.synced:
        yield "first sync not complete"
    if feed.since:
        yield f"complete since {feed.since}"
    if feed.gaps:
        yield f"{plural(feed.gaps, 'gap')} to read"
