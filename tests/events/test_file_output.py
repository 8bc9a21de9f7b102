"""Events in files and on standard output."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from late_exporter.errors import DeliveryError
from late_exporter.events.file_output import FileOutput, StdoutOutput
from late_exporter.store.records import QueuedEvent


def events(*numbers: int) -> list[QueuedEvent]:
    """Return some events."""
    return [QueuedEvent(number, "acme", b'{"id":"%04d","text":"%s"}' % (number, b"x" * 20)) for number in numbers]


def lines(*numbers: int) -> bytes:
    """Return the content of a file with some events."""
    return b"".join(each.body + b"\n" for each in events(*numbers))


def deliver(output: FileOutput | StdoutOutput, *numbers: int) -> None:
    """Deliver some events."""
    asyncio.run(output.deliver(events(*numbers)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a file that does not exist."""
    return tmp_path / "events.jsonl"


def test_events_are_appended(path: Path) -> None:
    """A file is created for its owner and group, and continued by a later process."""
    deliver(FileOutput(path), 1, 2)
    assert lines(1, 2) == path.read_bytes()
    assert 0 == path.stat().st_mode & 0o027
    deliver(FileOutput(path), 3)
    assert lines(1, 2, 3) == path.read_bytes()


@pytest.mark.parametrize("written", range(len(lines(1, 2, 3)) + 1))
def test_a_process_that_died_at_any_byte(path: Path, written: int) -> None:
    """Whatever part of a batch was written, the next process writes all of it, after the last whole line."""
    path.write_bytes(lines(0) + lines(1, 2, 3)[:written])
    whole = path.read_bytes().rpartition(b"\n")[0] + b"\n"
    output = FileOutput(path)
    output.check()
    deliver(output, 1, 2, 3)
    deliver(output, 4)
    assert whole + lines(1, 2, 3, 4) == path.read_bytes()


def test_events_are_delivered_once_they_are_on_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a disk cannot store what was written, nothing is delivered, and the lines are written again."""
    output = FileOutput(path)

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", fail)
        with pytest.raises(DeliveryError, match="Input/output error"):
            deliver(output, 1, 2)
    deliver(output, 1, 2)
    assert lines(1, 2, 1, 2) == path.read_bytes()


def test_rotation_while_running(path: Path) -> None:
    """After the file was moved, deleted or replaced, the next events go to the new one."""
    output = FileOutput(path)
    deliver(output, 1)
    path.rename(path.with_suffix(".1"))
    deliver(output, 2)
    assert (lines(1), lines(2)) == (path.with_suffix(".1").read_bytes(), path.read_bytes())
    path.unlink()
    deliver(output, 3)
    assert lines(3) == path.read_bytes()
    path.rename(path.with_suffix(".2"))
    path.touch()
    deliver(output, 4)
    assert lines(4) == path.read_bytes()


def test_a_file_that_is_copied_and_truncated(path: Path) -> None:
    """After ``copytruncate`` events are written at the beginning of the file."""
    output = FileOutput(path)
    deliver(output, 1)
    os.truncate(path, 0)
    deliver(output, 2)
    assert lines(2) == path.read_bytes()


def test_a_disk_that_is_full_in_the_middle_of_a_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a write that failed half way the batch is written again, without a broken line."""
    output, real_write = FileOutput(path), os.write
    deliver(output, 1)

    def write(file: int, data: bytes) -> int:
        if len(data) <= len(lines(3)):
            raise OSError(28, "No space left on device")
        return real_write(file, data[: -len(lines(3)) + 10])

    monkeypatch.setattr("late_exporter.events.file_output.os.write", write)
    with pytest.raises(DeliveryError, match="No space left on device"):
        deliver(output, 2, 3)
    monkeypatch.undo()
    deliver(output, 2, 3)
    assert lines(1, 2, 2, 3) == path.read_bytes()


@pytest.mark.parametrize("content", [b"SQLite format 3\0", b"key: value\n", b"{}\n"])
def test_a_file_of_something_else_is_refused(path: Path, content: bytes) -> None:
    """A file that does not begin with an event is not changed."""
    path.write_bytes(content)
    output = FileOutput(path)
    for write in (output.check, lambda: deliver(output, 1)):
        with pytest.raises(DeliveryError, match=r"events.jsonl: is not a file of events; name another one"):
            write()
    assert content == path.read_bytes()


@pytest.mark.parametrize("target", ["missing", "empty", "events"])
def test_a_symbolic_link_is_not_followed(path: Path, target: str) -> None:
    """A link is an error that names it, wherever it leads, also if it takes the place of a file that is open."""
    victim = path.with_name("victim")
    if target != "missing":
        victim.write_bytes(lines(1) if target == "events" else b"")
    before = victim.read_bytes() if victim.exists() else None
    output = FileOutput(path)
    deliver(output, 1)
    path.unlink()
    path.symlink_to(victim)
    for write in (output.check, lambda: deliver(output, 2)):
        with pytest.raises(DeliveryError, match=r"/events.jsonl: is a symbolic link; name a file$"):
            write()
    assert before == (victim.read_bytes() if victim.exists() else None)


def test_a_fifo(path: Path) -> None:
    """Something else than a file is written to as it is."""
    os.mkfifo(path)
    content = bytearray()
    reader = threading.Thread(target=lambda: content.extend(path.read_bytes()), daemon=True)
    reader.start()
    output = FileOutput(path)
    deliver(output, 1)
    output.close()
    reader.join(60)
    assert lines(1) == content


def test_standard_output() -> None:
    """Each event is a line; after a failure the incomplete line is ended."""
    reader, writer = os.pipe()
    output = StdoutOutput(writer)
    deliver(output, 1, 2)
    assert lines(1, 2) == os.read(reader, 1000)
    os.set_blocking(writer, False)
    deliver(output, 3)
    assert lines(3) == os.read(reader, 1000)
    os.close(reader)
    with pytest.raises(DeliveryError, match="stdout: Broken pipe"):
        deliver(output, 4)
    os.close(writer)


def test_standard_output_waits_for_its_reader() -> None:
    """A pipe that is full delays the delivery, even if it is non-blocking."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    content = bytearray()

    def read() -> None:
        while data := os.read(reader, 4096):
            content.extend(data)

    thread = threading.Thread(target=read, daemon=True)
    output = StdoutOutput(writer)
    numbers = range(4000)
    delivery = threading.Thread(target=lambda: deliver(output, *numbers), daemon=True)
    delivery.start()
    thread.start()
    delivery.join(60)
    os.close(writer)
    thread.join(60)
    assert lines(*numbers) == content
    os.close(reader)
