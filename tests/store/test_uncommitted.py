"""Logs that were read but are not committed yet."""

from __future__ import annotations

from late_exporter.model import LogEntry
from late_exporter.store.uncommitted import NO_UNCOMMITTED_LOGS, UncommittedLogs

TIME, LATER = "1730455200000-", "1730455200001-"


def test_logs_by_key_and_by_time() -> None:
    """A log has all statuses in which it was read, and is found by the time in its key."""
    logs = UncommittedLogs()
    logs.add([LogEntry(key=f"{TIME}a", status="pending"), LogEntry(key=f"{LATER}b", status="success")])
    logs.add([LogEntry(key=f"{TIME}a", status="failed"), LogEntry(key="an id", status="success")])
    assert {"pending", "failed"} == logs.statuses_of(f"{TIME}a")
    assert {"success"} == logs.statuses_of("an id")
    assert set() == logs.statuses_of(f"{TIME}c")
    assert {f"{TIME}a": {"pending", "failed"}} == dict(logs.logs_at({TIME}))
    assert {f"{TIME}a", f"{LATER}b"} == dict(logs.logs_at({TIME, LATER})).keys()
    assert [] == list(logs.logs_at({"1730455200002-"}))
    assert [] == list(NO_UNCOMMITTED_LOGS.logs_at({TIME}))


def test_logs_beside_others() -> None:
    """Other logs are together with the uncommitted ones of their times, which stay as they are."""
    logs = UncommittedLogs()
    logs.add([LogEntry(key=f"{TIME}a", status="pending"), LogEntry(key=f"{LATER}b", status="success")])
    others = [LogEntry(key=f"{TIME}a", status="failed"), LogEntry(key=f"{TIME}c", status="success")]
    beside = logs.beside(others)
    assert {f"{TIME}a": {"pending", "failed"}, f"{TIME}c": {"success"}} == dict(beside.logs_at({TIME, LATER}))
    assert {f"{TIME}a": {"pending"}} == dict(logs.logs_at({TIME}))
