"""Which logs of a page are new observations."""

from __future__ import annotations

import pytest

from late_exporter.ingest.steps import FetchedPage
from late_exporter.model import KnownLogs, LogEntry, LogPage

FLOOR = 1_000


@pytest.mark.parametrize(
    ("entry", "is_new"),
    [
        (LogEntry(key="new", status="success", created=FLOOR), True),
        (LogEntry(key="old", status="success", created=FLOOR - 1), False),
        (LogEntry(key="undated", status="success"), True),
        (LogEntry(key="known", status="success", created=FLOOR), False),
        (LogEntry(key="known", status="failed", created=FLOOR), True),
        (LogEntry(key="known", status="failed", created=FLOOR - 1), False),
        (LogEntry(key="own", status="success", created=FLOOR, is_own=True), False),
    ],
    ids=lambda value: f"{value.key} {value.status}" if isinstance(value, LogEntry) else "",
)
def test_new_entries(entry: LogEntry, *, is_new: bool) -> None:
    """Logs are new unless they are known in their status, too old, or caused by the exporter."""
    page = FetchedPage(LogPage((entry,)), KnownLogs({"known": frozenset({"success", "pending"})}))
    assert is_new == bool(page.new_entries(FLOOR))


def test_known_entries() -> None:
    """Logs that are left out count as known, so that none of them keeps a poll reading further down."""
    entries = tuple(
        LogEntry(key=key, status="success", created=FLOOR, is_own=key == "own") for key in ("new", "known", "own")
    )
    page = FetchedPage(LogPage(entries), KnownLogs({"known": frozenset({"success"})}))
    assert ["known", "own"] == [entry.key for entry in page.known_entries]
