"""Tests of the simulator's log list."""

from __future__ import annotations

from typing import Any

import pytest

from late_exporter.simulator import LogList


def log(log_id: str, created: Any = "2026-11-24T10:00:00Z", **fields: Any) -> dict[str, Any]:
    """Return a row with the fields that a list reads."""
    return {"_id": log_id, "status": "success", "createdAt": created, **fields}


def ids(log_list: LogList) -> list[str]:
    """Return the ids in the order of the list."""
    return [row["_id"] for row in log_list.rows]


def test_newest_first() -> None:
    """Rows are ordered by createdAt, not by insertion."""
    log_list = LogList([log("b", "2026-11-24T10:00:01Z"), log("c", "2026-11-24T10:00:02.5Z"), log("a")])
    assert ["c", "b", "a"] == ids(log_list)


def test_equal_times() -> None:
    """Of rows with equal times the one inserted last is first."""
    assert ["third", "second", "first"] == ids(LogList([log("first"), log("second"), log("third")]))


@pytest.mark.parametrize("created", [None, 5, "", "yesterday", ["2026"], "2026-13-01T00:00:00Z"])
def test_odd_times_sort_last(created: Any) -> None:
    """A row without a usable time is last, matches every time range, and never expires."""
    log_list = LogList([log("odd", created), log("good")])
    assert ["good", "odd"] == ids(log_list)
    assert ([log_list.get("odd")], 1) == log_list.page(0, 10, since=2e9)
    assert 1 == log_list.expire(before=2e9)
    assert ["odd"] == ids(log_list)


def test_row_without_id() -> None:
    """A row without an id is listed and expires like any other."""
    log_list = LogList([{"createdAt": "2026-11-24T10:00:00Z"}])
    assert ([{"createdAt": "2026-11-24T10:00:00Z"}], 1) == log_list.page(0, 10)
    assert 1 == log_list.expire(before=2e9)
    assert 0 == len(log_list)


def test_update_in_place() -> None:
    """A row changes its status without moving, and is found by the new one."""
    log_list = LogList([log("a"), log("b", status="pending"), log("c")])
    assert log_list.update("b", status="failed", durationMs=5)
    assert ["c", "b", "a"] == ids(log_list)
    assert ([], 0) == log_list.page(0, 10, status="pending")
    assert ([log("b", status="failed", durationMs=5)], 1) == log_list.page(0, 10, status="failed")


def test_delete() -> None:
    """A deleted row is in no list and no index."""
    log_list = LogList([log("a", postId="p"), log("b", postId={"_id": "p"})])
    assert log_list.delete("b")
    assert ["a"] == ids(log_list)
    assert [log_list.get("a")] == log_list.rows_of_post("p")
    assert 1 == log_list.page(0, 10, status="success")[1]
    assert log_list.get("b") is None


def test_unknown_ids() -> None:
    """Updating or deleting an unknown id changes nothing."""
    log_list = LogList([log("a")])
    assert not log_list.update("x", status="failed")
    assert not log_list.delete("x")
    assert [log("a")] == log_list.rows


def test_expire() -> None:
    """Rows created before the time are removed from the list and its indexes; one created at the time stays."""
    log_list = LogList([log(f"{second}", f"2026-11-24T10:00:0{second}Z", postId="p") for second in range(5)])
    tenth = 1795514402.0  # 2026-11-24T10:00:02Z
    assert 2 == log_list.expire(before=tenth)
    assert ["4", "3", "2"] == ids(log_list) == [row["_id"] for row in log_list.rows_of_post("p")]
    assert log_list.get("0") is None
    assert 3 == log_list.page(0, 1, status="success")[1]


@pytest.mark.parametrize(
    ("skip", "limit", "expected"),
    [(0, 2, "65"), (2, 3, "432"), (3, 2, "32"), (4, 2, "2u"), (5, 5, "uv"), (6, 5, "v"), (7, 5, ""), (90, 1, "")],
)
def test_page_within_a_window(skip: int, limit: int, expected: str) -> None:
    """A page of a time range has its dated rows, then those without a time."""
    dated = [log(f"{second}", f"2026-11-24T10:00:0{second}Z") for second in range(7)]
    log_list = LogList([*dated, log("v", None), log("u", None)])
    since = 1795514402.0  # 2026-11-24T10:00:02Z
    rows, total = log_list.page(skip, limit, since=since)
    assert expected == "".join(row["_id"] for row in rows)
    assert 7 == total
    assert (rows, total) == log_list.page(skip, limit, lambda _: True, since=since)


def test_page_up_to_a_time() -> None:
    """A time range includes both ends."""
    log_list = LogList([log(f"{second}", f"2026-11-24T10:00:0{second}Z") for second in range(7)])
    second = 1795514402.0  # 2026-11-24T10:00:02Z
    rows, total = log_list.page(1, 5, since=second - 1, until=second + 1)
    assert ("21", 3) == ("".join(row["_id"] for row in rows), total)
    assert ([], 0) == log_list.page(0, 5, since=second, until=second - 1)


def test_row_of_another_spelling() -> None:
    """A row with created_at instead of createdAt is dated by it."""
    log_list = LogList([{"created_at": "2026-11-24T10:00:02Z"}, log("a", "2026-11-24T10:00:01Z")])
    assert ["2026-11-24T10:00:02Z", "2026-11-24T10:00:01Z"] == [
        row.get("created_at", row.get("createdAt")) for row in log_list.rows
    ]
