"""What can be done with a state: look at it, copy it, check it, move it, and change its workspaces on purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, TypeAlias

import msgspec

from late_exporter.commands.logview import moment
from late_exporter.config.types import INVALID_NAME, is_workspace_name, quote
from late_exporter.errors import ConfigError, LateError, StoreError, StoreInUse
from late_exporter.log import escape, redact
from late_exporter.model import Scope
from late_exporter.store import StateSnapshot, admin, is_in_use, state_path

__all__ = ["StateCommand", "StateSummary", "summarize_state"]

CONFIRMED_ACTIONS = ("rename", "drop")
STREAM = "-"
"""Standard input or output, in place of a file."""

Write: TypeAlias = Callable[[str], None]


class FeedSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a state holds of a feed; times are ISO 8601 in UTC.

    Args:
        oldest, newest: When the logs held were created.
        since: From when on every log is counted without a gap.
        gaps: Stretches that are still to be read.
        synced: The first sync is complete.
    """

    feed: str
    logs: int
    pending: int
    oldest: str | None
    newest: str | None
    since: str | None
    gaps: int
    synced: bool


class WorkspaceSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a state holds of a workspace."""

    workspace: str
    series: int
    feeds: Sequence[FeedSummary]

    @property
    def logs(self) -> int:
        """Held of all feeds."""
        return sum(feed.logs for feed in self.feeds)


class StateSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a state holds.

    Args:
        size: In bytes.
        in_use: An exporter works on it; None where that cannot be told.
    """

    path: str
    size: int
    schema: int
    in_use: bool | None
    workspaces: Sequence[WorkspaceSummary]

    def workspace(self, name: str) -> WorkspaceSummary:
        """The workspace of a name; raises StoreError where there is none."""
        for view in self.workspaces:
            if view.workspace == name:
                return view
        known = ", ".join(view.workspace for view in self.workspaces) or "none"
        raise StoreError(f"there is no workspace {name} in the state; there are {known}")

    def json(self) -> str:
        """For programs."""
        return msgspec.json.encode(self).decode()

    def text(self) -> Iterator[str]:
        """For people, line by line."""
        use = {True: "an exporter works on it", False: "no exporter works on it", None: "may be in use"}[self.in_use]
        yield f"{self.path}: {self.size:,} bytes, schema {self.schema}, {use}"
        for view in self.workspaces:
            yield f"{view.workspace}: {_counted(view.series, 'series')}"
            yield from (f"  {feed.feed}: {', '.join(_feed_details(feed))}" for feed in view.feeds)


def summarize_state(url: str) -> StateSummary:
    """What the state of a URL holds.

    Raises:
        StoreError: There is none, or it cannot be read.
    """
    path = state_path(url)
    with StateSnapshot(path) as records:
        names = [labels[0] for _, labels in records.series_values()]
        feeds: dict[str, list[FeedSummary]] = {}
        for scope in records.scopes:
            feeds.setdefault(scope.workspace, []).append(_feed(records, scope))
        views = [
            WorkspaceSummary(workspace=name, series=names.count(name), feeds=feeds.get(name, []))
            for name in sorted({*feeds, *names})
        ]
        size, schema = records.size, records.schema_version
    return StateSummary(path=str(path), size=size, schema=schema, in_use=_in_use(url), workspaces=views)


def _feed(records: StateSnapshot, scope: Scope) -> FeedSummary:
    state, span = records.feed_state(scope), records.created_range(scope)
    coverage = state.coverage
    oldest, newest = (None, None) if span is None else (moment(span[0]), moment(span[1]))
    return FeedSummary(
        feed=scope.feed,
        logs=state.log_count,
        pending=len(state.pending_logs),
        oldest=oldest,
        newest=newest,
        since=moment(coverage.complete_since) if coverage else None,
        gaps=len(coverage.gaps) if coverage else 0,
        synced=coverage is not None and coverage.is_synced,
    )


def _in_use(url: str) -> bool | None:
    try:
        return is_in_use(url)
    except StoreError:
        return None  # it can be read, but the lock beside it cannot be written


def _feed_details(feed: FeedSummary) -> Iterator[str]:
    yield _counted(feed.logs, "logs")
    if feed.pending:
        yield f"{feed.pending:,} pending"
    if feed.newest:
        yield f"created {feed.oldest} to {feed.newest}"
    if not feed.synced:
        yield "first sync not complete"
    if feed.since:
        yield f"without a gap since {feed.since}"
    if feed.gaps:
        yield f"{_counted(feed.gaps, 'gaps')} still to be read"


def _counted(number: int, things: str) -> str:
    one = things if things == "series" else things.removesuffix("s")
    return f"{number:,} {one if number == 1 else things}"


class StateCommand:
    """Does to a state what is asked.

    Args:
        url: Of the state.
        write: Takes a line of what is printed, as it is to be.
        source: Standard input.
    """

    def __init__(self, url: str, write: Write, source: Iterable[str] = ()) -> None:
        self._url = url
        self._path = state_path(url)
        self._write = write
        self._source = source

    def run(self, words: Sequence[str], *, form: str = "text", confirmed: bool = False) -> int:
        """Do it; returns the exit code.

        Args:
            words: The action and its arguments.
            form: ``text``, or ``json`` for what can be printed so.
            confirmed: What cannot be undone is meant.

        Raises:
            ConfigError: What was asked makes no sense, or is not confirmed.
            LateError: It cannot be done; nothing was changed.
        """
        action, *arguments = words
        if form != "text" and action != "info":
            raise ConfigError(f"--format: only state info prints {form}, not state {action}")
        if confirmed and action not in CONFIRMED_ACTIONS:
            raise ConfigError(f"--yes: is for state rename and state drop, not for state {action}")
        actions: Mapping[str, Callable[..., int]] = {
            "info": partial(self._info, form),
            "backup": self._backup,
            "check": self._check,
            "export": self._export,
            "import": self._import,
            "compact": self._compact,
            "rename": partial(self._rename, confirmed=confirmed),
            "drop": partial(self._drop, confirmed=confirmed),
        }
        return actions[action](*arguments)

    def _info(self, form: str) -> int:
        found = summarize_state(self._url)
        for line in [found.json()] if form == "json" else found.text():
            self._print(line)
        return 0

    def _backup(self, target: str) -> int:
        size = admin.backup(self._path, Path(target))
        self._print(f"{target}: copied {self._path}, {size:,} bytes")
        return 0

    def _check(self) -> int:
        faults = 0
        for faults, fault in enumerate(admin.check(self._path), 1):  # noqa: B007 - their number is the answer
            self._print(fault)
        if not faults:
            self._print(f"{self._path}: nothing is wrong")
        return int(faults > 0)

    def _export(self, target: str = STREAM) -> int:
        lines = admin.export_state(self._path)
        if target == STREAM:
            for line in lines:
                self._write(line)
            return 0
        rows = _write_file(Path(target), lines) - 2  # the first line and the last one are none
        self._print(f"{target}: {_counted(rows, 'rows')} of {self._path}")
        return 0

    def _import(self, source: str) -> int:
        if source == STREAM:
            rows = admin.import_state(self._path, self._source)
        else:
            with _open_file(Path(source)) as lines:
                rows = admin.import_state(self._path, lines)
        self._print(f"{self._path}: {_counted(rows, 'rows')} read in")
        return 0

    def _compact(self) -> int:
        with self._exclusive():
            before, after = admin.compact(self._path)
        self._print(f"{self._path}: {after:,} bytes, before {before:,}")
        return 0

    def _rename(self, old: str, new: str, *, confirmed: bool) -> int:
        if not is_workspace_name(new):
            raise ConfigError(f"NEW{quote(new)}: {INVALID_NAME}")
        found = summarize_state(self._url)
        view = found.workspace(old)
        if any(other.workspace == new for other in found.workspaces):
            raise StoreError(f"{self._path}: there is a workspace {new} already")
        if not confirmed:
            raise ConfigError(f"would rename {_workspace_size(view)} to {new}; add --yes to do so")
        with self._exclusive():
            series = admin.rename_workspace(self._path, old, new)
        self._print(f"{self._path}: {old} is {new} now, with {_counted(series, 'series')}")
        return 0

    def _drop(self, name: str, *, confirmed: bool) -> int:
        view = summarize_state(self._url).workspace(name)
        if not confirmed:
            raise ConfigError(f"would forget {_workspace_size(view)}, for good; add --yes to do so")
        with self._exclusive():
            logs = admin.drop_workspace(self._path, name)
        self._print(f"{self._path}: {name} is forgotten, with {_counted(logs, 'logs')}")
        return 0

    def _print(self, words: str) -> None:
        self._write(escape(redact(words)))

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        try:
            yield
        except StoreInUse as exc:
            raise StoreInUse(f"{self._path}: an exporter works on it; stop it first") from exc


def _workspace_size(view: WorkspaceSummary) -> str:
    return f"the workspace {view.workspace} with {_counted(view.logs, 'logs')} and {_counted(view.series, 'series')}"


def _write_file(path: Path, lines: Iterable[str]) -> int:
    """Write lines to a new file for its owner alone; returns how many there were."""
    try:
        path.touch(0o600, exist_ok=False)
    except FileExistsError as exc:
        raise StoreError(f"{path}: there is such a file already; it is left as it is") from exc
    except OSError as exc:
        raise LateError(f"{path}: cannot be written: {exc.strerror}") from exc
    try:
        with path.open("w", encoding="utf-8") as file:
            return sum(file.write(f"{line}\n") > 0 for line in lines)
    except OSError as exc:
        path.unlink(missing_ok=True)
        raise LateError(f"{path}: cannot be written: {exc.strerror}") from exc
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _open_file(path: Path) -> IO[str]:
    try:
        return path.open(encoding="utf-8")
    except OSError as exc:
        raise LateError(f"{path}: cannot be read: {exc.strerror}") from exc
