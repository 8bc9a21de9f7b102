"""Alert samples match what Prometheus would have produced."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.dashboards.rule_samples import ActivePeriod, active_periods


@pytest.mark.parametrize(
    ("timestamps", "for_seconds", "keep_firing_seconds", "expected"),
    [
        ([0, 60, 120], 60, 0, [ActivePeriod(0, 120)]),
        ([0, 60, 180, 240], 60, 0, [ActivePeriod(0, 60), ActivePeriod(180, 240)]),
        ([0, 60, 180, 240], 60, 120, [ActivePeriod(0, 360)]),
        ([0, 180, 240], 60, 120, [ActivePeriod(0, 0), ActivePeriod(180, 360)]),
        ([0], 0, 0, [ActivePeriod(0, 0)]),
    ],
    ids=["lasting", "interrupted", "kept", "never fired, so not kept", "once"],
)
def test_active_periods(
    timestamps: Sequence[int], for_seconds: int, keep_firing_seconds: int, expected: Sequence[ActivePeriod]
) -> None:
    """A gap ends a pending alert, but a firing alert continues for ``keep_firing_for``."""
    assert expected == [*active_periods(timestamps, for_seconds, keep_firing_seconds)]
