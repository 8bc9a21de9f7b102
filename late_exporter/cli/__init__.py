"""The command line: ``late-exporter COMMAND [--section.option VALUE]``."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from late_exporter import __revision__, __version__
from late_exporter.cli.standard_output import print_text
from late_exporter.config.command_groups import ALL_COMMANDS, CLIENT_COMMANDS, OFFLINE_COMMANDS
from late_exporter.errors import ConfigError, LateError

if TYPE_CHECKING:
    from late_exporter.config.settings import CommandContext


def main(
    argv: Sequence[str] | None = None,
    commands: Mapping[str, Callable[[CommandContext], int]] | None = None,
) -> int:
    """Run a command and return its exit code; tests replace the arguments of the process and the commands."""
    _open_streams()
    if argv is None:
        exit_code = interrupted_code(sys.argv[1:])
        _handle_signals(exit_code, is_server=not exit_code)
    # The process ends soon: searching for garbage first would take as long as a short command.
    atexit.register(gc.freeze)
    try:
        return _run(sys.argv[1:] if argv is None else argv, commands)
    except KeyboardInterrupt:
        return 1


def interrupted_code(argv: Sequence[str]) -> int:
    """Return the exit code after a signal that arrives before the command handles signals.

    It is 0 if the command runs until a signal arrives, otherwise 1. If the words of the command
    line leave open which command it is, as in ``--workspace demo logs``, it is 1: nothing
    incomplete must look like a success.
    """
    # The table of commands takes some milliseconds to import, during which no signal would be
    # handled.
    commands = {*ALL_COMMANDS, *CLIENT_COMMANDS, *OFFLINE_COMMANDS, "healthcheck"} & {*argv}
    is_once = any(argument.partition("=")[0] == "--once" for argument in argv)
    return int(is_once or not commands <= {"run", "demo", "simulate"})


def _handle_signals(exit_code: int, *, is_server: bool) -> None:
    """End the process at the first SIGINT or SIGTERM, until its command handles them.

    A server ignores SIGHUP, because there is nothing to reload yet.

    As the first process of a container it would otherwise ignore SIGTERM. There is nothing to clean
    up yet. An exception would not do: it is lost if it is raised in a callback, and importing a
    module runs many of them.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: os._exit(exit_code))
    if is_server and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)


def _open_streams() -> None:
    """Replace closed standard streams: standard input is then empty, and writing to standard output is an error."""
    streams: dict[str, TextIO | None] = vars(sys)
    if streams["stdin"] is None:
        sys.stdin = os.fdopen(os.open(os.devnull, os.O_RDONLY))
    if streams["stdout"] is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w")
    if streams["stderr"] is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")


def _run(
    argv: Sequence[str], commands: Mapping[str, Callable[[CommandContext], int]] | None
) -> int:
    if not {"--version", "-V"}.isdisjoint(argv) or list(argv) == ["version"]:
        return print_text(version_text())
    try:
        if argv[:1] == ["healthcheck"] and commands is None:
            from late_exporter.cli.health import check_target, quick_target  # noqa: PLC0415 - no other command needs it

            if target := quick_target(argv[1:], os.environ):
                return check_target(target[0], secure=target[1])
        from late_exporter.cli.parser import parse  # noqa: PLC0415 - signals are handled first

        args = parse(argv)
        if args is None:
            return 0
        from late_exporter.cli.program import run_command  # noqa: PLC0415 - as above, and help does not need it

        return run_command(args, commands)
    except ConfigError as exc:
        return _print_errors(exc.problems, 2)
    except LateError as exc:
        return _print_errors([str(exc)], 1)


def _print_errors(problems: Iterable[str], code: int) -> int:
    from late_exporter import log  # noqa: PLC0415 - as above

    for problem in problems:
        sys.stderr.write(f"late-exporter: error: {log.escape(log.redact(problem))}\n")
    return code


def version_text() -> str:
    """Return version, revision, Python and platform, in the layout of Prometheus and its tools."""
    return (
        f"late-exporter, version {__version__} (revision: {_revision()})\n"
        f"  python version:   {sys.version.split()[0]}\n"
        f"  platform:         {sys.platform}/{os.uname().machine}"
    )


def _revision() -> str:
    """Return the revision that was built, or that of the clone from which the program runs, if git is installed."""
    import subprocess  # noqa: PLC0415 - no other command needs them
    from pathlib import Path  # noqa: PLC0415 - as above

    head, clone = "", Path(__file__).parents[2]
    with suppress(OSError):
        if (clone / ".git").exists():
            command = ["git", "-C", str(clone), "rev-parse", "HEAD"]
            result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed
            head = result.stdout.strip()
    return head or __revision__
