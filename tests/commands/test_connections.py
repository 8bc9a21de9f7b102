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


@pytest.mark.parametrize(
    ("state", "configured", "available", "message"),
    [
        ("late", "auto", "late", ""),
        ("zernio", "auto", "both", ""),
        ("late", "auto", "zernio", "the API has generation zernio, but the state was counted from late; start the"),
        ("zernio", "late", "both", "the state has logs of API generation zernio, which have no ids: use"),
    ],
)
def test_the_feed_must_be_of_the_generation_of_the_state(
    state: str, configured: str, available: str, message: str
) -> None:
    """The error says how to go on."""
    world = World(VirtualClock())
    world.publish(3)
    api = FakeLateApi(world)
    api.set_generation(available)
    coverage = Coverage(retention_floor=0, complete_since=0, generation=state)
    found = recorded_feed("publishing", api, ApiGeneration(configured, logger=NullLogger()), coverage)
    if message:
        with pytest.raises(ApiUnavailable, match=message):
            drive(found)
    else:
        assert state == drive(found).generation


@pytest.mark.parametrize(("generation", "days"), [("late", 7), ("zernio", 90)])
def test_since_must_be_within_the_retention(generation: str, days: int) -> None:
    """The limit depends on the generation."""
    feed = GENERATIONS[generation]["publishing"]
    require_retained(None, feed)
    require_retained(days * DAY, feed)
    with pytest.raises(ConfigError, match=f"--since: must be at most {days}d, because generation {generation} of"):
        require_retained(days * DAY + 1, feed)
