"""The colours of a value: it changes them at the numbers at which the alerts begin."""

from __future__ import annotations

from typing import TypeAlias

from deploy.prometheus.thresholds import (
    AUDIT_AGE_SECONDS,
    CONSECUTIVE_FAILURES,
    DATA_AGE_CRITICAL_SECONDS,
    DATA_AGE_WARNING_SECONDS,
    DAY,
    FAST_BURN,
    QUOTA_LEFT_WARNING,
    SLOW_BURN,
    SUCCESS_OBJECTIVE,
    TOKEN_LEFT_CRITICAL_SECONDS,
    TOKEN_LEFT_WARNING_SECONDS,
)
from grafana.source.palette import BAD, GOOD, NEUTRAL, NOTICE, WARNING

__all__ = [
    "AT_ALL",
    "AUDIT_AGE",
    "AUDIT_AGE_SECONDS",
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
AUDIT_AGE: Steps = ((None, GOOD), (AUDIT_AGE_SECONDS, WARNING))
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
