"""The simulator's log list."""

from __future__ import annotations

from typing import Any

import pytest

from late_exporter.simulator import LogList


def log(log_id: str, created: Any = "2026-11-24T10:00:00Z", **fields: Any) -> dict[str, Any]:
    """A row with what an archive looks at."""
    return {"_id": log_id, "status": "success", "createdAt": created, **fields}


def ids(archive: LogList) -> list[str]:
    """The ids in the order of the archive."""
    return [row["_id"] for row in archive.rows]


def test_newest_first() -> None:
    """Rows stand where their createdAt says, whenever they were inserted."""
    archive = LogList([log("b", "2026-11-24T10:00:01Z"), log("c", "2026-11-24T10:00:02.5Z"), log("a")])
    assert ["c", "b", "a"] == ids(archive)


def test_equal_times() -> None:
    """Of rows with equal times the one inserted last comes first."""
    assert ["third", "second", "first"] == ids(LogList([log("first"), log("second"), log("third")]))


@pytest.mark.parametrize("created", [None, 5, "", "yesterday", ["2026"], "2026-13-01T00:00:00Z"])
def test_odd_times_sort_last(created: Any) -> None:
    """A row without a usable time is stored behind all others, found in every window, and never expires."""
    archive = LogList([log("odd", created), log("good")])
    assert ["good", "odd"] == ids(archive)
    assert ([archive.get("odd")], 1) == archive.page(0, 10, since=2e9)
    assert 1 == archive.expire(before=2e9)
    assert ["odd"] == ids(archive)


def test_row_without_id() -> None:
    """A row without an id is listed and expires like any other."""
    archive = LogList([{"createdAt": "2026-11-24T10:00:00Z"}])
    assert ([{"createdAt": "2026-11-24T10:00:00Z"}], 1) == archive.page(0, 10)
    assert 1 == archive.expire(before=2e9)
    assert 0 == len(archive)


def test_update_in_place() -> None:
    """A row changes its status without moving, and is found under the new one."""
    archive = LogList([log("a"), log("b", status="pending"), log("c")])
    assert archive.update("b", status="failed", durationMs=5)
    assert ["c", "b", "a"] == ids(archive)
    assert ([], 0) == archive.page(0, 10, status="pending")
    assert ([log("b", status="failed", durationMs=5)], 1) == archive.page(0, 10, status="failed")


def test_delete() -> None:
    """A deleted row is gone from the list, from its post and from its status."""
    archive = LogList([log("a", postId="p"), log("b", postId={"_id": "p"})])
    assert archive.delete("b")
    assert ["a"] == ids(archive)
    assert [archive.get("a")] == archive.rows_of_post("p")
    assert 1 == archive.page(0, 10, status="success")[1]
    assert archive.get("b") is None


def test_unknown_ids() -> None:
    """What is not there can be neither changed nor deleted, and nothing happens."""
    archive = LogList([log("a")])
    assert not archive.update("x", status="failed")
    assert not archive.delete("x")
    assert [log("a")] == archive.rows


def test_expire() -> None:
    """Rows created before the time go, the one created at it stays, and no trace is left of those gone."""
    archive = LogList([log(f"{second}", f"2026-11-24T10:00:0{second}Z", postId="p") for second in range(5)])
    tenth = 1795514402.0  # 2026-11-24T10:00:02Z
    assert 2 == archive.expire(before=tenth)
    assert ["4", "3", "2"] == ids(archive) == [row["_id"] for row in archive.rows_of_post("p")]
    assert archive.get("0") is None
    assert 3 == archive.page(0, 1, status="success")[1]


@pytest.mark.parametrize(
    ("skip", "limit", "expected"),
    [(0, 2, "65"), (2, 3, "432"), (3, 2, "32"), (4, 2, "2u"), (5, 5, "uv"), (6, 5, "v"), (7, 5, ""), (90, 1, "")],
)
def test_page_within_a_window(skip: int, limit: int, expected: str) -> None:
    """A page of a window is cut from the dated rows inside it and then from those without a time."""
    dated = [log(f"{second}", f"2026-11-24T10:00:0{second}Z") for second in range(7)]
    archive = LogList([*dated, log("v", None), log("u", None)])
    since = 1795514402.0  # 2026-11-24T10:00:02Z
    rows, total = archive.page(skip, limit, since=since)
    assert expected == "".join(row["_id"] for row in rows)
    assert 7 == total
    assert (rows, total) == archive.page(skip, limit, lambda _: True, since=since)


def test_page_up_to_a_time() -> None:
    """A window has both its ends inside it."""
    archive = LogList([log(f"{second}", f"2026-11-24T10:00:0{second}Z") for second in range(7)])
    second = 1795514402.0  # 2026-11-24T10:00:02Z
    rows, total = archive.page(1, 5, since=second - 1, until=second + 1)
    assert ("21", 3) == ("".join(row["_id"] for row in rows), total)
    assert ([], 0) == archive.page(0, 5, since=second, until=second - 1)


def test_row_of_another_spelling() -> None:
    """A row that has created_at in place of createdAt is dated by it."""
    archive = LogList([{"created_at": "2026-11-24T10:00:02Z"}, log("a", "2026-11-24T10:00:01Z")])
    assert ["2026-11-24T10:00:02Z", "2026-11-24T10:00:01Z"] == [
        row.get("created_at", row.get("createdAt")) for row in archive.rows
    ]
