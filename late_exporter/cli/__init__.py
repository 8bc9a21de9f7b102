"""The command line: ``late-exporter COMMAND [--section.option VALUE]``."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn, TextIO

from late_exporter import __revision__, __version__

if TYPE_CHECKING:
    from late_exporter.config.settings import CommandContext


def main(
    argv: Sequence[str] | None = None, commands: Mapping[str, Callable[[CommandContext], int]] | None = None
) -> int:
    """Run a command and return its exit code; tests replace the arguments of the process and the commands."""
    _open_streams()
    if argv is None:
        # As the first process of a container this one would otherwise ignore the signal until a command handles it.
        signal.signal(signal.SIGTERM, _stop)
    # The process ends soon: searching for garbage first would take as long as a short command.
    atexit.register(gc.freeze)
    try:
        return _run(sys.argv[1:] if argv is None else argv, commands)
    except KeyboardInterrupt:  # before a command handles signals, or without handling them
        return 1


def _stop(*_: object) -> NoReturn:
    raise SystemExit(0)


def _open_streams() -> None:
    """Replace closed standard streams: standard input is then empty, and writing to standard output is an error."""
    streams: dict[str, TextIO | None] = vars(sys)
    if streams["stdin"] is None:
        sys.stdin = os.fdopen(os.open(os.devnull, os.O_RDONLY))
    if streams["stdout"] is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w")
    if streams["stderr"] is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")


def _run(argv: Sequence[str], commands: Mapping[str, Callable[[CommandContext], int]] | None) -> int:
    # Modules are imported only if they are needed: a shell waits for completion at every press of the tab key, and
    # the health check runs every few seconds.
    if "_LATE_EXPORTER_COMPLETE" in os.environ:
        from late_exporter.cli.help import complete  # noqa: PLC0415 - see above

        return complete()
    if not {"--version", "-V"}.isdisjoint(argv) or list(argv) == ["version"]:
        return print_text(version_text())
    from late_exporter.cli.program import run_program  # noqa: PLC0415 - see above

    return run_program(argv, commands)


def version_text() -> str:
    """Return version, revision, Python and platform, laid out as by Prometheus and its tools."""
    return (
        f"late-exporter, version {__version__} (revision: {__revision__})\n"
        f"  python version:   {sys.version.split()[0]}\n"
        f"  platform:         {sys.platform}/{os.uname().machine}"
    )


def print_text(text: str) -> int:
    """Print a text and return the exit code; a closed pipe, as of head, is no failure."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except OSError as exc:
        # Discard what is buffered, which Python would otherwise try to write again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(exc, BrokenPipeError):
            sys.stderr.write(f"late-exporter: error: cannot write to standard output: {exc.strerror}\n")
            return 1
    return 0
