"""The check of the output of log events."""

from __future__ import annotations

from pathlib import Path

from late_exporter.commands.check.events import check_events
from late_exporter.commands.check.finding import Level
from late_exporter.config.types import EventTarget


def file_problems(path: Path) -> list[tuple[Level, str]]:
    """Return the findings about a file of events."""
    return [(finding.level, finding.message) for finding in check_events(EventTarget("file", str(path)))]


def test_nothing_is_checked_without_a_file() -> None:
    """Standard output needs no check."""
    assert [] == [*check_events(None), *check_events(EventTarget("stdout"))]


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """The check finds what would keep the exporter from starting."""
    foreign, missing = tmp_path / "foreign", tmp_path / "missing" / "events.jsonl"
    foreign.write_text("text")
    assert [(Level.ERROR, f"file:{foreign}: is not a file of events; name another one")] == file_problems(foreign)
    assert [(Level.ERROR, f"file:{tmp_path}: Is a directory")] == file_problems(tmp_path)
    assert [(Level.ERROR, f"file:{missing}: No such file or directory")] == file_problems(missing)


def test_the_check_creates_no_file_of_events(tmp_path: Path) -> None:
    """A file that the exporter would create is no problem, and neither is one that it has created."""
    file, link = tmp_path / "events.jsonl", tmp_path / "link"
    link.symlink_to(file)
    assert [] == file_problems(file)
    assert not file.exists()
    file.touch()
    assert [] == file_problems(file)
    assert [(Level.ERROR, f"file:{link}: is a symbolic link; name a file")] == file_problems(link)
