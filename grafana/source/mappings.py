"""Texts shown instead of values, with their colors."""

from __future__ import annotations

from dataclasses import dataclass

from grafana.source.palette import BAD, GOOD, MUTED, NOTICE, WARNING
from grafana.source.queries import (
    COOLING_DOWN,
    DISCONNECTED,
    NO_POSTING,
    PLATFORM_FAILS,
    SOME_ATTEMPTS_FAIL,
    TO_RECONNECT,
)
from grafana.source.thresholds import SLOW_BURN, success_ratio_at
from late_exporter.thresholds import SUCCESS_OBJECTIVE


@dataclass(frozen=True)
class ValueMapping:
    """Text shown instead of a value or of a label, or of the range from ``value`` to ``end``."""

    value: float | str
    text: str
    color: str
    end: float | None = None


SEVERITY_MAPPINGS = (
    ValueMapping("critical", "critical", BAD),
    ValueMapping("warning", "warning", WARNING),
)
RELOAD_MAPPINGS = (ValueMapping(0, "Failed", BAD), ValueMapping(1, "Loaded", GOOD))
UP_MAPPINGS = (ValueMapping(0, "Down", BAD), ValueMapping(1, "Up", GOOD))
PLAN_MAPPINGS = (ValueMapping(0, "Suspended", BAD), ValueMapping(1, "Active", GOOD))
YES_MAPPINGS = (ValueMapping(0, "No", WARNING), ValueMapping(1, "Yes", GOOD))
RECONNECT_MAPPINGS = (ValueMapping(0, "No", MUTED), ValueMapping(1, "Needed", WARNING))
HEALTH_MAPPINGS = (
    ValueMapping(0, "Healthy", GOOD),
    ValueMapping(1, "Warning", NOTICE),
    ValueMapping(2, "Error", WARNING),
)
WEBHOOK_MAPPINGS = (ValueMapping(0, "Switched off", WARNING), ValueMapping(1, "Active", GOOD))
STATUS_FEED_MAPPINGS = (
    ValueMapping(0, "Failed", BAD),
    ValueMapping(1, "Up", GOOD),
    ValueMapping(2, "Off: forbidden", NOTICE),
    ValueMapping(3, "Off: not found", MUTED),
)
"""States of a status feed; a feed that the API refuses or lacks is switched off."""

ACCOUNT_STATE_MAPPINGS = (
    ValueMapping(TO_RECONNECT, "To reconnect", WARNING),
    ValueMapping(DISCONNECTED, "Disconnected", WARNING),
    ValueMapping(NO_POSTING, "Cannot post", WARNING),
    ValueMapping(COOLING_DOWN, "Cooling down", NOTICE),
)
"""Texts for the query ``account_states``."""

CONNECTED_MAPPINGS = (ValueMapping(0, "Disconnected", WARNING), ValueMapping(1, "Connected", GOOD))
SUCCESS_MAPPINGS = (
    # The first range wins at a shared boundary.
    ValueMapping(SUCCESS_OBJECTIVE, "Good", GOOD, 1.0),
    ValueMapping(success_ratio_at(SLOW_BURN), "Below objective", NOTICE, SUCCESS_OBJECTIVE),
    ValueMapping(0, "Burning fast", WARNING, success_ratio_at(SLOW_BURN)),
    ValueMapping(SOME_ATTEMPTS_FAIL, "Some failed", NOTICE),
    ValueMapping(PLATFORM_FAILS, "Failing", BAD),
)
"""Texts for the query ``platform_states``, in the words of the alerts."""
