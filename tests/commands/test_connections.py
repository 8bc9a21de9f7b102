from __future__ import annotations

import pytest

from late_exporter.api.generation import ApiGeneration
from late_exporter.commands.connections import recorded_feed, require_retained
from late_exporter.errors import ApiUnavailable, ConfigError
from late_exporter.feeds import GENERATIONS
from late_exporter.store.records import Coverage
from tests.support.clock import DAY, VirtualClock
from tests.support.late_api import FakeLateApi
from tests.support.loggers import NullLogger
from tests.support.steps import drive
from tests.support.world import World


def test_the_feed_must_be_of_the_generation_of_the_state() -> None:
    """The error says how to go on."""
    api = FakeLateApi(World(VirtualClock()))
    api.set_generation("zernio")
    coverage = Coverage(retention_floor=0, complete_since=0, generation="late")
    with pytest.raises(ApiUnavailable, match="zernio, but the state was counted from late; start the exporter once"):
        drive(recorded_feed("publishing", api, ApiGeneration("auto", logger=NullLogger()), coverage))


@pytest.mark.parametrize(("generation", "days"), [("late", 7), ("zernio", 90)])
def test_since_must_be_within_the_retention(generation: str, days: int) -> None:
    """The limit depends on the generation."""
    feed = GENERATIONS[generation]["publishing"]
    require_retained(None, feed)
    require_retained(days * DAY, feed)
    with pytest.raises(ConfigError, match=f"--since: must be at most {days}d, because generation {generation} of"):
        require_retained(days * DAY + 1, feed)
