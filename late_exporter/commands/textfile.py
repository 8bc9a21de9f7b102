"""Write files atomically, as the textfile collector of node_exporter requires."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from late_exporter.errors import ConfigError, LateError


def require_textfile(path: Path) -> None:
    if path.suffix != ".prom":
        raise ConfigError(f"{path}: the textfile collector reads only files whose names end in .prom")


def write_textfile(path: Path, body: bytes) -> None:
    """Replace a file atomically, so that no reader sees half of it."""
    with atomic_write(path, 0o644) as file:
        file.write(body)


@contextmanager
def atomic_write(path: Path, mode: int) -> Iterator[IO[bytes]]:
    """Yield a temporary file that replaces ``path`` once it is on the disk, or is deleted after an error.

    Raises:
        LateError: The file cannot be written, or is a device or a pipe; the previous one is unchanged.
    """
    try:
        if path.exists() and not path.is_file():
            raise LateError(f"{path}: cannot be written: it is not a regular file")
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
