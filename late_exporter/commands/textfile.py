"""Files that are there as a whole or not at all, as the textfile collector of node_exporter wants them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from late_exporter.errors import ConfigError, LateError

__all__ = ["atomic_write", "require_textfile", "write_textfile"]

FILE_MODE = 0o644


def require_textfile(path: Path) -> None:
    """Refuse a name that the collector would not read; raises ConfigError."""
    if path.suffix != ".prom":
        raise ConfigError(f"{path}: the textfile collector reads only files whose names end in .prom")


def write_textfile(path: Path, body: bytes) -> None:
    """Put a file in the place of another one at once, so that nobody ever reads half of it.

    Raises:
        LateError: It cannot be written; what was there is still there.
    """
    with atomic_write(path, FILE_MODE) as file:
        file.write(body)


@contextmanager
def atomic_write(path: Path, mode: int) -> Iterator[IO[bytes]]:
    """A file to write to, which takes its place once all of it is on the disk, or else is gone.

    Args:
        path: Its place.
        mode: Who may read it then.

    Raises:
        LateError: It cannot be written; what was there is still there.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                os.fchmod(file.fileno(), mode)
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as exc:
        raise LateError(f"{path}: cannot be written: {exc.strerror}") from exc
