"""Connect commands to workspaces, and write their output."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import NamedTuple, TypeAlias

from late_exporter.api.client import LateClient
from late_exporter.api.generation import ApiGeneration
from late_exporter.commands.event_loop import STOP_SIGNALS
from late_exporter.config.settings import CommandContext
from late_exporter.errors import ConfigError, LateError
from late_exporter.log import escape, redact
from late_exporter.masking import quote


class WorkspaceConnection(NamedTuple):
    """Access to the API of a workspace."""

    generation: ApiGeneration
    client: LateClient


ConnectWorkspaces: TypeAlias = AbstractAsyncContextManager[Mapping[str, WorkspaceConnection]]
"""Context of the connections of all workspaces, by name."""


@asynccontextmanager
async def connect_workspace(
    context: CommandContext, connect: ConnectWorkspaces
) -> AsyncIterator[tuple[str, WorkspaceConnection]]:
    """Connect to the workspace of ``--workspace``, or the only one; yield name and connection; raise ConfigError."""
    names = selected_workspaces(context)
    if len(names) > 1:
        raise ConfigError(f"--workspace: required, because there are several: {', '.join(names)}")
    async with connect as connections:
        yield names[0], connections[names[0]]


def selected_workspaces(context: CommandContext) -> Sequence[str]:
    """Return the name given by ``--workspace``, or the names of all workspaces; raise ConfigError."""
    names = [workspace.name for workspace in context.settings.workspaces]
    selected_name = context.flags.workspace
    if selected_name is None:
        return names
    if selected_name not in names:
        raise ConfigError(f"--workspace{quote(selected_name)}: no such workspace; choose from {', '.join(names)}")
    return [selected_name]


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt at signals: an incomplete result is no success, and no temporary file is left behind."""
    numbers = [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    previous_handlers = [signal.signal(number, signal.default_int_handler) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, previous_handlers, strict=True):
            signal.signal(number, handler)


def write_stdout(command: Callable[[], int], *, broken_pipe_code: int = 0) -> int:
    """Run a command that writes to standard output; return its exit code, or the other one after a broken pipe.

    Raises:
        LateError: Standard output cannot be written.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        exit_code = command()
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_stdout()
        return broken_pipe_code
    except OSError as exc:
        if exc.filename is not None:
            raise
        _discard_stdout()
        raise LateError(f"cannot write to standard output: {exc.strerror}") from exc
    except (KeyboardInterrupt, LateError):
        # If Python cannot write the buffered rest at exit, it replaces the exit code.
        try:
            sys.stdout.flush()
        except OSError:
            _discard_stdout()
        raise
    return exit_code


def _discard_stdout() -> None:
    """Discard what is buffered, which Python would otherwise try to write again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def write_lines(lines: Iterable[str], exit_code: int) -> int:
    """Write lines to standard output, and return the exit code even if the reader closes the pipe early."""

    def write() -> int:
        for line in lines:
            write_line(line)
        return exit_code

    return write_stdout(write, broken_pipe_code=exit_code)


def write_line(line: str) -> None:
    """Write a line to standard output at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def warn(message: str) -> None:
    """Write a message to standard error, without secrets or control characters."""
    sys.stderr.write(f"late-exporter: {escape(redact(message))}\n")
