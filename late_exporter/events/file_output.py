"""Deliver events to a file or to standard output, one per line."""

from __future__ import annotations

import asyncio
import os
import select
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from late_exporter.errors import DeliveryError
from late_exporter.events.output import MAX_BATCH_BYTES
from late_exporter.model import QueuedEvent

LINE_START = b'{"id":"'
"""Beginning of every event."""

TAIL_BYTES = 2 * MAX_BATCH_BYTES
"""End of a file that is searched for the last batch."""

MAX_ROTATED = 2
"""Rotated files in which the last batch may be."""

# In a folder that others can write to, a link could have the events appended to any file of this user.
OPEN_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW

COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".lz4")
STDOUT = 1


class FileOutput:
    """A file to which events are appended, each exactly once.

    Only the last batch may be in the file and still in the outbox, if the process ended or a write failed in between.
    When the file is opened, the lines at its end, and at that of the files to which it was rotated, are read: they are
    not written again. An incomplete last line is completed, or removed if its event is not there any more.

    Args:
        path: Path of the file. If another file takes its place, or none, the next delivery opens or creates it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._identity = (0, 0)
        self._written: set[bytes] = set()

    @property
    def name(self) -> str:
        return f"file:{self._path}"

    def check(self) -> None:
        """Create the file if it does not exist; raise DeliveryError if it cannot be written."""
        try:
            os.close(self._open_file())
        except OSError as exc:
            raise self._error(exc) from None

    async def deliver(self, events: Sequence[QueuedEvent]) -> None:
        await asyncio.to_thread(self._write, events)

    def _write(self, events: Sequence[QueuedEvent]) -> None:
        try:
            if self._file is None or self._identity != _identity(self._path):
                self._close()
                self._open([event.body for event in events])
            data = b"".join(event.body + b"\n" for event in events if event.body not in self._written)
            if self._file is not None and data:
                _write_all(self._file, data)
                if _is_regular(self._file):
                    os.fsync(self._file)
        except OSError as exc:
            self._close()
            raise self._error(exc) from None

    def _error(self, exc: OSError) -> DeliveryError:
        return DeliveryError(f"{self.name}: {exc.strerror or exc}")

    def _open_file(self) -> int:
        try:
            file = os.open(self._path, OPEN_FLAGS)
        except FileNotFoundError:
            file = os.open(self._path, OPEN_FLAGS | os.O_CREAT | os.O_EXCL, 0o640)
        except OSError:
            if self._path.is_symlink():
                raise DeliveryError(f"{self.name}: is a symbolic link; name a file") from None
            raise
        if _is_regular(file) and not LINE_START.startswith(os.pread(file, len(LINE_START), 0)):
            os.close(file)
            raise DeliveryError(f"{self.name}: is not a file of events; name another one")
        return file

    def _open(self, bodies: Sequence[bytes]) -> None:
        self._file = self._open_file()
        found = os.fstat(self._file)
        self._identity, self._written = (found.st_dev, found.st_ino), set()
        if not stat.S_ISREG(found.st_mode):
            return
        for path in self._rotated():
            try:
                file = os.open(path, OPEN_FLAGS)
            except OSError:
                continue
            try:
                if os.pread(file, len(LINE_START), 0) == LINE_START:
                    self._add_written(file, bodies)
            finally:
                os.close(file)
        self._add_written(self._file, bodies)

    def _add_written(self, file: int, bodies: Sequence[bytes]) -> None:
        # The incomplete line of this file is no event that an older file has, even if it begins alike.
        self._written |= _repair(file, [body for body in bodies if body not in self._written])
        os.fsync(file)  # The process that wrote the lines may have ended, or failed, before they were on the disk.

    def _rotated(self) -> Sequence[Path]:
        """Return the newest files to which this one may have been moved by logrotate, oldest first."""
        found: list[tuple[float, Path]] = []
        with os.scandir(self._path.parent) as entries:
            for entry in entries:
                names = f"{self._path.name}.", f"{self._path.name}-"
                if entry.name.startswith(names) and entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    if status.st_size and not entry.name.endswith(COMPRESSED):
                        found.append((status.st_mtime, Path(entry.path)))
        return [path for _, path in sorted(found)[-MAX_ROTATED:]]

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


class StdoutOutput:
    """Standard output; a line may come twice if the process is killed, or if its reader ends within a batch."""

    name = "stdout"

    def __init__(self, file: int = STDOUT) -> None:
        self._file = file
        self._has_fragment = False

    async def deliver(self, events: Sequence[QueuedEvent]) -> None:
        await asyncio.to_thread(self._write, events)

    def _write(self, events: Sequence[QueuedEvent]) -> None:
        data = b"".join(event.body + b"\n" for event in events)
        try:
            # Ends the line at which an earlier write may have failed.
            _write_all(self._file, b"\n" + data if self._has_fragment else data)
        except OSError as exc:
            self._has_fragment = True
            raise DeliveryError(f"{self.name}: {exc.strerror or exc}") from None
        self._has_fragment = False


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(file, view) :]
        except BlockingIOError:  # The other end has made the pipe non-blocking.
            select.select((), (file,), ())


def _repair(file: int, bodies: Iterable[bytes]) -> set[bytes]:
    """Complete or remove an incomplete last line; return the lines at the end of the file.

    Args:
        file: Descriptor of a regular file.
        bodies: Events that are about to be written, of which one may be the last line.
    """
    size = os.fstat(file).st_size
    start = max(0, size - TAIL_BYTES)
    tail = os.pread(file, TAIL_BYTES, start)
    head, newline, fragment = tail.rpartition(b"\n")
    lines = set(head.split(b"\n"))
    if not fragment:
        return lines
    # Events are written in their order, and several may begin alike.
    body = next((body for body in bodies if body not in lines and body.startswith(fragment)), None)
    if body is not None:
        _write_all(file, body[len(fragment) :] + b"\n")
        lines.add(body)
    elif newline or not start:
        os.ftruncate(file, size - len(fragment))
    else:
        _write_all(file, b"\n")
    return lines


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _is_regular(file: int) -> bool:
    return stat.S_ISREG(os.fstat(file).st_mode)
