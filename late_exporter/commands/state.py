"""The command ``state``: show, back up and check a state, and copy workspaces to another one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from late_exporter.commands._runner import interruptible, write_lines
from late_exporter.commands.progress import ProgressBar
from late_exporter.commands.state_summary import summarize_state
from late_exporter.config.fields import parse_state_url
from late_exporter.config.settings import CommandContext
from late_exporter.errors import ConfigError
from late_exporter.feeds import GENERATIONS
from late_exporter.format import plural
from late_exporter.ingest.accounting import check_counters
from late_exporter.log import escape, redact
from late_exporter.masking import quote
from late_exporter.store import database_at
from late_exporter.store.checks import inconsistencies
from late_exporter.store.copying import copy_state
from late_exporter.store.snapshot import Snapshot


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
                (target,) = arguments
                database = database_at(url, password_file)
                lines = [f"{target}: copy of {database.name}, {database.backup(Path(target)):,} bytes"]
            elif action == "check":
                problems = check_state(url, password_file)
                lines = problems or [f"{database_at(url, password_file).name}: no problems found"]
                exit_code = int(bool(problems))
            else:
                source, target = (_state_url(*pair) for pair in zip(("SOURCE", "TARGET"), arguments, strict=True))
                count = copy_state(source, target, password_file, workspace=flags.workspace, new_name=flags.new_name)
                names = (database_at(each).name for each in (target, source))
                lines = ["{}: {} copied from {}".format(next(names), plural(count, "row"), next(names))]
    return write_lines([escape(redact(line)) for line in lines], exit_code)


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


def _state_url(name: str, url: str) -> str:
    try:
        return parse_state_url(url)
    except ValueError as exc:
        raise ConfigError(f"{name}{quote(url, url=True)}: {exc}") from None
