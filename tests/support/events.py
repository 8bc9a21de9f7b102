"""What can happen in a world of random logs."""

from __future__ import annotations

from hypothesis import strategies as st

from late_exporter.simulator.log_list import LogRow

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
