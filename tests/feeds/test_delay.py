"""How late posts go out: the time from their schedule to the end of the attempt that published them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from late_exporter.feeds import GENERATIONS
from late_exporter.model import LogEntry, ObserveHistogram
from tests.support.projection import project_log

SCHEDULE = "2024-11-01T09:59:00Z"
DELAY = "late_publishing_delay_seconds"


def parse(generation: str, *, body: object = ..., **fields: Any) -> LogEntry:
    """Return the entry of an attempt of 2 s that began a minute after its schedule, with some fields changed."""
    row: dict[str, Any] = {"platform": "tiktok", "action": "publish", "status": "success", "duration": 2000}
    row |= {"created": "2024-11-01T10:00:00Z", "scheduledFor": SCHEDULE} | fields
    request = {"contentPreview": "Hi", "scheduledFor": row["scheduledFor"]}
    log: dict[str, Any] = {name: row[name] for name in ("platform", "action", "status")}
    if generation == "late":
        log |= {"_id": "log1", "durationMs": row["duration"], "createdAt": row["created"]}
        log["request"] = request if body is ... else body
    else:
        log |= {"type": "publishing", "duration_ms": row["duration"], "created_at": row["created"]}
        log["request_body"] = json.dumps(request) if body is ... else body
    (entry,) = GENERATIONS[generation]["publishing"].parse(json.dumps({"logs": [log]}).encode()).entries
    return entry


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 62.0),
        ({"duration": None}, 60.0),
        ({"scheduledFor": "2024-11-01T10:05:00Z"}, 0.0),
        ({"scheduledFor": "2024-11-01T10:59:00+01:00"}, 62.0),
        ({"status": "failed"}, None),
        ({"action": "media_upload"}, None),
        ({"created": "soon"}, None),
    ],
    ids=repr,
)
@pytest.mark.parametrize("generation", GENERATIONS)
def test_delay(generation: str, fields: dict[str, Any], expected: float | None) -> None:
    """A successful attempt of a scheduled post is late by the time from its schedule to its end; no other log is."""
    entry = parse(generation, **fields)
    assert expected == (None if entry.delay is None else entry.delay / 1_000_000)
    increments = project_log(GENERATIONS[generation]["publishing"], "acme", entry)
    delays = [each for each in increments if each.family == DELAY]
    micros = [] if entry.delay is None else [entry.delay]
    assert [ObserveHistogram(DELAY, ("acme", "tiktok"), micros=(each,)) for each in micros] == delays


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (f'{{"scheduledFor": "{SCHEDULE}", "content": "a text that is cut', 62.0),
        (json.dumps({"content": f'"scheduledFor": "{SCHEDULE}"'}), None),
        (f'{{"scheduledFor": "{SCHEDULE[:6]}', None),
    ],
    ids=["cut", "caption", "cut time"],
)
def test_schedules_in_a_request_body(body: object, expected: float | None) -> None:
    """The schedule is found in a body that is cut or an object, and a caption that looks like one is none."""
    entry = parse("zernio", body=body)
    assert expected == (None if entry.delay is None else entry.delay / 1_000_000)
