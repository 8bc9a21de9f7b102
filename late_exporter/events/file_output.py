"""Deliver events to a file or to standard output, one per line."""

from __future__ import annotations

import asyncio
import os
import select
import stat
from collections.abc import Sequence
from pathlib import Path

from late_exporter.errors import DeliveryError
from late_exporter.store.records import QueuedEvent

LINE_START = b'{"id":"'
"""Beginning of every event."""

# In a folder that others can write to, a link could have the events appended to any file of this user.
OPEN_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW

MAX_LINE_BYTES = 2**20
STDOUT = 1


class FileOutput:
    """A file to which events are appended; a line may come twice if the process ends while it writes.

    A line that a crash has cut is removed when the file is opened. Its event is still in the outbox.

    Args:
        path: Path of the file. If another file takes its place, or none, the next delivery opens or creates it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    @property
    def name(self) -> str:
        return f"file:{self._path}"

    def check(self) -> None:
        """Create the file if it does not exist; raise DeliveryError if it cannot be written."""
        try:
            os.close(self._open())
        except OSError as exc:
            raise self._error(exc) from None

    async def deliver(self, events: Sequence[QueuedEvent]) -> None:
        await asyncio.to_thread(self._write, events)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _write(self, events: Sequence[QueuedEvent]) -> None:
        try:
            if self._file is None or not self._is_current(self._file):
                self.close()
                self._file = self._open()
                if _is_regular(self._file):
                    _remove_cut_line(self._file)
            _write_lines(self._file, events)
            if _is_regular(self._file):
                os.fsync(self._file)
        except OSError as exc:
            self.close()
            raise self._error(exc) from None

    def _error(self, exc: OSError) -> DeliveryError:
        return DeliveryError(f"{self.name}: {exc.strerror or exc}")

    def _is_current(self, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), self._path.lstat())
        except FileNotFoundError:
            return False

    def _open(self) -> int:
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


class StdoutOutput:
    """Standard output; a line may come twice if the process is killed, or if its reader ends within a batch."""

    name = "stdout"

    def __init__(self, file: int = STDOUT) -> None:
        self._file = file
        self._line_end = b""

    async def deliver(self, events: Sequence[QueuedEvent]) -> None:
        try:
            await asyncio.to_thread(_write_lines, self._file, events, self._line_end)
        except OSError as exc:
            self._line_end = b"\n"  # of the line at which the write may have failed
            raise DeliveryError(f"{self.name}: {exc.strerror or exc}") from None
        self._line_end = b""


def _write_lines(file: int, events: Sequence[QueuedEvent], start: bytes = b"") -> None:
    view = memoryview(start + b"".join(event.body + b"\n" for event in events))
    while view:
        try:
            view = view[os.write(file, view) :]
        except BlockingIOError:  # The other end has made the pipe non-blocking.
            select.select((), (file,), ())


def _remove_cut_line(file: int) -> None:
    """Cut a regular file after its last whole line."""
    size = os.fstat(file).st_size
    start = max(0, size - MAX_LINE_BYTES)
    end = start + os.pread(file, size - start, start).rfind(b"\n") + 1
    if end < size:
        os.ftruncate(file, end)


def _is_regular(file: int) -> bool:
    return stat.S_ISREG(os.fstat(file).st_mode)
