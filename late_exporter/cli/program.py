"""Run a command: read arguments and settings, call the command's function, report bugs."""

from __future__ import annotations

import os
import resource
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias

from late_exporter import log
from late_exporter.cli.health import check_configured
from late_exporter.cli.parser import Arguments, check_words, completion_script, parse
from late_exporter.cli.standard_output import print_text
from late_exporter.commands import function_of
from late_exporter.config.command_groups import OFFLINE_COMMANDS
from late_exporter.config.sections import CommandFlags
from late_exporter.config.settings import CommandContext, Settings
from late_exporter.config.sources import load
from late_exporter.errors import ConfigError, LateError

CommandFunction: TypeAlias = Callable[[CommandContext], int]

MIN_DESCRIPTORS = 48
"""Files that the process must be allowed to open: at 32, it accepts no scrape beside hundreds of silent clients."""


def run_command(args: Arguments, commands: Mapping[str, CommandFunction] | None) -> int:
    """Run a command and return its exit code; raise LateError. Tests replace the functions of the commands."""
    is_offline = args.command in OFFLINE_COMMANDS
    if not is_offline:
        _require_descriptors()
    load_settings = partial(load, args.command, args.flags, {} if is_offline else os.environ)
    settings = _load_all(args, load_settings)
    if is_offline:
        return _run_offline(args, settings.flags)
    own = (
        {"healthcheck": check_configured}.get(args.command)
        if commands is None
        else commands[args.command]
    )
    log.configure(settings.log.level, settings.log.format, settings.secrets)
    try:
        return (own or function_of(args.command))(
            CommandContext(settings, load_settings, settings.flags, args.words)
        )
    except LateError:
        raise
    except Exception as exc:  # noqa: BLE001 - the traceback of a bug must be redacted
        return _report_bug(exc, settings)


def _load_all(args: Arguments, load_settings: Callable[[], Settings]) -> Settings:
    """Return the settings; raise ConfigError with the mistakes of the command line and of all other sources."""
    problems = [*check_words(args)]
    try:
        settings = load_settings()
    except ConfigError as exc:
        raise ConfigError(*problems, *exc.problems) from None
    if problems:
        raise ConfigError(*problems)
    return settings


def _require_descriptors() -> None:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and limit < MIN_DESCRIPTORS:
        needed = f"at least {MIN_DESCRIPTORS} are needed, raise it with ulimit -n"
        raise LateError(f"RLIMIT_NOFILE is {limit}; {needed}")


def _run_offline(args: Arguments, flags: CommandFlags) -> int:
    """Run a command that uses no settings."""
    if args.command == "help":
        parse([*args.words, "--help"])
        return 0
    return print_text(_offline_text(args, flags))


def _offline_text(args: Arguments, flags: CommandFlags) -> str:
    """Return what a command prints; only its own modules are imported."""
    if args.command == "metrics":
        from late_exporter.cli.metrics import format_catalogue  # noqa: PLC0415 - as above

        return format_catalogue(flags.format)
    if args.command == "config":
        from late_exporter.config.file_schema import format_schema  # noqa: PLC0415 - as above

        return format_schema()
    if args.command == "runbook":
        from late_exporter.commands.assets import runbook_text  # noqa: PLC0415 - as above

        return runbook_text(*args.words)
    if args.command == "assets":
        from late_exporter.commands.assets import COMPLETION_NAMES, write_assets  # noqa: PLC0415 - as above

        completions = {shell: completion_script(shell) for shell in COMPLETION_NAMES}
        paths = write_assets(args.words[0], completions)
        return "\n".join(map(str, paths))
    return completion_script(args.words[0])


def redacted_traceback(error: BaseException) -> str:
    """Return a readable traceback, indented so that no line looks like a log entry."""
    lines = log.redact("".join(traceback.format_exception(error))).splitlines()
    return "".join(f"  {log.escape(line)}\n" for line in lines)


def _report_bug(bug: Exception, settings: Settings) -> int:
    """Log a bug with its traceback, in JSON as a field, otherwise below the entry."""
    is_json = settings.log.format == "json"
    log.get_logger("late_exporter").error(
        "this is a bug, please report it", exc_info=bug if is_json else None
    )
    if not is_json:
        sys.stderr.write(redacted_traceback(bug))
    return 1
