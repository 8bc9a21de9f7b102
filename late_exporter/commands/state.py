"""The command ``state``: show, back up and check a state, and copy workspaces to another one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from late_exporter.commands.event_loop import interruptible
from late_exporter.commands.output import json_line, printable, write_lines
from late_exporter.config.fields import parse_state_url
from late_exporter.config.quoting import quote
from late_exporter.config.settings import CommandContext
from late_exporter.errors import ConfigError, StoreError
from late_exporter.feeds import GENERATIONS
from late_exporter.format import iso_time, plural
from late_exporter.ingest.accounting import check_counters
from late_exporter.model import Scope
from late_exporter.store import database_at
from late_exporter.store.checks import inconsistencies
from late_exporter.store.copying import copy_state
from late_exporter.store.snapshot import Snapshot


def state(context: CommandContext) -> int:
    """Run an action on the state, print the result, and return the exit code; after an error nothing is changed."""
    (action, *arguments), flags = context.args, context.flags
    url, password_file = context.settings.state.url, context.settings.state.password_path
    if flags.format != "text" and action != "info":
        raise ConfigError(f"--format: {flags.format} is supported by state info only, not by state {action}")
    for name, value in (("workspace", flags.workspace), ("as", flags.new_name)):
        if value is not None and action != "copy":
            raise ConfigError(f"--{name}: supported by state copy only, not by state {action}")
    if flags.new_name is not None and flags.workspace is None:
        raise ConfigError("--as: needs --workspace, which names the workspace to copy")
    exit_code, database = 0, database_at(url, password_file)
    with interruptible():
        if action == "info":
            summary = summarize_state(url, password_file)
            lines = [json_line(summary)] if flags.format == "json" else [*_summary_lines(summary)]
        elif action == "backup":
            (target,) = arguments
            lines = [f"{target}: copy of {database.name}, {database.backup(Path(target)):,} bytes"]
        elif action == "check":
            problems = check_state(url, password_file)
            lines, exit_code = problems or [f"{database.name}: no problems found"], int(bool(problems))
        else:
            source, target = (_state_url(*pair) for pair in zip(("SOURCE", "TARGET"), arguments, strict=True))
            count = copy_state(source, target, password_file, workspace=flags.workspace, new_name=flags.new_name)
            lines = [f"{database_at(target).name}: {plural(count, 'row')} copied from {database_at(source).name}"]
    return write_lines(map(printable, lines), exit_code)


def _state_url(name: str, url: str) -> str:
    try:
        return parse_state_url(url)
    except ValueError as exc:
        raise ConfigError(f"{name}{quote(url, url=True)}: {exc}") from None


def summarize_state(url: str, password_file: Path | None = None) -> Mapping[str, Any]:
    """Return the content of a state; times are in UTC, sizes in bytes, ``in_use`` is None if unknown."""
    with Snapshot(url, password_file) as snapshot:
        series = Counter(labels[0] for _, labels in snapshot.series_values())
        feeds: dict[str, list[Mapping[str, Any]]] = {name: [] for name in series}
        for scope in snapshot.scopes:
            feeds.setdefault(scope.workspace, []).append(_summarize_feed(snapshot, scope))
        size = snapshot.size
    is_used = None
    with suppress(StoreError):  # The state may be readable, but its lock file not writable.
        is_used = database_at(url, password_file).is_in_use()
    workspaces = [{"workspace": name, "series": series[name], "feeds": feeds[name]} for name in sorted(feeds)]
    return {"path": snapshot.name, "size": size, "in_use": is_used, "workspaces": workspaces}


def _summarize_feed(snapshot: Snapshot, scope: Scope) -> Mapping[str, Any]:
    """Return what is known of a feed; every log since ``since`` was counted."""
    recorded, created_range = snapshot.feed_state(scope), snapshot.created_range(scope)
    coverage = recorded.coverage
    oldest, newest = map(iso_time, created_range) if created_range is not None else (None, None)
    return {
        "feed": scope.feed,
        "logs": recorded.log_count,
        "pending": len(recorded.pending_logs),
        "oldest": oldest,
        "newest": newest,
        "since": iso_time(coverage.complete_since) if coverage is not None and coverage.is_synced else None,
        "gaps": len(coverage.gaps) if coverage else 0,
    }


def _summary_lines(summary: Mapping[str, Any]) -> Iterator[str]:
    usage = {True: "in use by an exporter", False: "not in use", None: "may be in use"}[summary["in_use"]]
    yield f"{summary['path']}: {summary['size']:,} bytes, {usage}"
    for workspace in summary["workspaces"]:
        yield f"{workspace['workspace']}: {workspace['series']:,} series"
        for feed in workspace["feeds"]:
            pending = f", {feed['pending']:,} pending" if feed["pending"] else ""
            created = f", created {feed['oldest']} to {feed['newest']}" if feed["newest"] else ""
            sync = f", complete since {feed['since']}" if feed["since"] else ", first sync not complete"
            gaps = f", {plural(feed['gaps'], 'gap')} to read" if feed["gaps"] else ""
            yield f"  {feed['feed']}: {plural(feed['logs'], 'log')}{pending}{created}{sync}{gaps}"


def check_state(url: str, password_file: Path | None) -> list[str]:
    """Return the inconsistencies of a state, or if there are none, the counters that differ from its observations."""
    with Snapshot(url, password_file) as snapshot:
        return [*inconsistencies(snapshot)] or [*_wrong_counters(snapshot)]


def _wrong_counters(snapshot: Snapshot) -> Iterator[str]:
    for scope in snapshot.scopes:
        coverage = snapshot.feed_state(scope).coverage
        feed = GENERATIONS[coverage.generation].get(scope.feed) if coverage is not None else None
        for mismatch in check_counters(scope, feed, snapshot.accounting(scope)) if feed is not None else ():
            name, expected = mismatch.family or "stored and pruned observations", mismatch.expected
            yield f"{scope.workspace}/{scope.feed}: {name}: {mismatch.actual:,}, but {expected:,} were counted"
