"""The command ``state``: show, back up and check a state, and copy workspaces to another one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from late_exporter.commands.event_loop import raise_at_signals
from late_exporter.commands.output import printable, write_lines
from late_exporter.config.fields import parse_state_url
from late_exporter.config.quoting import quote
from late_exporter.config.sections import CommandFlags
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
    for name, value in (("workspace", flags.workspace), ("as", flags.new_name)):
        if value is not None and action != "copy":
            raise ConfigError(f"--{name}: supported by state copy only, not by state {action}")
    exit_code, database = 0, database_at(url, password_file)
    raise_at_signals()
    if action == "info":
        lines = [*summarize_state(url, password_file)]
    elif action == "backup":
        lines = [
            f"{arguments[0]}: copy of {database.name}, {database.backup(Path(arguments[0])):,} bytes"
        ]
    elif action == "check":
        problems = check_state(url, password_file)
        lines, exit_code = problems or [f"{database.name}: no problems found"], int(bool(problems))
    else:
        lines = [_copy(flags, password_file, *arguments)]
    return write_lines(map(printable, lines), exit_code)


def _copy(flags: CommandFlags, password_file: Path | None, source: str, target: str) -> str:
    if flags.new_name is not None and flags.workspace is None:
        raise ConfigError("--as: needs --workspace, which names the workspace to copy")
    source, target = _state_url("SOURCE", source), _state_url("TARGET", target)
    count = copy_state(
        source, target, password_file, workspace=flags.workspace, new_name=flags.new_name
    )
    return (
        f"{database_at(target).name}: {plural(count, 'row')} copied from {database_at(source).name}"
    )


def _state_url(name: str, url: str) -> str:
    try:
        return parse_state_url(url)
    except ValueError as exc:
        raise ConfigError(f"{name}{quote(url, url=True)}: {exc}") from None


def summarize_state(url: str, password_file: Path | None) -> Iterator[str]:
    """Yield the content of a state as text, by workspace and feed."""
    usage = "may be in use"
    with suppress(StoreError):  # The state may be readable, but its lock file not writable.
        usage = (
            "in use by an exporter" if database_at(url, password_file).is_in_use() else "not in use"
        )
    with Snapshot(url, password_file) as snapshot:
        yield f"{snapshot.name}: {snapshot.size:,} bytes, schema {snapshot.version}, {usage}"
        series = Counter(labels[0] for _, labels in snapshot.series_values())
        for workspace in sorted({*series, *(scope.workspace for scope in snapshot.scopes)}):
            yield f"{workspace}: {series[workspace]:,} series"
            feeds = (scope for scope in snapshot.scopes if scope.workspace == workspace)
            yield from (_feed_line(snapshot, scope) for scope in feeds)


def _feed_line(snapshot: Snapshot, scope: Scope) -> str:
    """Return what is known of a feed; every log since the time of completeness was counted."""
    recorded, created_range = snapshot.feed_state(scope), snapshot.created_range(scope)
    coverage, line = recorded.coverage, f"  {scope.feed}: {plural(recorded.log_count, 'log')}"
    if recorded.pending_logs:
        line += f", {len(recorded.pending_logs):,} pending"
    if created_range is not None:
        line += f", created {' to '.join(map(iso_time, created_range))}"
    since = (
        iso_time(coverage.complete_since) if coverage is not None and coverage.is_synced else None
    )
    line += f", complete since {since}" if since else ", first sync not complete"
    if coverage is not None and coverage.gaps:
        line += f", {plural(len(coverage.gaps), 'gap')} to read"
    return line


def check_state(url: str, password_file: Path | None) -> list[str]:
    """Return the inconsistencies of a state, or if there are none, the counters that differ from its observations."""
    with Snapshot(url, password_file) as snapshot:
        return [*inconsistencies(snapshot)] or [*_wrong_counters(snapshot)]


def _wrong_counters(snapshot: Snapshot) -> Iterator[str]:
    for scope in snapshot.scopes:
        coverage = snapshot.feed_state(scope).coverage
        feed = GENERATIONS[coverage.generation].get(scope.feed) if coverage is not None else None
        for mismatch in (
            check_counters(scope, feed, snapshot.accounting(scope)) if feed is not None else ()
        ):
            name, expected = mismatch.family or "stored and pruned observations", mismatch.expected
            yield f"{scope.workspace}/{scope.feed}: {name}: {mismatch.actual:,}, but {expected:,} were counted"
