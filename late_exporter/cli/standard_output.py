"""Print texts."""

from __future__ import annotations

import os
import sys


def print_text(text: str) -> int:
    """Print a text and return the exit code; a closed pipe, as with head, is not a failure."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except OSError as exc:
        # Discard what is buffered, which Python would otherwise try to write again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(exc, BrokenPipeError):
            sys.stderr.write(
                f"late-exporter: error: cannot write to standard output: {exc.strerror}\n"
            )
            return 1
    return 0
