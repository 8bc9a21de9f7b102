"""The command line: ``late-exporter COMMAND [--section.option VALUE]``."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from collections.abc import Iterable, Sequence

from late_exporter import log
from late_exporter.commands.output import write_stdout
from late_exporter.errors import ConfigError, LateError

SERVERS = ("run", "demo", "simulate")
KEY_VARIABLES = ("ZERNIO_API_KEY", "LATE_API_KEY")
MIN_MASKED = 8
"""Length from which a key is masked in errors: masking a shorter one would hide too much."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; ``argv`` is that of the process by default."""
    if None in (sys.stdout, sys.stderr):
        sys.exit("late-exporter: error: standard output and standard error must be open")
    if argv is None:
        argv = sys.argv[1:]
        _handle_signals(argv)
    # The process ends soon: searching for garbage first would take as long as a short command.
    atexit.register(gc.freeze)
    try:
        return write_stdout(lambda: _run(argv))
    except ConfigError as exc:
        return _print_errors(exc.problems, 2)
    except LateError as exc:
        return _print_errors([str(exc)], 1)
    except KeyboardInterrupt:
        return 1


def interrupted_code(argv: Sequence[str]) -> int:
    """Return the exit code after a signal that arrives before the command handles signals.

    It is 0 if the command runs until a signal arrives: its result is complete.
    """
    is_default = not argv or argv[0].startswith("-")
    is_server = is_default or argv[0] in SERVERS
    return 0 if is_server and "--once" not in argv else 1


def _handle_signals(argv: Sequence[str]) -> None:
    """End the process at the first signal, until its command handles them.

    As the first process of a container it would otherwise ignore SIGTERM. There is nothing to clean
    up yet. An exception would not do: it is lost if it is raised in a callback, and importing a
    module runs many of them.
    """
    exit_code = interrupted_code(argv)
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: os._exit(exit_code))
    if exit_code == 0:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # There is nothing to reload yet.


def _run(argv: Sequence[str]) -> int:
    if argv[:1] == ["healthcheck"]:
        from late_exporter.commands import healthcheck  # noqa: PLC0415 - no other command needs it

        target = healthcheck.quick_target(argv[1:], os.environ)
        if target is not None:
            return healthcheck.check_target(*target)
    from late_exporter.cli.parser import parse  # noqa: PLC0415 - signals are handled first

    args = parse(argv)
    if args is None:
        return 0
    from late_exporter.cli.program import run_command  # noqa: PLC0415 - help does not need it

    return run_command(args)


def _print_errors(problems: Iterable[str], code: int) -> int:
    """Print errors without control characters and keys, also keys in a wrong place."""
    for name in KEY_VARIABLES:
        key = os.environ.get(name, "").strip()
        if len(key) >= MIN_MASKED:
            log.add_secret(key)
    for problem in problems:
        sys.stderr.write(f"late-exporter: error: {log.escape(log.redact(problem))}\n")
    return code
