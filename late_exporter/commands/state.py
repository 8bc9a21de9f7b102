"""The command ``state``: show, back up and check a state, and copy workspaces to another one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from late_exporter.commands._runner import interruptible, write_lines
from late_exporter.commands.progress import ProgressBar
from late_exporter.commands.state_summary import summarize_state
from late_exporter.config.settings import CommandContext
from late_exporter.config.types import parse_state_url
from late_exporter.errors import ConfigError, StoreInUse
from late_exporter.feeds import GENERATIONS
from late_exporter.format import plural
from late_exporter.ingest.accounting import check_counters
from late_exporter.log import escape, redact
from late_exporter.masking import quote
from late_exporter.store.copying import copy_rows
from late_exporter.store.maintenance import StateAdmin, open_admin, open_snapshot


@interruptible()
def manage_state(context: CommandContext) -> int:
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
    exit_code = 0
    if action == "info":
        summary = summarize_state(url, password_file)
        lines = [msgspec.json.encode(summary).decode()] if flags.format == "json" else [*summary.text()]
    else:
        with ProgressBar(sys.stderr).ticking(f"state {action}"):
            if action == "backup":
                lines = [_back_up(open_admin(url, password_file), *arguments)]
            elif action == "check":
                problems = check_state(url, password_file)
                lines = problems or [f"{open_admin(url, password_file).name}: no problems found"]
                exit_code = int(bool(problems))
            else:
                source, target = arguments
                lines = [copy_state(source, target, password_file, flags.workspace, flags.new_name)]
    return write_lines([escape(redact(line)) for line in lines], exit_code)


def _back_up(admin: StateAdmin, target: str) -> str:
    return f"{target}: copy of {admin.name}, {admin.backup(Path(target)):,} bytes"


def check_state(url: str, password_file: Path | None) -> list[str]:
    """Return the inconsistencies of a state, or if there are none, the counters that differ from its observations."""
    return [*open_admin(url, password_file).check()] or [*_wrong_counters(url, password_file)]


def _wrong_counters(url: str, password_file: Path | None) -> Iterator[str]:
    with open_snapshot(url, password_file) as snapshot:
        for scope in snapshot.scopes:
            coverage = snapshot.feed_state(scope).coverage
            feed = GENERATIONS[coverage.generation].get(scope.feed) if coverage is not None else None
            for mismatch in check_counters(scope, feed, snapshot.accounting(scope)) if feed is not None else ():
                name, expected = mismatch.family or "stored and pruned observations", mismatch.expected
                yield f"{scope.workspace}/{scope.feed}: {name}: {mismatch.actual:,}, but {expected:,} were counted"


def copy_state(
    source_url: str, target_url: str, password_file: Path | None, workspace: str | None, new_name: str | None
) -> str:
    """Copy all workspaces of a state, or one, which may get another name; return what was copied."""
    urls = [_state_url(name, url) for name, url in (("SOURCE", source_url), ("TARGET", target_url))]
    source, target = (open_admin(url, password_file) for url in urls)
    in_use = "in use by an exporter; stop it first"
    if source.is_in_use():
        raise StoreInUse(f"{source.name}: {in_use}")
    try:
        with target.writing() as rows, open_snapshot(urls[0], password_file) as snapshot:
            row_count = copy_rows(snapshot, rows, workspace, new_name)
    except StoreInUse as exc:
        raise StoreInUse(f"{target.name}: {in_use}") from exc
    return f"{target.name}: {plural(row_count, 'row')} copied from {source.name} and compared"


def _state_url(name: str, url: str) -> str:
    try:
        return parse_state_url(url)
    except ValueError as exc:
        raise ConfigError(f"{name}{quote(url, url=True)}: {exc}") from None
