"""The command ``state``: show, back up and check a state, and copy it to another one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from late_exporter.commands.event_loop import raise_at_signals
from late_exporter.commands.output import json_line, printable, write_lines
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


class FeedContent(msgspec.Struct, frozen=True, kw_only=True):
    """Content of a feed in a state, with the fields that JSON has.

    Args:
        complete_since: Time since which every log was counted; empty before the first sync.
    """

    workspace: str
    feed: str
    logs: int
    pending: int
    gaps: int
    complete_since: str = ""


class StateContent(msgspec.Struct, frozen=True, kw_only=True):
    """Content of a state, with the fields that JSON has.

    Args:
        in_use: Whether an exporter has it open; None if that cannot be found out.
    """

    state: str
    size_bytes: int
    in_use: bool | None
    feeds: Sequence[FeedContent]


def state(context: CommandContext) -> int:
    """Run an action on the state, print the result, and return the exit code.

    After an error nothing is changed.
    """
    action, *arguments = context.args
    url = context.settings.state.url
    password_file = context.settings.state.password_path
    is_json = context.flags.format == "json"
    raise_at_signals()
    database = database_at(url, password_file)
    exit_code = 0
    lines: Iterable[str]
    if action == "info":
        content = read_content(url, password_file)
        lines = [json_line(msgspec.to_builtins(content))] if is_json else render_text(content)
    elif action == "backup":
        size = database.backup(Path(arguments[0]))
        lines = [f"{arguments[0]}: copy of {database.name}, {size:,} bytes"]
    elif action == "check":
        problems = check_state(url, password_file)
        lines = problems or [f"{database.name}: no problems found"]
        if is_json:
            lines = [json_line({"ok": not problems, "problems": problems})]
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


def read_content(url: str, password_file: Path | None) -> StateContent:
    """Return the content of a state, by workspace and feed."""
    in_use = None
    with suppress(StoreError):  # The state may be readable, but its lock file not writable.
        in_use = database_at(url, password_file).is_in_use()
    feeds = []
    with open_snapshot(url, password_file) as snapshot:
        for scope in sorted(snapshot.scopes):
            recorded = snapshot.feed_state(scope)
            coverage = recorded.coverage
            complete_since = ""
            if coverage is not None and coverage.is_synced:
                complete_since = iso_time(coverage.complete_since)
            content = FeedContent(
                workspace=scope.workspace,
                feed=scope.feed,
                logs=recorded.log_count,
                pending=len(recorded.pending_logs),
                gaps=0 if coverage is None else len(coverage.gaps),
                complete_since=complete_since,
            )
            feeds.append(content)
        return StateContent(
            state=snapshot.name, size_bytes=snapshot.size, in_use=in_use, feeds=feeds
        )


def render_text(content: StateContent) -> Iterator[str]:
    usage = "in use by an exporter" if content.in_use else "not in use"
    if content.in_use is None:
        usage = "may be in use"
    yield f"{content.state}: {content.size_bytes:,} bytes, {usage}"
    for each in content.feeds:
        parts = [plural(each.logs, "log")]
        if each.pending:
            parts.append(f"{each.pending:,} pending")
        if each.complete_since:
            parts.append(f"complete since {each.complete_since}")
        else:
            parts.append("first sync not complete")
        if each.gaps:
            parts.append(f"{plural(each.gaps, 'gap')} to read")
        yield f"{each.workspace}/{each.feed}: {', '.join(parts)}"


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
