"""Run a command: load the settings, call the command's function, report bugs."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias

from late_exporter import log
from late_exporter.cli.parser import Arguments
from late_exporter.commands.catalogue import COMMANDS
from late_exporter.commands.output import write_stdout
from late_exporter.config.settings import CommandContext, Settings
from late_exporter.config.sources import load
from late_exporter.errors import LateError

CommandFunction: TypeAlias = Callable[[CommandContext], int]


def run_command(args: Arguments, commands: Mapping[str, CommandFunction] | None) -> int:
    """Run a command and return its exit code; raise LateError.

    Tests replace the functions of the commands.
    """
    load_settings = partial(load, args.command, args.flags)
    settings = load_settings()
    log.configure(settings.log.level, settings.log.format, settings.secrets)
    _, *action = args.command.split()
    context = CommandContext(settings, load_settings, settings.flags, (*action, *args.words))
    try:
        function = COMMANDS[args.command].load() if commands is None else commands[args.command]
        return write_stdout(lambda: function(context))
    except LateError:
        raise
    except Exception as exc:  # noqa: BLE001 - the traceback of a bug must be redacted
        return _report_bug(exc, settings)


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
