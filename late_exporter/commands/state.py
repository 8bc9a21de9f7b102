"""The command ``state``: show, back up and check a state, and copy it to another one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from late_exporter.commands.event_loop import raise_at_signals
from late_exporter.commands.output import printable, write_lines
from late_exporter.config.fields import parse_state_url
from late_exporter.config.messages import quote
from late_exporter.config.settings import CommandContext
from late_exporter.errors import ConfigError, StoreError
from late_exporter.feeds import GENERATIONS
from late_exporter.format import iso_time, plural
from late_exporter.ingest.accounting import check_counters
from late_exporter.store import database_at
from late_exporter.store.copying import copy_state
from late_exporter.store.snapshot import Snapshot, open_snapshot


def state(context: CommandContext) -> int:
    """Run an action on the state, print the result, and return the exit code.

    After an error nothing is changed.
    """
    action, *arguments = context.args
    url = context.settings.state.url
    password_file = context.settings.state.password_path
    raise_at_signals()
    database = database_at(url, password_file)
    exit_code = 0
    if action == "info":
        lines = list(summarize_state(url, password_file))
    elif action == "backup":
        size = database.backup(Path(arguments[0]))
        lines = [f"{arguments[0]}: copy of {database.name}, {size:,} bytes"]
    elif action == "check":
        problems = check_state(url, password_file)
        lines = problems or [f"{database.name}: no problems found"]
        exit_code = int(bool(problems))
    else:
        lines = [_copy(password_file, *arguments)]
    return write_lines(map(printable, lines), exit_code)


def _copy(password_file: Path | None, source: str, target: str) -> str:
    source_url = _state_url("SOURCE", source)
    target_url = _state_url("TARGET", target)
    copy_state(source_url, target_url, password_file)
    return f"{database_at(target_url).name}: copied from {database_at(source_url).name}"


def _state_url(name: str, url: str) -> str:
    try:
        return parse_state_url(url)
    except ValueError as exc:
        raise ConfigError(f"{name}{quote(url)}: {exc}") from None


def summarize_state(url: str, password_file: Path | None) -> Iterator[str]:
    """Yield the content of a state as text, by workspace and feed."""
    usage = "may be in use"
    with suppress(StoreError):  # The state may be readable, but its lock file not writable.
        is_in_use = database_at(url, password_file).is_in_use()
        usage = "in use by an exporter" if is_in_use else "not in use"
    with open_snapshot(url, password_file) as snapshot:
        yield f"{snapshot.name}: {snapshot.size:,} bytes, {usage}"
        for scope in sorted(snapshot.scopes):
            recorded = snapshot.feed_state(scope)
            coverage = recorded.coverage
            parts = [plural(recorded.log_count, "log")]
            if recorded.pending_logs:
                parts.append(f"{len(recorded.pending_logs):,} pending")
            if coverage is not None and coverage.is_synced:
                # Every log since then was counted.
                parts.append(f"complete since {iso_time(coverage.complete_since)}")
            else:
                parts.append("first sync not complete")
            if coverage is not None and coverage.gaps:
                parts.append(f"{plural(len(coverage.gaps), 'gap')} to read")
            yield f"{scope.workspace}/{scope.feed}: {', '.join(parts)}"


def check_state(url: str, password_file: Path | None) -> list[str]:
    """Return the inconsistencies of a state.

    If there are none, return the counters that differ from its observations.
    """
    with open_snapshot(url, password_file) as snapshot:
        return list(snapshot.inconsistencies()) or list(_wrong_counters(snapshot))


def _wrong_counters(snapshot: Snapshot) -> Iterator[str]:
    for scope in snapshot.scopes:
        coverage = snapshot.feed_state(scope).coverage
        if coverage is None:
            continue
        feed = GENERATIONS[coverage.generation].get(scope.feed)
        if feed is None:
            continue
        for mismatch in check_counters(scope, feed, snapshot.accounting(scope)):
            yield f"{scope.workspace}/{scope.feed}: {mismatch}"
