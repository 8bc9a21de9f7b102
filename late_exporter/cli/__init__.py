"""The command line: ``late-exporter COMMAND [--section.option VALUE]``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from late_exporter import __version__

if TYPE_CHECKING:
    from late_exporter.config.settings import CommandContext


def main(
    argv: Sequence[str] | None = None, commands: Mapping[str, Callable[[CommandContext], int]] | None = None
) -> int:
    """Run a command and return its exit code; tests replace the arguments of the process and the commands."""
    argv = sys.argv[1:] if argv is None else argv
    # Modules are imported only if they are needed: a shell waits for completion at every press of the tab key, and
    # the health check runs every few seconds.
    if "_LATE_EXPORTER_COMPLETE" in os.environ:
        from late_exporter.cli.help import complete  # noqa: PLC0415 - see above

        return complete()
    if "--version" in argv:
        return print_text(f"late-exporter {__version__}")
    from late_exporter.cli.program import run_program  # noqa: PLC0415 - see above

    return run_program(argv, commands)


def print_text(text: str) -> int:
    """Print a text and return exit code 0; a closed pipe, as of head, is no failure."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
