"""Tests of the simulated world: reproducible by its seed, and as irregular as the real API."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from late.models._generated.models import ConnectionLog, PostLog  # type: ignore[import-untyped]

from late_exporter.simulator import SimulatedWorld, simulate_world
from late_exporter.thresholds import SUCCESS_OBJECTIVE

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()
HOUR = 3600.0
DAY = 24 * HOUR


@pytest.fixture(scope="module")
def week() -> SimulatedWorld:
    """Return a world with a history of a week, for reading only."""
    return simulate_world(1, NOON, logs_per_day=1000)


def test_same_seed_same_world() -> None:
    """Two worlds of one seed are equal, two of different seeds are not."""
    one, same, other = (simulate_world(seed, NOON, history=HOUR) for seed in (1, 1, 2))
    assert one.publishing.rows == same.publishing.rows
    assert one.connections.rows == same.connections.rows
    assert one.publishing.rows != other.publishing.rows


def test_everything_occurs(week: SimulatedWorld) -> None:
    """A week has every platform, action, status and kind of connection event."""
    publishing, connections = week.publishing.rows, week.connections.rows
    assert len({row["platform"] for row in publishing}) == 13
    actions = {"publish", "retry", "media_upload", "rate_limit_pause", "token_refresh", "cancelled"}
    assert {row["action"] for row in publishing} == actions
    assert {row["status"] for row in publishing} >= {"success", "failed", "skipped"}
    events = {"connect_success", "connect_failed", "disconnect", "reconnect_success", "reconnect_failed"}
    assert {row["eventType"] for row in connections} == events
    assert {row["connectionMethod"] for row in connections} == {"oauth", "credentials"}


@pytest.mark.exhaustive
def test_ordinary_days_meet_the_objective() -> None:
    """Without incidents some attempts fail, but too few for an alert."""
    world = simulate_world(1, NOON, history=2 * DAY, logs_per_day=15_000)
    finished = [
        row["status"]
        for row in world.publishing.rows
        if row["action"] in {"publish", "retry"} and row["status"] in {"success", "failed"}
    ]
    assert 0.003 < finished.count("failed") / len(finished) < 1 - SUCCESS_OBJECTIVE


def test_every_row_fits_the_models(week: SimulatedWorld) -> None:
    """A row of each kind of attempt in a week fits the models of the vendor's client of generation ``late``."""
    kinds = {(row["platform"], row["action"], row["status"]): row for row in week.publishing.rows}
    logs = [PostLog.model_validate(row) for row in kinds.values()]
    assert all(log.createdAt and log.platform and log.action and log.status for log in logs)
    events = [ConnectionLog.model_validate(row) for row in week.connections.rows]
    assert all(event.createdAt and event.platform and event.eventType for event in events)
