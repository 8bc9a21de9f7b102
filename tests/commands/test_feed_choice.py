from __future__ import annotations

import pytest

from late_exporter.api.generation import ApiGeneration
from late_exporter.commands.feed_choice import current_feed, recorded_feed, require_retained
from late_exporter.errors import ApiUnavailable, ConfigError
from late_exporter.feeds import GENERATIONS
from late_exporter.model import Coverage
from tests.support.worlds import DAY, FakeLateApi, NullLogger, VirtualClock, World, drive


def late(generation: str) -> FakeLateApi:
    """An API of a generation."""
    late = FakeLateApi(World(VirtualClock()))
    late.set_generation(generation)
    return late


def coverage(generation: str) -> Coverage:
    """What a state was counted from."""
    return Coverage(retention_floor=0, complete_since=0, generation=generation)


@pytest.mark.parametrize(
    ("asked", "there", "expected"),
    [("auto", "late", "late"), ("auto", "zernio", "zernio"), ("auto", "both", "late"), ("zernio", "both", "zernio")],
)
def test_what_the_api_speaks(asked: str, there: str, expected: str) -> None:
    """It is asked which generation it is, unless the user says it."""
    api = late(there)
    feed = drive(current_feed("connections", ApiGeneration(asked, logger=NullLogger()), api))

    assert GENERATIONS[expected]["connections"] is feed
    assert (asked == "auto") == bool(api.requests)


def test_a_feed_that_is_not_there() -> None:
    """Where the generation has no such feed, it is told which ones it has."""
    with pytest.raises(ConfigError, match="--feed: generation late of the API has no webhooks logs, but publishing, "):
        drive(current_feed("webhooks", ApiGeneration("auto", logger=NullLogger()), late("late")))
    assert (
        "webhooks" == drive(current_feed("webhooks", ApiGeneration("auto", logger=NullLogger()), late("zernio"))).name
    )


@pytest.mark.parametrize(
    ("state", "asked", "there", "words"),
    [
        ("late", "auto", "late", ""),
        ("late", "auto", "both", ""),
        ("zernio", "auto", "both", ""),
        ("late", "auto", "zernio", "the API speaks generation zernio and the state was counted from late; start the"),
        ("late", "zernio", "both", "the API speaks generation zernio and the state was counted from late; start the"),
        ("zernio", "late", "both", "the state was counted from generation zernio, whose logs have no ids: use"),
    ],
)
def test_what_the_state_was_counted_from(state: str, asked: str, there: str, words: str) -> None:
    """Its generation is that of the feed, or it is told what to do."""
    api, dialect = late(there), ApiGeneration(asked, logger=NullLogger())
    if words:
        with pytest.raises(ApiUnavailable, match=words):
            drive(recorded_feed("publishing", coverage(state), dialect, api))
    else:
        assert state == drive(recorded_feed("publishing", coverage(state), dialect, api)).generation


def test_a_state_of_nothing() -> None:
    """Where nothing was counted yet, it would be from what the API speaks."""
    assert (
        "zernio"
        == drive(
            recorded_feed("publishing", None, ApiGeneration("auto", logger=NullLogger()), late("zernio"))
        ).generation
    )


@pytest.mark.parametrize(("generation", "days"), [("late", 7), ("zernio", 90)])
def test_how_far_back(generation: str, days: int) -> None:
    """Nobody looks further back than logs are kept."""
    feed = GENERATIONS[generation]["publishing"]
    require_retained(None, feed)
    require_retained(days * DAY, feed)
    with pytest.raises(ConfigError, match=f"--since: must be at most {days}d, as long as generation {generation} of"):
        require_retained(days * DAY + 1, feed)
