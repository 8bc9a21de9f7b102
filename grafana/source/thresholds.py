"""The numbers at which a value turns from good to bad, the same on a dashboard and in an alert."""

from __future__ import annotations

from typing import TypeAlias

from grafana.source.palette import BAD, GOOD, NEUTRAL, NOTICE, WARNING

__all__ = [
    "AT_ALL",
    "CONNECTED",
    "CONSECUTIVE_FAILURES",
    "DATA_AGE",
    "DATA_AGE_CRITICAL_SECONDS",
    "DATA_AGE_WARNING_SECONDS",
    "DAY",
    "FAILURES_IN_A_ROW",
    "FAST_BURN",
    "NEVER",
    "PLAIN",
    "QUOTA_LEFT",
    "QUOTA_LEFT_WARNING",
    "SLOW_BURN",
    "SUCCESS",
    "SUCCESS_OBJECTIVE",
    "TOKEN_DAYS_LEFT",
    "TOKEN_LEFT_CRITICAL_SECONDS",
    "TOKEN_LEFT_WARNING_SECONDS",
    "UP",
    "Steps",
    "burning",
]

Steps: TypeAlias = tuple[tuple[float | None, str], ...]
"""Colours and the value from which on each holds; the first holds below all others."""

MINUTE, DAY = 60, 86_400

SUCCESS_OBJECTIVE = 0.99
"""Share of the attempts to publish that shall succeed."""

FAST_BURN = 14.4
"""Times its rate at which the error budget of 30 days is spent in two days: wake somebody."""

SLOW_BURN = 6
"""Times its rate at which it is spent in five days: wake somebody, if it lasts."""

DATA_AGE_WARNING_SECONDS = 5 * MINUTE
DATA_AGE_CRITICAL_SECONDS = 10 * MINUTE
"""Since the last poll of a feed that succeeded."""

QUOTA_LEFT_WARNING = 0.2
"""Share of a key's requests a minute that is left."""

CONSECUTIVE_FAILURES = 5
"""Attempts of an account that failed in a row."""

TOKEN_LEFT_WARNING_SECONDS = 7 * DAY
TOKEN_LEFT_CRITICAL_SECONDS = DAY
"""Until a token expires."""


def burning(rate: float) -> float:
    """The success ratio at which the error budget is spent at so many times its rate."""
    return round(1 - rate * (1 - SUCCESS_OBJECTIVE), 6)


PLAIN: Steps = ((None, NEUTRAL),)
"""A fact that is neither good nor bad."""

UP: Steps = ((None, BAD), (1, GOOD))
CONNECTED: Steps = ((None, WARNING), (1, GOOD))
SUCCESS: Steps = (
    (None, BAD),
    (burning(FAST_BURN), WARNING),
    (burning(SLOW_BURN), NOTICE),
    (SUCCESS_OBJECTIVE, GOOD),
)
DATA_AGE: Steps = ((None, GOOD), (DATA_AGE_WARNING_SECONDS, WARNING), (DATA_AGE_CRITICAL_SECONDS, BAD))
QUOTA_LEFT: Steps = ((None, WARNING), (QUOTA_LEFT_WARNING, GOOD))
FAILURES_IN_A_ROW: Steps = ((None, GOOD), (1, NOTICE), (CONSECUTIVE_FAILURES, WARNING))
TOKEN_DAYS_LEFT: Steps = (
    (None, BAD),
    (TOKEN_LEFT_CRITICAL_SECONDS / DAY, WARNING),
    (TOKEN_LEFT_WARNING_SECONDS / DAY, GOOD),
)
AT_ALL: Steps = ((None, GOOD), (1, WARNING))
"""One is worth a look."""

NEVER: Steps = ((None, GOOD), (1, BAD))
"""One is too many."""
