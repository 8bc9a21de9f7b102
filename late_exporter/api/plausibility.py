"""Judge what a log list answers: every check that fails a poll loudly.

| check | a page is not believed if | asked by |
|---|---|---|
| `check_profile` | it has logs of another profile than the one asked for | `api.pages` |
| `check_order` | it is not sorted from new to old | `api.pages` |
| `check_ids` | the list with ids returns logs without ids | `api.pages` |
| `check_readable` | less than half of its rows can be read | `ingest.pages_in_parts` |
| `check_unmoved` | the list moves whenever the page is read in parts | `ingest.pages_in_parts` |
| `check_not_emptied` | the list is empty, but should have the newest counted log | `ingest.sync` |
| `check_dated` | none of its logs has a readable time | `ingest.sync` |
| `check_repeats` | the list shows the same rows again and again | `ingest.sweep` |

Each raises an ApiError, whose outcome is that of the poll. What is wrong with a single row is no
reason to fail: the feed that parses it rejects the row or counts a deviation.
"""

from __future__ import annotations

from itertools import pairwise

from late_exporter.errors import ApiError, BadPayload
from late_exporter.feeds.feed import Feed
from late_exporter.model import DAY_MS, LATE, MINUTE_MS, LogPage

MIN_ORDERED_ROWS = 10
"""Rows from which the order of a page is judged."""

MAX_DELAY = 15 * MINUTE_MS
"""Milliseconds by which a row may be out of place."""

MIN_UNDATED = 10
"""Logs of the newest page, none of which has a time, that show that the API writes times
differently."""

MAX_MOVES = 3
"""Readings of a page in parts during which the list has moved after which the page is given up."""

MAX_REPEATS = 10
"""Consecutive pages with the same rows after which the API is taken to ignore the offset."""


def check_profile(page: LogPage, profile_id: str | None) -> None:
    """Raise BadPayload if the API ignored ``profileId``.

    Logs of other profiles would count.
    """
    if profile_id is None:
        return
    for entry in page.entries:
        if entry.profile_id not in (None, profile_id):
            raise BadPayload(
                "the API does not filter by profile: it returned a log of profile"
                f" {entry.profile_id}, but profile_id is {profile_id}; check profile_id, or remove"
                " it and use a key that is limited to the profile"
            )


def check_order(page: LogPage) -> None:
    """Raise BadPayload if a page is not sorted from new to old.

    Polls would not find new logs.

    The order is not documented, and every example is newest first. Some rows may be out of place:
    those that were written late, in a list in order of insertion.
    """
    times = list(page.times)
    if len(times) < MIN_ORDERED_ROWS or times == sorted(times, reverse=True):
        return
    late_count = sum(following - created > MAX_DELAY for created, following in pairwise(times))
    if late_count > len(times) / 4 or times == sorted(times):
        raise BadPayload("the list is not sorted from new to old, so new logs cannot be found")


def check_ids(page: LogPage, feed: Feed, body: bytes) -> None:
    """Raise BadPayload if a list of generation late returns logs without ids.

    It has become an alias of the list of the other generation.
    """
    if feed.generation != LATE or not page.entries:
        return
    has_no_ids = all(entry.rejection_reason == "no_id" for entry in page.entries)
    if has_no_ids and b'"created_at"' in body:
        raise BadPayload("200: the logs have no _id, they are those of /v1/logs")


def check_readable(readable_count: int, row_count: int, error: ApiError | None) -> None:
    """Raise the last error of a page read in parts if less than half of it can be read.

    Then the API is at fault, rather than some rows.
    """
    if error is not None and readable_count * 2 < row_count:
        raise error


def check_unmoved(move_count: int) -> None:
    """Raise BadPayload if a list has moved so many times while a page was read in parts."""
    if move_count >= MAX_MOVES:
        raise BadPayload("the list has moved while a page was read in parts")


def check_not_emptied(
    page: LogPage, feed: Feed, *, newest: int | None, now: int, is_caught_up: bool
) -> None:
    """Raise BadPayload if a list is empty although its newest logs cannot have expired yet.

    Args:
        page: The newest page.
        feed: The list.
        newest: Creation time of the newest counted log; None if there is none.
        now: API time in milliseconds.
        is_caught_up: Whether nothing was left to read.
    """
    if page.entries or newest is None or now > newest + feed.retention - DAY_MS:
        return
    # In generation zernio, which stays, logs that were deleted are no reason to fail if none was
    # left to read.
    if feed.generation == LATE or not is_caught_up:
        raise BadPayload("the list is empty, but should have the newest counted log")


def check_dated(page: LogPage) -> None:
    """Raise BadPayload if none of the newest logs has a time.

    The API writes times differently then.
    """
    if len(page.entries) >= MIN_UNDATED and not page.times:
        raise BadPayload("none of the newest logs has a readable creation time")


def check_repeats(repeat_count: int, skip: int) -> None:
    """Raise BadPayload if a list has shown the same page again so many times."""
    if repeat_count >= MAX_REPEATS:
        raise BadPayload(f"the log list repeats the same page at skip={skip}")
