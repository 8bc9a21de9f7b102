"""Events in files and on standard output."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from late_exporter.errors import DeliveryError
from late_exporter.events.file_output import FileOutput, StdoutOutput
from late_exporter.model import QueuedEvent


def event(number: int) -> QueuedEvent:
    """Return an event."""
    return QueuedEvent(number, "acme", b'{"id":"%04d","text":"%s"}' % (number, b"x" * 20))


def events(*numbers: int) -> list[QueuedEvent]:
    """Return some events."""
    return [event(number) for number in numbers]


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
def test_a_process_that_died_at_any_byte_leaves_no_trace(path: Path, written: int) -> None:
    """Whatever part of a batch was written, the next process completes it: each line is there exactly once."""
    path.write_bytes(lines(0) + lines(1, 2, 3)[:written])
    inode = path.stat().st_ino
    output = FileOutput(path)
    output.check()
    deliver(output, 1, 2, 3)
    deliver(output, 4)
    assert lines(0, 1, 2, 3, 4) == path.read_bytes()
    assert inode == path.stat().st_ino


@pytest.mark.parametrize("rotated", ["events.jsonl.1", "events.jsonl-20261120"])
@pytest.mark.parametrize("written", [0, 1, 10, len(lines(1)), len(lines(1)) + 5, len(lines(1, 2))])
def test_a_rotation_after_a_death(path: Path, rotated: str, written: int) -> None:
    """The lines of the last batch are found in the file to which logrotate has moved them; older files are not read."""
    moved = path.with_name(rotated)
    moved.write_bytes(lines(0) + lines(1, 2)[:written])
    for name in ("events.jsonl.2.gz", "events.jsonl.3"):
        path.with_name(name).write_bytes(b"" if name.endswith("3") else b"\x1f\x8b")
    path.touch()
    deliver(FileOutput(path), 1, 2)
    assert sorted(lines(0, 1, 2).splitlines()) == sorted((moved.read_bytes() + path.read_bytes()).splitlines())


def test_a_death_after_a_rotation_after_a_death(path: Path) -> None:
    """An incomplete line is not completed to an event of the same beginning that is in a rotated file."""
    path.with_name("events.jsonl.1").write_bytes(lines(1))
    path.write_bytes(lines(2)[:10])
    deliver(FileOutput(path), 1, 2)
    assert (lines(1), lines(2)) == (path.with_name("events.jsonl.1").read_bytes(), path.read_bytes())


def test_a_rotated_file_that_cannot_be_completed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk nothing is delivered, because the lines that are already there would be written again."""
    moved, write = path.with_name("events.jsonl.1"), os.write
    moved.write_bytes(lines(1, 2)[:-5])
    failures = iter([OSError(28, "No space left on device")])

    def write_later(file: int, data: bytes) -> int:
        for failure in failures:
            raise failure
        return write(file, data)

    monkeypatch.setattr(os, "write", write_later)
    output = FileOutput(path)
    with pytest.raises(DeliveryError, match="No space left"):
        deliver(output, 1, 2)
    deliver(output, 1, 2, 3)
    assert (lines(1, 2), lines(3)) == (moved.read_bytes(), path.read_bytes())


def test_events_are_delivered_once_they_are_on_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a disk cannot store what was written, nothing is delivered, also if its lines are in the file already."""
    output = FileOutput(path)

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", fail)
        for _ in range(3):
            with pytest.raises(DeliveryError, match="Input/output error"):
                deliver(output, 1, 2)
    deliver(output, 1, 2)
    assert lines(1, 2) == path.read_bytes()


def test_an_incomplete_line_of_a_lost_event_is_removed(path: Path) -> None:
    """A beginning of an event that is not in the outbox any more cannot be completed."""
    path.write_bytes(lines(1) + lines(2)[:-5])
    deliver(FileOutput(path), 3)
    assert lines(1, 3) == path.read_bytes()


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
    """After a write that failed half way the batch is completed, without a repeated or broken line."""
    output, real_write = FileOutput(path), os.write
    deliver(output, 1)

    def write(file: int, data: bytes) -> int:
        if len(data) <= len(lines(3)) + 10:
            raise OSError(28, "No space left on device")
        return real_write(file, data[: -len(lines(3)) - 10])

    monkeypatch.setattr("late_exporter.events.file_output.os.write", write)
    with pytest.raises(DeliveryError, match="No space left on device"):
        deliver(output, 2, 3)
    assert path.read_bytes() != lines(1)
    monkeypatch.undo()
    deliver(output, 2, 3)
    assert lines(1, 2, 3) == path.read_bytes()


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


def test_a_symbolic_link_is_no_rotated_file(path: Path) -> None:
    """A link that somebody has placed among the rotated files is not followed, so that no other file is cut."""
    victim = path.with_name("victim")
    victim.write_bytes(lines(1) + lines(2)[:9])
    path.with_name("events.jsonl.1").symlink_to(victim)
    deliver(FileOutput(path), 1, 2)
    assert (lines(1) + lines(2)[:9], lines(1, 2)) == (victim.read_bytes(), path.read_bytes())


def test_a_fifo(path: Path) -> None:
    """Something else than a file is written to as it is."""
    os.mkfifo(path)
    content = bytearray()
    reader = threading.Thread(target=lambda: content.extend(path.read_bytes()), daemon=True)
    reader.start()
    output = FileOutput(path)
    deliver(output, 1)
    output._close()  # noqa: SLF001 - as the end of the process does
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
