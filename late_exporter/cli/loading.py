"""Load flags and settings, in this process or in a child process.

pydantic needs 13 MB of memory, more than a fifth of what a small exporter needs, and a process that imported it keeps
them. So long-running commands let a child process read and validate their configuration. It sends the result
through a pipe and ends.
"""

from __future__ import annotations

import os
import pickle
import select
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from late_exporter.cli.parser import ParsedArgs, parse
from late_exporter.config.flags import COMMAND_FLAGS, CommandFlags
from late_exporter.config.settings import OPTIONS, Settings
from late_exporter.config.sources import load, parse_flags
from late_exporter.errors import ConfigError

Loaded: TypeAlias = tuple[CommandFlags, Settings]


def load_arguments(args: ParsedArgs) -> Loaded:
    """Return flags and settings; raise ConfigError with the mistakes of the command line and of all other sources."""
    problems, flags, settings = list(args.problems), None, None
    try:
        flags = parse_flags(args.command, args.values_of(COMMAND_FLAGS))
    except ConfigError as exc:
        problems += exc.problems
    try:
        settings = load(args.command, args.values_of(OPTIONS))
    except ConfigError as exc:
        problems += exc.problems
    if problems or flags is None or settings is None:
        raise ConfigError(*problems)
    return flags, settings


class SettingsProcess:
    """A child process that loads the flags and settings of a command line; it starts at once."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._argv = argv
        self._process: subprocess.Popen[bytes] | None = None
        with suppress(OSError):
            self._process = subprocess.Popen(  # noqa: S603 - this program
                # -P: a module in the working directory must not take the place of another one.
                [sys.executable or "", "-P", "-m", "late_exporter.cli.loading", *argv],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                # A file may be /dev/stdin, or /dev/fd/63 as of a shell's <(command), except that of --web.config.file.
                close_fds=False,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            )

    def result(self) -> Loaded:
        """Return flags and settings; raise ConfigError with every mistake.

        If the child fails, for example because no further process is allowed, they are loaded in this process.
        """
        output = self._process.communicate()[0] if self._process is not None else b""
        if self._process is None or self._process.returncode:
            args = parse(self._argv)
            args.check()
            return load_arguments(args)
        problems, loaded = pickle.loads(output)  # noqa: S301 - as above
        if problems:
            raise ConfigError(*problems)
        flags, settings = loaded
        return flags, _with_web_config(settings)


def _with_web_config(settings: Settings) -> Settings:
    """Return the settings with their web configuration, whose TLS context cannot be sent between processes."""
    if settings.web.config_file is None:
        return settings
    from late_exporter.config import web_file  # noqa: PLC0415 - imports pydantic

    return settings._replace(loaded_web_config=web_file.load(Path(settings.web.config_file)))


def _main(argv: Sequence[str]) -> None:
    """Write the mistakes, or else flags and settings, to standard output."""
    threading.Thread(target=_end_with_reader, daemon=True).start()
    args = parse(argv)
    args.check()
    try:
        flags, settings = load_arguments(args)
    except ConfigError as exc:
        message: tuple[Sequence[str], Loaded | None] = tuple(exc.problems), None
    else:
        message = (), (flags, settings._replace(loaded_web_config=None))
    sys.stdout.buffer.write(pickle.dumps(message))


def _end_with_reader() -> None:
    """End this process when the process that reads its output has ended; reading a file may block forever."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)  # errors are always reported, such as a pipe without a reader
    poll.poll()
    os._exit(1)


if __name__ == "__main__":
    _main(sys.argv[1:])
