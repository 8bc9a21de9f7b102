from __future__ import annotations

from types import MappingProxyType

import pytest

from late_exporter.model import LogEntry
from late_exporter.store.matching import StoredLogs, interim_key, match_logs, time_prefix

TIME = f"{1_730_455_200_000:013d}-"
MARK, OTHER = "0123456789ab", "ba9876543210"


def held(name: str, mark: str = MARK) -> str:
    """The key of a log of generation late after a switch."""
    return interim_key(name, 1_730_455_200_000, mark)


def shown(number: int, status: str = "success", mark: str = MARK) -> LogEntry:
    """A log without an id."""
    return LogEntry(key=f"{TIME}{mark}=fine.{number}", status=status)


def given(name: str, status: str = "success") -> LogEntry:
    """A log with an id."""
    return LogEntry(key=f"{TIME}{MARK}#{name}", status=status)


ONE, TWO = shown(0), shown(1)
PENDING, SUCCESS, FAILED, AGAIN = (
    MappingProxyType({status: None}) for status in ("pending", "success", "failed", "reconnect_success")
)
OTHER_DETAIL, DETAIL = {"success": "a"}, {"success": "d"}
THIRD = {"success": "t"}
UNLIKE = [LogEntry(key=f"{at:013d}-{MARK}=fine.0", status="success", status_fingerprint=f"x{at}") for at in range(3)]
MANY = {interim_key(f"i{at}", at, MARK): {"success": f"y{at}"} for at in range(3)}
LOST = shown(0, "failed")
BOTH_WAYS = {held("i1"): {"success": None}, held("i2"): {"failed": None}}
WAITING = shown(0, "pending")
NEW = LogEntry(key=shown(1).key, status="success", status_fingerprint="o")
KNOWN = LogEntry(key=shown(2).key, status="success", status_fingerprint="t")
TAKEN = {held("i2"): DETAIL, held("i3"): THIRD, KNOWN.key: SUCCESS}
TOLD = LogEntry(key=ONE.key, status="success", status_fingerprint="d")
BOTH = (held("i1"), held("i2"))

TABLE = [
    ("the same status", [ONE], {held("i1"): SUCCESS}, {held("i1"): ONE}),
    ("what it was before too", [ONE], {held("i1"): {**PENDING, **SUCCESS}}, {held("i1"): ONE}),
    ("as many as are held", [ONE, TWO], {held("i1"): SUCCESS}, {held("i1"): ONE}),
    ("all that are held", [ONE, TWO], dict.fromkeys(BOTH, SUCCESS), dict(zip(BOTH, (ONE, TWO), strict=True))),
    ("a pending one that has settled", [ONE], {held("i1"): PENDING}, {held("i1"): ONE}),
    ("the settled one rather", [ONE], {held("i1"): PENDING, held("i2"): SUCCESS}, {held("i2"): ONE}),
    ("the same detail rather", [TOLD], {held("i1"): OTHER_DETAIL, held("i2"): DETAIL}, {held("i2"): TOLD}),
    ("none that is elsewhere", [TOLD, NEW], {held("i2"): DETAIL, held("i3"): THIRD}, {held("i2"): TOLD}),
    ("a twin that was taken for another", [TOLD, NEW, KNOWN], TAKEN, {held("i2"): TOLD, held("i3"): NEW}),
    ("no pending log for one that has settled", [WAITING], {held("i1"): {**PENDING, **SUCCESS}}, {}),
    ("by status where no detail is told", UNLIKE, MANY, dict(zip(MANY, UNLIKE, strict=True))),
    ("none where few details are told", UNLIKE[:2], MANY, {}),
    ("both of two alike but for their status", [ONE, LOST], BOTH_WAYS, {held("i1"): ONE, held("i2"): LOST}),
    ("another status", [ONE], {held("i1"): FAILED}, {}),
    ("another mark", [ONE], {held("i1", OTHER): SUCCESS}, {}),
    ("no mark", [ONE], {held("i1", ""): SUCCESS}, {held("i1", ""): ONE}),
    ("a marked one rather", [ONE], {held("i0", ""): SUCCESS, held("i1"): SUCCESS}, {held("i1"): ONE}),
    ("the same id", [given("i2")], {held("i1"): SUCCESS, held("i2"): FAILED}, {held("i2"): given("i2")}),
    ("ids that come one day", [given("x1")], {ONE.key: SUCCESS}, {ONE.key: given("x1")}),
    ("one that is shown itself", [ONE, given("x1")], {ONE.key: SUCCESS}, {}),
    ("nothing of the same form", [TWO], {ONE.key: SUCCESS}, {}),
    ("another time", [ONE], {interim_key("i1", 7, MARK): SUCCESS}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("entries", "logs", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_logs_that_settle(entries: list[LogEntry], logs: StoredLogs, expected: dict[str, LogEntry]) -> None:
    """Each held log is recognized once, by what is surest."""
    assert expected == match_logs(entries, logs, has_pending=True)


def test_logs_that_do_not_settle_are_recognized_by_their_mark() -> None:
    """A connection that came again is told as any other connection is."""
    assert {held("i1"): ONE} == match_logs([ONE], {held("i1"): AGAIN}, has_pending=False)
    assert {} == match_logs([ONE], {held("i1", ""): AGAIN}, has_pending=False)


def test_the_time_of_a_key() -> None:
    """Only keys that go by time have one; logs without a time share 0."""
    assert TIME == time_prefix(ONE.key) == time_prefix(held("i1")) == time_prefix(held("a@b#c=d", ""))
    assert f"{0:013d}-" == time_prefix(interim_key("i1", None, None))
    assert time_prefix("675f1c0a9e2b5af0012ab34cd") is None
