"""Write the output of commands, without secrets and control characters."""

from __future__ import annotations

import io
import json
import math
import os
import sys
from collections.abc import Callable, Iterable

from late_exporter.errors import LateError
from late_exporter.log import escape, redact


def write_stdout(command: Callable[[], int]) -> int:
    """Run a command that writes to standard output, and return its exit code.

    That is 1 if whoever reads the output has left, as ``head`` does.

    Raises:
        LateError: Standard output cannot be written.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        exit_code = command()
        sys.stdout.flush()
    except BrokenPipeError:
        return 1
    except OSError as exc:
        if exc.filename is not None:
            raise
        raise LateError(f"cannot write to standard output: {exc.strerror}") from exc
    finally:
        try:
            sys.stdout.flush()
        except OSError:
            # Python would try to write the rest at exit, and replace the exit code.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return exit_code


def write_lines(lines: Iterable[str], exit_code: int = 0) -> int:
    """Write lines to standard output, and return the exit code."""
    for line in lines:
        write_line(line)
    return exit_code


def write_line(line: str) -> None:
    """Write a line to standard output at once."""
    print(line, flush=True)  # noqa: T201 - the output of a command


def warn(message: str) -> None:
    """Write a message to standard error, without secrets or control characters."""
    sys.stderr.write(f"late-exporter: {printable(message)}\n")


def printable(line: str) -> str:
    """Return a line without secrets or control characters."""
    return escape(redact(line))


def json_line(value: object) -> str:
    """Return a value as one line of JSON without secrets; control characters are escaped."""
    return escape(json.dumps(_json_value(value), ensure_ascii=False, allow_nan=False))


def _json_value(value: object) -> object:
    match value:
        case str():
            return redact(value)
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {redact(str(name)): _json_value(member) for name, member in value.items()}
        case list() | tuple():
            return [_json_value(member) for member in value]
        case _:
            return value
