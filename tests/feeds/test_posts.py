from __future__ import annotations

from typing import Any

import pytest

from late_exporter.feeds.posts import due_time, waiting_targets
from tests.support.status_api import SECONDS, TIME

HOUR_LATER = "2026-11-25T13:00:00Z"


def target(status: str | None, scheduled_for: str | None = None) -> dict[str, Any]:
    """Return a target of a post."""
    return {"platform": "tiktok", "accountId": "a1", "status": status, "scheduledFor": scheduled_for}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"scheduledFor": TIME}, SECONDS),
        ({"scheduledFor": TIME, "platforms": [target("pending")]}, SECONDS),
        ({"scheduledFor": TIME, "platforms": [target("pending", HOUR_LATER)]}, SECONDS + 3600),
        ({"platforms": [target("pending", HOUR_LATER), target("uploading", TIME)]}, SECONDS),
        ({"platforms": [target("published", TIME), target("processing", HOUR_LATER)]}, SECONDS + 3600),
        ({"scheduledFor": TIME, "platforms": [target(each) for each in ("published", "failed", "cancelled")]}, None),
        ({"createdAt": TIME, "scheduledFor": None, "platforms": [target("pending")]}, SECONDS),
        ({"scheduledFor": "soon", "createdAt": 5, "platforms": "all"}, None),
        ({"scheduledFor": TIME, "platforms": [7, target(None)]}, SECONDS),
    ],
    ids=range(9),
)
def test_a_post_is_due_with_the_first_target_that_waits(fields: dict[str, Any], expected: float | None) -> None:
    """A target may have a time of its own; one that has ended does not wait."""
    assert due_time(fields) == expected


def test_targets_that_have_ended_do_not_wait() -> None:
    """A status that is not known waits."""
    targets = [target(each) for each in ("pending", "published", "held", "failed", "cancelled", None)]
    assert [each["status"] for each in waiting_targets({"platforms": targets})] == ["pending", "held", None]
