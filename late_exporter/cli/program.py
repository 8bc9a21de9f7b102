"""Run a command: load the settings, call the command's function, report bugs."""

from __future__ import annotations

from functools import partial

from late_exporter import log
from late_exporter.cli.parser import Arguments
from late_exporter.commands.catalogue import COMMANDS
from late_exporter.commands.output import write_stdout
from late_exporter.config.settings import CommandContext
from late_exporter.config.sources import load
from late_exporter.errors import LateError


def run_command(args: Arguments) -> int:
    """Run a command and return its exit code; raise LateError."""
    load_settings = partial(load, args.command, args.flags)
    settings = load_settings()
    log.configure(settings.log.level, settings.log.format, settings.secrets)
    context = CommandContext(settings, load_settings, settings.flags, args.args)
    try:
        function = COMMANDS[args.command].load()
        return write_stdout(lambda: function(context))
    except LateError:
        raise
    except Exception:  # noqa: BLE001 - logged, because the traceback must be redacted
        log.get_logger("late_exporter").exception("this is a bug, please report it")
        return 1
