"""Run a command: read arguments and settings, call the command's function, print errors."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from functools import partial
from typing import TypeAlias

from late_exporter.cli import OFFLINE_COMMANDS, print_text, version_text
from late_exporter.cli.parser import ParsedArgs, parse
from late_exporter.commands import function_of
from late_exporter.config.commands import COMMANDS
from late_exporter.config.flags import COMMAND_FLAGS
from late_exporter.config.settings import OPTIONS, CommandContext, Settings
from late_exporter.config.sources import health_check_target, load, parse_format
from late_exporter.config.types import Address, may_use_tls
from late_exporter.errors import ConfigError, LateError
from late_exporter.masking import quote

CommandFunction: TypeAlias = Callable[[CommandContext], int]

RESIDENT_COMMANDS = ("run", "demo")  # long-running commands, whose memory matters

MIN_DESCRIPTORS = 32
"""Files that the process must be allowed to open; below about 20 the exporter polls, but accepts no connection."""


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
        return _print_help(args.command if args.words else "", with_all_options=args.wants_all_options)
    args.check()
    if args.command not in COMMANDS:
        raise ConfigError(*args.problems)
    if args.command == "healthcheck" and commands is None:
        return _check_health(args)
    if args.command not in OFFLINE_COMMANDS:
        return _start(argv, args, commands)
    return _run_offline(args)


def _run_offline(args: ParsedArgs) -> int:
    format_name = _load_format(args)
    if args.command == "version":
        return print_text(version_text())
    if args.command == "help":
        return _print_help("".join(args.words[1:]), with_all_options=False)
    if args.command == "metrics":
        from late_exporter.cli.metrics import format_catalogue  # noqa: PLC0415 - not needed by other commands

        return print_text(format_catalogue(format_name))
    from late_exporter.cli.help import completion_script  # noqa: PLC0415 - as above

    if args.command == "assets":
        from late_exporter.commands.assets import COMPLETION_NAMES, write_assets  # noqa: PLC0415 - as above

        paths = write_assets(args.words[1], {shell: completion_script(shell) for shell in COMPLETION_NAMES})
        return print_text("\n".join(map(str, paths)))
    return print_text(completion_script(args.words[1]))


def _print_help(command: str, *, with_all_options: bool) -> int:
    from late_exporter.cli.help import help_text  # noqa: PLC0415 - click is needed for help and completion only

    if command and command not in COMMANDS:
        raise ConfigError(f"unknown command{quote(command)}; commands are {', '.join(COMMANDS)}")
    return print_text(help_text(command, with_all_options=with_all_options))


def _load_format(args: ParsedArgs) -> str:
    """Return the output format of an offline command; raise ConfigError with the mistakes of the command line."""
    try:
        format_name = parse_format(args.command, args.values_of(COMMAND_FLAGS))
    except ConfigError as exc:
        raise ConfigError(*args.problems, *exc.problems) from None
    if args.problems:
        raise ConfigError(*args.problems)
    return format_name


def _start(argv: Sequence[str], args: ParsedArgs, commands: Mapping[str, CommandFunction] | None) -> int:
    from late_exporter import log  # noqa: PLC0415 - takes long to import

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and limit < MIN_DESCRIPTORS:
        needed = f"at least {MIN_DESCRIPTORS} are needed, raise it with ulimit -n"
        raise LateError(f"RLIMIT_NOFILE is {limit}; {needed}")
    from late_exporter.cli.loading import SettingsProcess, load_arguments  # noqa: PLC0415 - as above

    if commands is None and args.command in RESIDENT_COMMANDS:
        process = SettingsProcess(argv)
        function = function_of(args.command)  # imports its modules while the child works
        flags, settings = process.result()
        reload_settings: Callable[[], Settings] = lambda: SettingsProcess(argv).result()[1]  # noqa: E731
    else:
        flags, settings = load_arguments(args)
        function = function_of(args.command) if commands is None else commands[args.command]
        reload_settings = partial(load, args.command, args.values_of(OPTIONS))
    log.configure(settings.log.level, settings.log.format, settings.secrets)
    try:
        return function(CommandContext(settings, reload_settings, flags, tuple(args.words[1:])))
    except LateError:
        raise
    except Exception as exc:  # noqa: BLE001 - the traceback of a bug must be redacted
        return _report_bug(exc, settings.log.format)


def _report_bug(bug: Exception, log_format: str) -> int:
    """Log a bug with its traceback, in JSON as a field, otherwise below the entry."""
    from late_exporter import log  # noqa: PLC0415 - as above

    is_json = log_format == "json"
    log.get_logger("late_exporter").error("this is a bug, please report it", exc_info=bug if is_json else None)
    if not is_json:
        sys.stderr.write(log.redacted_traceback(bug))
    return ExitCode.FAILURE


def _check_health(args: ParsedArgs) -> int:
    """Check the first address; an exporter that serves on one serves on all."""
    from late_exporter.commands.exporter_client import HEALTHY_TEXT, check_health  # noqa: PLC0415 - not needed by other commands

    target = None if args.problems else health_check_target(args.values_of(OPTIONS))
    if target is None:
        from late_exporter.cli.loading import load_arguments  # noqa: PLC0415 - takes long to import

        _, settings = load_arguments(args)  # finds the mistakes
        target = settings.web.listen_address[0], may_use_tls(settings.web.config_file)
    address, secure = target
    if isinstance(address, Address) and not address.port:
        raise ConfigError(
            "--web.listen-address: cannot run a health check against port 0, which is assigned at startup"
        )
    check_health(address, secure=secure)
    return print_text(HEALTHY_TEXT)


def _print_errors(problems: Iterable[str], code: ExitCode) -> int:
    from late_exporter import log  # noqa: PLC0415 - as above

    for problem in problems:
        sys.stderr.write(f"late-exporter: error: {log.escape(log.redact(problem))}\n")
    return code
