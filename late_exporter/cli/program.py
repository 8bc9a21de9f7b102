"""Run a command: read arguments and settings, call the command's function, print errors."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from functools import partial
from typing import TypeAlias

from late_exporter import log
from late_exporter.cli import print_text
from late_exporter.cli.parser import ParsedArgs, parse
from late_exporter.config.commands import COMMANDS
from late_exporter.config.flags import COMMAND_FLAGS, CommandFlags
from late_exporter.config.settings import OPTIONS, CommandContext, Settings
from late_exporter.config.sources import load, parse_flags
from late_exporter.config.types import Address
from late_exporter.errors import ConfigError, LateError

CommandFunction: TypeAlias = Callable[[CommandContext], int]

OFFLINE_COMMANDS = ("metrics", "completion")  # commands that read no settings


class ExitCode(IntEnum):
    """Exit codes of the program."""

    OK = 0
    FAILURE = 1
    USAGE = 2


def run_program(argv: Sequence[str], commands: Mapping[str, CommandFunction] | None) -> int:
    try:
        return _run(argv, commands)
    except ConfigError as exc:
        return _print_errors(exc.problems, ExitCode.USAGE)
    except LateError as exc:
        return _print_errors([str(exc)], ExitCode.FAILURE)


def _run(argv: Sequence[str], commands: Mapping[str, CommandFunction] | None) -> int:
    args = parse(argv)
    if args.wants_help and args.command in COMMANDS:
        from late_exporter.cli.help import help_text  # noqa: PLC0415 - click is needed for help and completion only

        return print_text(help_text(args.command if args.words else ""))
    args.check()
    if args.command not in COMMANDS:
        raise ConfigError(*args.problems)
    if args.command not in OFFLINE_COMMANDS:
        return _start(args, commands)
    flags, _ = _load(args, with_settings=False)
    if args.command == "metrics":
        from late_exporter.cli.metrics import format_catalogue  # noqa: PLC0415 - not needed by other commands

        return print_text(format_catalogue(flags.format))
    from late_exporter.cli.help import completion_script  # noqa: PLC0415 - as above

    return print_text(completion_script(args.words[1]))


def _load(args: ParsedArgs, *, with_settings: bool = True) -> tuple[CommandFlags, Settings | None]:
    """Return flags and settings; raise ConfigError with the mistakes of the command line and of all other sources."""
    problems, flags, settings = list(args.problems), None, None
    try:
        flags = parse_flags(args.command, args.values_of(COMMAND_FLAGS))
    except ConfigError as exc:
        problems += exc.problems
    try:
        settings = load(args.command, args.values_of(OPTIONS)) if with_settings else None
    except ConfigError as exc:
        problems += exc.problems
    if problems or flags is None:
        raise ConfigError(*problems)
    return flags, settings


def _start(args: ParsedArgs, commands: Mapping[str, CommandFunction] | None) -> int:
    flags, settings = _load(args)
    if settings is None:
        raise RuntimeError("no settings")
    function = _function_of(args.command) if commands is None else commands[args.command]
    if args.command != "healthcheck":  # it logs nothing, and structlog takes long to import
        log.configure(settings.log.level, settings.log.format, settings.secrets)
    reload_settings = partial(load, args.command, args.values_of(OPTIONS))
    try:
        return function(CommandContext(settings, reload_settings, flags, tuple(args.words[1:])))
    except LateError:
        raise
    except Exception as exc:  # noqa: BLE001 - the traceback of a bug must be redacted
        return _report_bug(exc, settings.log.format)


def _report_bug(bug: Exception, log_format: str) -> int:
    """Log a bug with its traceback, in JSON as a field, otherwise below the entry."""
    is_json = log_format == "json"
    log.get_logger("late_exporter").error("this is a bug, please report it", exc_info=bug if is_json else None)
    if not is_json:
        sys.stderr.write(log.redacted_traceback(bug))
    return ExitCode.FAILURE


def _function_of(command: str) -> CommandFunction:
    if command == "healthcheck":
        return _healthcheck
    from late_exporter.commands import run  # noqa: PLC0415 - imports client, server and store

    return run.ACTIONS[command]


def _healthcheck(context: CommandContext) -> int:
    """Check the first address; an exporter that serves on one serves on all."""
    from late_exporter.commands.healthcheck import check_health  # noqa: PLC0415 - not needed by other commands

    address = context.settings.web.listen_address[0]
    if isinstance(address, Address) and not address.port:
        raise ConfigError(
            "--web.listen-address: cannot run a health check against port 0, which is assigned at startup"
        )
    check_health(address, secure=context.settings.web.config_file is not None)
    return print_text("late-exporter is healthy")


def _print_errors(problems: Iterable[str], code: ExitCode) -> int:
    for problem in problems:
        sys.stderr.write(f"late-exporter: error: {log.escape(log.redact(problem))}\n")
    return code
