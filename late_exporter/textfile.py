"""A file for the textfile collector of node_exporter."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from late_exporter.errors import ConfigError, LateError

__all__ = ["require_textfile", "write"]

READABLE = 0o644


def require_textfile(path: Path) -> None:
    """Refuse a name that the collector would not read; raises ConfigError."""
    if path.suffix != ".prom":
        raise ConfigError(f"{path}: the textfile collector reads only files whose names end in .prom")


def write(path: Path, body: bytes) -> None:
    """Put a file in the place of another one at once, so that nobody ever reads half of it.

    Raises:
        LateError: It cannot be written; what was there is still there.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            try:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
                os.fchmod(file.fileno(), READABLE)
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as exc:
        raise LateError(f"{path}: cannot be written: {exc.strerror}") from exc
