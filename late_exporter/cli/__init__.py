"""The command line: ``late-exporter COMMAND [--section.option VALUE]``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TypeAlias

from late_exporter import __version__, log
from late_exporter.cli.completion import completion
from late_exporter.cli.help import describe
from late_exporter.cli.manpage import manual
from late_exporter.cli.metrics import catalogue
from late_exporter.cli.parser import Line, parse
from late_exporter.commands import healthcheck
from late_exporter.config import settings
from late_exporter.config.commands import COMMANDS
from late_exporter.config.flags import ASKED, CommandFlags, parse_flags
from late_exporter.config.options import OPTIONS
from late_exporter.config.settings import CommandContext, Settings
from late_exporter.config.types import Address
from late_exporter.errors import ConfigError, LateError

__all__ = ["Action", "main"]

Action: TypeAlias = Callable[[CommandContext], int]

DONE, FAILED, MISUSED = 0, 1, 2

PRINTING: Mapping[str, Callable[[CommandFlags, Sequence[str]], str]] = MappingProxyType(
    {
        "metrics": lambda asked, _: catalogue(asked.format),
        "completion": lambda _, words: completion(words[0]),
        "manual": lambda _asked, _words: manual(),
    }
)
"""The commands that print what is known without a configuration."""


def main(argv: Sequence[str] | None = None, commands: Mapping[str, Action] | None = None) -> int:
    """Run a command and give its exit code.

    Args:
        argv: Arguments without the program's name; None is those of the process.
        commands: What the commands but ``metrics`` do; None is what ``app`` and ``healthcheck`` have them do.
    """
    try:
        return _run(sys.argv[1:] if argv is None else argv, commands)
    except ConfigError as exc:
        return _complain(exc.problems, MISUSED)
    except LateError as exc:
        return _complain([str(exc)], FAILED)
    except KeyboardInterrupt:
        return FAILED


def _run(argv: Sequence[str], commands: Mapping[str, Action] | None) -> int:
    line = parse(argv)
    if "v" in line.wants:
        return _print(f"late-exporter {__version__}")
    if "h" in line.wants and line.command in COMMANDS:
        return _print("\n".join(describe(line.command if line.words else "")))
    line.check()
    if line.command not in COMMANDS:
        raise ConfigError(*line.problems)
    if line.command in PRINTING:
        asked, _ = _understood(line, needs_settings=False)
        return _print(PRINTING[line.command](asked, line.words[1:]))
    return _start(line, commands)


def _understood(line: Line, *, needs_settings: bool = True) -> tuple[CommandFlags, Settings | None]:
    """What is asked, and the settings; or all mistakes of the line and of all other sources together."""
    problems, asked, loaded = list(line.problems), None, None
    try:
        asked = parse_flags(line.command, line.given(ASKED))
    except ConfigError as exc:
        problems += exc.problems
    try:
        loaded = settings.load(line.command, line.given(OPTIONS)) if needs_settings else None
    except ConfigError as exc:
        problems += exc.problems
    if problems or asked is None:
        raise ConfigError(*problems)
    return asked, loaded


def _start(line: Line, commands: Mapping[str, Action] | None) -> int:
    asked, loaded = _understood(line)
    if loaded is None:
        raise RuntimeError("no settings")
    log.configure(loaded.log_level, loaded.log_format, loaded.secrets)
    action = commands[line.command] if commands is not None else _action(line.command)
    reread = partial(settings.load, line.command, line.given(OPTIONS))
    try:
        return action(CommandContext(loaded, reread, asked, tuple(line.words[1:])))
    except LateError:
        raise
    except Exception as exc:  # noqa: BLE001 - a bug: its traceback has to pass the redaction
        return _report(exc, loaded.log_format)


def _report(bug: Exception, log_format: str) -> int:
    """Log a bug; its traceback is a field where machines read the log, and stands below where people do."""
    in_entry = log_format == "json"
    log.get_logger("late_exporter").error("this is a bug, please report it", exc_info=bug if in_entry else None)
    if not in_entry:
        sys.stderr.write(log.redacted_traceback(bug))
    return FAILED


def _action(command: str) -> Action:
    if command == "healthcheck":
        return _healthcheck
    from late_exporter.commands import run as app  # noqa: PLC0415 - help, the catalogue and the healthcheck need no server

    return app.ACTIONS[command]


def _healthcheck(call: CommandContext) -> int:
    """One address is enough: whatever serves on it serves on the others."""
    address = call.settings.listen_addresses[0]
    if isinstance(address, Address) and not address.port:
        raise ConfigError(f"--web.listen-address: nobody can ask {address}, whose port is known once it listens")
    healthcheck.ask(address, secure=call.settings.web_config_file is not None)
    return _print("late-exporter is healthy")


def _complain(problems: Iterable[str], code: int) -> int:
    for problem in problems:
        sys.stderr.write(f"late-exporter: error: {log.escape(log.redact(problem))}\n")
    return code


def _print(text: str) -> int:
    """Print; a reader that has seen enough, like head, is no failure."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return DONE
