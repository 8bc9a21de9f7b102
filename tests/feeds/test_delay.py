"""How late posts go out: the time from their schedule to the end of the attempt that published them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from late_exporter.feeds import GENERATIONS
from late_exporter.model import ObserveHistogram
from tests.support.late_api import zernio_row
from tests.support.projection import project_log

SCHEDULE = "2024-11-01T09:59:00Z"
DELAY = "late_publishing_delay_seconds"


def delays(generation: str, *, schedule: str = SCHEDULE, body: str = "", **fields: Any) -> list[float]:
    """Return the delays of an attempt of 2 s that began a minute after its schedule, with some fields changed."""
    row: dict[str, Any] = {"_id": "a", "platform": "tiktok", "action": "publish", "status": "success"}
    row |= {"durationMs": 2000, "createdAt": "2024-11-01T10:00:00Z", "request": {"scheduledFor": schedule}, **fields}
    if generation == "zernio":
        row = {**zernio_row(row), "request_body": body or json.dumps(row["request"])}
    feed = GENERATIONS[generation]["publishing"]
    (entry,) = feed.parse(json.dumps({"logs": [row]}).encode()).entries
    found = [each for each in project_log(feed, "acme", entry) if each.family == DELAY]
    return [micros / 1e6 for each in found if isinstance(each, ObserveHistogram) for micros in each.micros]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [62.0]),
        ({"durationMs": None}, [60.0]),
        ({"schedule": "2024-11-01T10:05:00Z"}, [0.0]),
        ({"schedule": "2024-11-01T10:59:00+01:00"}, [62.0]),
        ({"status": "failed"}, []),
        ({"action": "media_upload"}, []),
        ({"createdAt": "soon"}, []),
    ],
    ids=repr,
)
@pytest.mark.parametrize("generation", GENERATIONS)
def test_delay(generation: str, fields: dict[str, Any], expected: list[float]) -> None:
    """A successful attempt of a scheduled post is late by the time from its schedule to its end; no other log is."""
    assert delays(generation, **fields) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (f'{{"scheduledFor": "{SCHEDULE}", "content": "a text that is cut', [62.0]),
        (json.dumps({"content": f'"scheduledFor": "{SCHEDULE}"'}), []),
        (f'{{"scheduledFor": "{SCHEDULE[:6]}', []),
    ],
    ids=["cut", "caption", "cut time"],
)
def test_schedules_in_a_request_body(body: str, expected: list[float]) -> None:
    """The schedule is found in a body that is cut, and a caption that looks like one is none."""
    assert delays("zernio", body=body) == expected
