"""Actions that change the lists of an API."""

from __future__ import annotations

from typing import TypeAlias

from hypothesis import strategies as st

from late_exporter.simulator.log_list import LogRow
from tests.support.clock import MINUTE
from tests.support.world import World

Action: TypeAlias = tuple[str, int, int]
"""Name of an action and two numbers, whose meaning depends on it."""

KINDS: tuple[LogRow, ...] = (
    {},
    {"platform": "tiktok", "status": "failed", "statusCode": 500},
    {"platform": "tiktok", "action": "retry", "attemptNumber": 2, "accountId": "acc2"},
    {"status": "pending", "durationMs": None, "statusCode": None},
    {
        "action": "retry",
        "attemptNumber": 3,
        "status": "failed",
        "statusCode": 429,
        "response": {"errorCode": "RATE_LIMITED"},
    },
    {"platform": "twitter", "action": "rate_limit_pause", "status": "pending", "attemptNumber": None},
    {"platform": "youtube", "action": "media_upload", "durationMs": 650_000, "attemptNumber": None},
    {"platform": "tiktok", "status": "skipped", "durationMs": 0, "accountId": None},
    {"action": "retry", "status": "failed", "statusCode": None, "response": {"errorCode": None}, "attemptNumber": 11},
    {"action": "retry", "platform": "twitter", "status": "pending", "accountId": "acc3"},
)
"""What is special about a log."""

FINALS: tuple[LogRow, ...] = (
    {"status": "success", "statusCode": 200, "durationMs": 400},
    {"status": "failed", "statusCode": 400, "durationMs": None},
    {"status": "skipped"},
)
"""What becomes of a pending log."""

COUNTS = st.sampled_from((1, 2, 3, 8, 9, 10, 11, 18, 25, 35, 47, 99, 101))
NUMBERS = st.integers(0, 60)

MOVES = st.one_of(
    st.tuples(st.just("publish"), st.integers(1, 30), NUMBERS),
    st.tuples(st.just("delete"), NUMBERS, st.integers(1, 30)),
)
"""What moves a list under the reader."""

CONNECTIONS: tuple[tuple[str, LogRow], ...] = (
    ("connect_success", {}),
    ("connect_failed", {"error": {"code": "oauth_denied"}, "accountId": None}),
    ("disconnect", {"platform": "tiktok", "durationMs": None}),
)
"""Event of a connection log, and what is special about it."""

ALIKE_KINDS = KINDS[:3]
"""The kinds of alike logs, which differ by what identifies a log without an id. Which of them was counted cannot be
known, so none is pending."""

ACTIONS = st.one_of(
    st.tuples(st.sampled_from(("publish", "publish", "publish", "moment")), COUNTS, NUMBERS),
    st.tuples(st.just("late"), st.integers(0, 50) | st.just(180), NUMBERS),
    st.tuples(st.just("delete"), NUMBERS, COUNTS),
    st.tuples(st.just("settle"), NUMBERS, NUMBERS),
    st.tuples(st.just("connect"), st.integers(1, 12), NUMBERS),
    st.tuples(st.just("alike"), st.integers(2, 8), NUMBERS),
)
"""What can happen in a world."""


def act(world: World, action: Action) -> None:
    """Change the lists of a world.

    A log that arrives ``late`` is some minutes old; ``delete`` deletes a range below a depth; ``settle`` gives some
    pending logs a final status; logs that are ``alike`` differ in nothing but their ids.
    """
    name, first, second = action
    kind = KINDS[second % len(KINDS)]
    match name:
        case "publish":
            world.publish(first, kinds=KINDS[second % len(KINDS) :])
        case "moment":
            world.publish(first, over=0, **kind)
        case "alike":
            world.publish(first, over=0, requestId=None, **ALIKE_KINDS[second % len(ALIKE_KINDS)])
        case "late":
            created = world.clock.now - MINUTE * first
            world.insert(created, precise=second % 2 == 0, **kind)
        case "delete":
            world.delete(*world.ids[first : first + second])
        case "settle":
            pending = [row["_id"] for row in world.rows if row["status"] == "pending"]
            for log_id in pending[first : first + 1 + second // 6]:
                world.change(log_id, **FINALS[second % len(FINALS)])
        case "connect":
            _connect(world, first, second)


def _connect(world: World, count: int, first: int) -> None:
    for number in range(first, first + count):
        event, fields = CONNECTIONS[number % len(CONNECTIONS)]
        world.add_connection(event, **fields)
