"""Tests of the calls of the customer's own software, which share the quota of a key."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from late_exporter.simulator import LogList, SimulatedApi, StaticLogs
from tests.support.clock import VirtualClock

START = 1_795_521_600.0
KEY, OTHER_KEY = "sk_" + "0" * 64, "zrk_" + "f" * 64


@pytest.fixture
def clock() -> VirtualClock:
    """Return a clock that stands until it is advanced."""
    return VirtualClock(START)


def build_api(clock: VirtualClock, rate: int, limit: int, requests: LogList | None = None) -> SimulatedApi:
    """Return an API without logs, with calls of a customer."""
    activity = {} if requests is None else {"api_request": requests}
    logs = StaticLogs(activity=activity)
    return SimulatedApi(logs, clock=clock.time, rate_limit=limit, customer_rate=rate, generation="zernio")


def get(api: SimulatedApi, key: str = KEY) -> tuple[int, int]:
    """Send a request and return its status and the remaining quota."""
    response = api.handle("GET", "/v1/logs", "", {"Authorization": f"Bearer {key}"})
    return response.status, int(response.headers["X-RateLimit-Remaining"])


def test_calls_take_slots(clock: VirtualClock) -> None:
    """The customer's calls are evenly spaced and take slots for 60 seconds each."""
    api = build_api(clock, rate=4, limit=10)
    remaining = []
    for _ in range(6):
        remaining.append(get(api)[1])
        clock.advance(15)
    # Calls at 0, 15, 30, ... seconds and a request at the same times; after a minute slots are freed as fast as taken.
    assert [8, 6, 4, 2, 2, 2] == remaining
    assert (7, 0) == (api.customer_calls, api.customer_refusals)


def test_refused_calls(clock: VirtualClock) -> None:
    """A client that takes all slots makes the customer's calls fail; they take no slot and are counted."""
    api = build_api(clock, rate=60, limit=30)
    clock.advance(10.5)
    statuses = [get(api)[0] for _ in range(25)]
    assert [200] * 19 + [429] * 6 == statuses, "eleven calls came before"
    clock.advance(40)
    assert (51, 40) == (api.customer_calls, api.customer_refusals)
    clock.advance(19)
    assert 429 == get(api)[0], "the slots that freed since were taken by the customer"
    assert (70, 49) == (api.customer_calls, api.customer_refusals)


@pytest.mark.parametrize("step", [0.1, 7.0, 90.0])
def test_calls_do_not_depend_on_the_requests(clock: VirtualClock, step: float) -> None:
    """The number of calls and refusals within four minutes is the same however often the client asks."""
    api = build_api(clock, rate=90, limit=60)
    assert api.customer_calls == 0
    get(api)
    while clock.now + step < START + 240:
        clock.advance(step)
        api.handle("GET", "/_simulator", "", {})
    clock.now = START + 239.9
    assert (360, 121) == (api.customer_calls, api.customer_refusals), "60 of 90 calls a minute, and one slot was taken"


def test_calls_with_a_key_that_comes_later(clock: VirtualClock) -> None:
    """A key that is first used after an hour has the customer's calls of the last minute."""
    api = build_api(clock, rate=20, limit=60)
    assert (200, 58) == get(api)
    clock.advance(3601)
    assert (200, 60 - 20 - 1) == get(api, OTHER_KEY)
    assert (200, 60 - 20 - 1) == get(api)


def test_calls_are_logged_and_shown(clock: VirtualClock) -> None:
    """The calls are in the list of API requests, and their numbers at /_simulator."""
    requests = LogList()
    api = build_api(clock, rate=2, limit=2, requests=requests)
    get(api)
    clock.advance(30)
    overview: Any = msgspec.json.decode(api.handle("GET", "/_simulator", "", {}).body)
    assert {"rate": 2, "calls": 2, "refused": 1} == overview["customer"]
    assert [
        ("newsroom-cms/4.2", "/v1/posts", "failed", 429, "Rate limit exceeded. Please try again later."),
        ("", "/v1/logs", "success", 200, None),
        ("newsroom-cms/4.2", "/v1/posts", "success", 200, None),
    ] == [
        (row["user_agent"], row["path"], row["status"], row["status_code"], row["error_message"])
        for row in requests.rows
    ]
    assert 1 == len({row["api_key_id"] for row in requests.rows})
