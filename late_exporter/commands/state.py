"""The command ``state``: inspect, copy, check and move a state, and rename or drop its workspaces."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import msgspec

from late_exporter.commands._runner import interruptible, write_lines, write_stdout
from late_exporter.commands.progress import ProgressBar
from late_exporter.commands.state_summary import WorkspaceSummary, summarize_state
from late_exporter.config.settings import CommandContext
from late_exporter.config.types import INVALID_NAME, is_workspace_name, parse_state_url
from late_exporter.errors import ConfigError, InvalidExport, LateError, StoreError, StoreInUse
from late_exporter.feeds import GENERATIONS
from late_exporter.format import plural
from late_exporter.ingest.accounting import check_counters
from late_exporter.log import escape, redact
from late_exporter.masking import quote
from late_exporter.store.exports import read_digest
from late_exporter.store.maintenance import StateAdmin, open_admin, open_snapshot

CONFIRMED_ACTIONS = ("rename", "drop")
LONG_ACTIONS = ("backup", "check", "export", "import", "copy", "compact")  # actions that read or write the whole state
NOTED_ROWS = 1000  # rows between two counts that a terminal shows
STREAM = "-"  # name that stands for standard input or output


@interruptible()
def manage_state(context: CommandContext) -> int:
    """Run an action on the state, print the result, and return the exit code."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")  # an import names the line
    action, *rest = context.args
    if action == "export" and rest in ([], [STREAM]):
        # Half an export is useless, so a closed pipe is a failure.
        return write_stdout(lambda: _run(context, _write_buffered), broken_pipe_code=1)
    lines: list[str] = []
    return write_lines(lines, _run(context, lines.append))


def _run(context: CommandContext, write: Callable[[str], object]) -> int:
    state = context.settings.state
    command = StateCommand(state.url, write, sys.stdin, password_file=state.password_path)
    flags = context.flags
    exit_code = command.run(context.args, format_name=flags.format, confirmed=flags.yes, workspace=flags.workspace)
    sys.stdout.flush()
    return exit_code


def _write_buffered(line: str) -> None:
    sys.stdout.write(f"{line}\n")


class StateCommand:
    """Runs actions on the state at a URL."""

    def __init__(
        self,
        url: str,
        write: Callable[[str], object],
        stdin: Iterable[str] = (),
        *,
        password_file: Path | None = None,
    ) -> None:
        self._url, self._password_file = url, password_file
        self._admin = open_admin(url, password_file)
        self._write = write
        self._stdin = stdin
        self._progress = ProgressBar(sys.stderr)

    def run(
        self, args: Sequence[str], *, format_name: str = "text", confirmed: bool = False, workspace: str | None = None
    ) -> int:
        """Run an action with its arguments and return the exit code; after an exception nothing is changed."""
        action, *arguments = args
        if format_name != "text" and action != "info":
            raise ConfigError(f"--format: {format_name} is supported by state info only, not by state {action}")
        if confirmed and action not in CONFIRMED_ACTIONS:
            raise ConfigError(f"--yes: supported by state rename and state drop only, not by state {action}")
        if workspace is not None and action != "export":
            raise ConfigError(f"--workspace: supported by state export only, not by state {action}")
        actions: Mapping[str, Callable[..., int]] = {
            "info": partial(self._info, format_name),
            "backup": self._backup,
            "check": self._check,
            "export": partial(self._export, workspace),
            "import": self._import,
            "copy": self._copy,
            "compact": self._compact,
            "rename": partial(self._rename, confirmed=confirmed),
            "drop": partial(self._drop, confirmed=confirmed),
        }
        if action not in LONG_ACTIONS or (action == "export" and arguments in ([], [STREAM])):
            return actions[action](*arguments)
        with self._progress.ticking(f"state {action}"):
            return actions[action](*arguments)

    def _info(self, format_name: str) -> int:
        summary = summarize_state(self._url, self._password_file)
        for line in [msgspec.json.encode(summary).decode()] if format_name == "json" else summary.text():
            self._print(line)
        return 0

    def _backup(self, target: str) -> int:
        size = self._admin.backup(Path(target))
        self._print(f"{target}: copy of {self._admin.name}, {size:,} bytes")
        return 0

    def _check(self) -> int:
        problems = list(self._admin.check()) or list(self._counter_problems())
        for problem in problems or [f"{self._admin.name}: no problems found"]:
            self._print(problem)
        return int(bool(problems))

    def _counter_problems(self) -> Iterator[str]:
        """Compare the counters of every feed with the number of its observations."""
        with open_snapshot(self._url, self._password_file) as snapshot:
            for scope in snapshot.scopes:
                coverage = snapshot.feed_state(scope).coverage
                feed = GENERATIONS[coverage.generation].get(scope.feed) if coverage is not None else None
                for mismatch in check_counters(scope, feed, snapshot.accounting(scope)) if feed is not None else ():
                    name, expected = mismatch.family or "stored and pruned observations", mismatch.expected
                    yield f"{scope.workspace}/{scope.feed}: {name}: {mismatch.actual:,}, but {expected:,} were counted"

    def _export(self, workspace: str | None, target: str = STREAM) -> int:
        """Write the state, or one workspace. Only that of a stopped exporter may be moved to another state."""
        workspaces = None
        if workspace is not None:
            workspaces = {summarize_state(self._url, self._password_file).workspace(workspace).workspace}
            self._require_unused(self._admin)
        lines = self._admin.export_state(workspaces)
        if target == STREAM:
            for line in lines:
                self._write(line)
            return 0
        row_count = _write_file(Path(target), self._noted(lines)) - 2  # the first and the last line are not rows
        self._print(f"{target}: {plural(row_count, 'row')} exported from {self._admin.name}")
        return 0

    def _import(self, source: str) -> int:
        if source == STREAM:
            return self._load(self._admin, "standard input", self._noted(self._stdin), "imported")
        with _open_file(Path(source)) as lines:
            return self._load(self._admin, source, self._noted(lines, Path(source).stat().st_size), "imported")

    def _copy(self, source_url: str, target_url: str) -> int:
        """Copy a state to another backend, or into a state without its workspaces."""
        source, target = (
            open_admin(_state_url(name, url), self._password_file)
            for name, url in (("SOURCE", source_url), ("TARGET", target_url))
        )
        self._require_unused(source)
        return self._load(target, source.name, self._noted(source.export_state()), f"copied from {source.name}")

    def _load(self, admin: StateAdmin, source: str, lines: Iterable[str], verb: str) -> int:
        """Import the lines of a source into a state, and compare it with them, row by row."""
        try:
            with self._exclusive(admin):
                expected = admin.import_state(lines)
        except InvalidExport as exc:
            raise StoreError(f"{source}: {exc}") from exc
        problems = [*admin.check()]
        actual = read_digest(admin.export_state(expected.workspaces))
        # An export of an earlier version is migrated, so that its rows differ.
        if actual.schema == expected.schema and actual != expected:
            problems.append(f"{actual.row_count:,} rows differ from the {expected.row_count:,} that were {verb}")
        for problem in problems:
            self._print(f"{admin.name}: {problem}")
        if not problems:
            self._print(f"{admin.name}: {plural(expected.row_count, 'row')} {verb} and compared")
        return int(bool(problems))

    def _require_unused(self, admin: StateAdmin) -> None:
        with self._exclusive(admin):
            if admin.is_in_use():
                raise StoreInUse(admin.name)

    def _noted(self, lines: Iterable[str], size: int = 0) -> Iterator[str]:
        """Yield lines, and show their number on a terminal; ``size`` is that of all lines in bytes, 0 if unknown."""
        done = 0
        for number, line in enumerate(lines):
            if number % NOTED_ROWS == 0:
                self._progress.note(plural(number, "row"), done, size)
            done += len(line)
            yield line

    def _compact(self) -> int:
        with self._exclusive():
            before, after = self._admin.compact()
        self._print(f"{self._admin.name}: {after:,} bytes, previously {before:,}")
        return 0

    def _rename(self, old: str, new: str, *, confirmed: bool) -> int:
        if not is_workspace_name(new):
            raise ConfigError(f"NEW{quote(new)}: {INVALID_NAME}")
        summary = summarize_state(self._url, self._password_file)
        workspace = summary.workspace(old)
        if any(other.workspace == new for other in summary.workspaces):
            raise StoreError(f"{self._admin.name}: the workspace {new} already exists")
        if not confirmed:
            raise ConfigError(f"would rename {_describe(workspace)} to {new}; add --yes to do so")
        with self._exclusive():
            series_count = self._admin.rename_workspace(old, new)
        self._print(f"{self._admin.name}: renamed {old} to {new}, with {series_count:,} series")
        return 0

    def _drop(self, name: str, *, confirmed: bool) -> int:
        workspace = summarize_state(self._url, self._password_file).workspace(name)
        if not confirmed:
            raise ConfigError(f"would delete {_describe(workspace)} permanently; add --yes to do so")
        with self._exclusive():
            log_count = self._admin.drop_workspace(name)
        self._print(f"{self._admin.name}: deleted {name}, with {plural(log_count, 'log')}")
        return 0

    def _print(self, line: str) -> None:
        self._write(escape(redact(line)))

    @contextmanager
    def _exclusive(self, admin: StateAdmin | None = None) -> Iterator[None]:
        try:
            yield
        except StoreInUse as exc:
            raise StoreInUse(f"{(admin or self._admin).name}: in use by an exporter; stop it first") from exc


def _state_url(name: str, url: str) -> str:
    try:
        return parse_state_url(url)
    except ValueError as exc:
        raise ConfigError(f"{name}{quote(url, url=True)}: {exc}") from None


def _describe(workspace: WorkspaceSummary) -> str:
    return f"the workspace {workspace.workspace} with {plural(workspace.logs, 'log')} and {workspace.series:,} series"


def _write_file(path: Path, lines: Iterable[str]) -> int:
    """Write lines to a new file that only its owner can read, and return their number."""
    try:
        path.touch(0o600, exist_ok=False)
        try:
            with path.open("w", encoding="utf-8") as file:
                return sum(file.write(f"{line}\n") > 0 for line in lines)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    except FileExistsError as exc:
        raise StoreError(f"{path}: the file exists already and was not changed") from exc
    except OSError as exc:
        raise LateError(f"{path}: cannot be written: {exc.strerror}") from exc


def _open_file(path: Path) -> IO[str]:
    try:
        return path.open(encoding="utf-8", errors="surrogateescape")  # an import names the line
    except OSError as exc:
        raise LateError(f"{path}: cannot be read: {exc.strerror}") from exc
