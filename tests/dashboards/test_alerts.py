"""When an alert fires is what Prometheus would have made of its rule."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.dashboards.alerts import Activity, activities


@pytest.mark.parametrize(
    ("moments", "hold", "keep", "active"),
    [
        ([0, 60, 120], 60, 0, [Activity(0, 120)]),
        ([0, 60, 180, 240], 60, 0, [Activity(0, 60), Activity(180, 240)]),
        ([0, 60, 180, 240], 60, 120, [Activity(0, 360)]),
        ([0, 180, 240], 60, 120, [Activity(0, 0), Activity(180, 360)]),
        ([0], 0, 0, [Activity(0, 0)]),
    ],
    ids=["lasting", "interrupted", "kept", "never fired and so not kept", "once"],
)
def test_activities(moments: Sequence[int], hold: int, keep: int, active: Sequence[Activity]) -> None:
    """An interruption ends what is pending; what fires is kept firing as long as the rule says."""
    assert active == [*activities(moments, hold, keep)]
