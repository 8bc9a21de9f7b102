"""The time of the API, by the dates of its responses."""

from __future__ import annotations

import pytest

from late_exporter.api.clock import ApiClock
from tests.support.clock import DAY, HOUR, MINUTE, VirtualClock


@pytest.fixture
def local() -> VirtualClock:
    """Return the local clock."""
    return VirtualClock(1_000_000_000.0, elapsed=500.0)


@pytest.fixture
def api_clock(local: VirtualClock) -> ApiClock:
    """Return a clock before the first response."""
    return ApiClock(local.time, local.monotonic)


def test_it_is_the_local_time_without_a_date(api_clock: ApiClock, local: VirtualClock) -> None:
    """Until a response has a date the local clock counts, wherever it jumps."""
    assert api_clock.update(None)
    local.now += 30 * DAY
    assert local.now == api_clock.now()


@pytest.mark.parametrize("offset", [-DAY, -HOUR, 0.0, 90.0, DAY])
def test_a_date_within_a_day_is_accepted(offset: float, api_clock: ApiClock, local: VirtualClock) -> None:
    """The date sets the time at once; until the next response it goes on as the monotonic clock does."""
    assert api_clock.update(local.now + offset)
    assert local.now + offset == api_clock.now()
    local.advance(MINUTE)
    assert local.now + offset == api_clock.now()
    local.advance(MINUTE)
    assert api_clock.update(local.now)
    assert local.now == api_clock.now()


@pytest.mark.parametrize("error", [-400 * DAY, 400 * DAY])
def test_two_dates_that_agree_are_accepted(error: float, api_clock: ApiClock, local: VirtualClock) -> None:
    """Two responses in a row with the same difference are believed, by the time between them."""
    assert not api_clock.update(local.now + error)
    local.advance(3 * DAY)
    assert api_clock.update(None)
    assert api_clock.update(local.now + error)
    assert local.now + error == api_clock.now()
    local.advance(30.0)
    assert api_clock.update(local.now + error)


def test_two_dates_that_differ_are_both_doubtful(api_clock: ApiClock, local: VirtualClock) -> None:
    """Wrong dates that do not agree with each other change nothing."""
    assert api_clock.update(local.now)
    for error in (400 * DAY, 300 * DAY, -5 * DAY):
        assert not api_clock.update(local.now + error)
        assert local.now == api_clock.now()


def test_a_wrong_date_that_agrees_with_a_wrong_local_clock(api_clock: ApiClock, local: VirtualClock) -> None:
    """Once a date has contradicted the local clock, only another date can confirm one."""
    true_time = local.now - 400 * DAY
    assert not api_clock.update(true_time)
    assert not api_clock.update(local.now)
    assert api_clock.update(true_time)
    assert true_time == api_clock.now()
    assert not api_clock.update(local.now)
    assert api_clock.update(true_time)
