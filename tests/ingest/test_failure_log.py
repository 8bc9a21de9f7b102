"""Failed logs have lines in the log: once, after their commit, and not too many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from late_exporter.ingest.failure_log import MAX_LINES
from tests.support.clock import VirtualClock
from tests.support.inside import InsideHarness
from tests.support.late_api import FakeLateApi
from tests.support.world import World

FAILED_LOG: dict[str, Any] = {"status": "failed", "response": {"errorCode": "MEDIA", "errorMessage": "too large"}}


def failures(exporter: InsideHarness, message: str = "publishing failed") -> list[Mapping[str, Any]]:
    """Return the fields of the lines about failed logs."""
    return [fields for level, event, fields in exporter.log.records if (level, event) == ("info", message)]


def test_history_has_no_lines(world: World) -> None:
    """What the first sync reads has none; what fails afterwards, or once it is final, has one with its message."""
    world.publish(250, over=3600, **FAILED_LOG)
    exporter = InsideHarness(FakeLateApi(world), log_failures=True)
    exporter.poll()
    assert failures(exporter) == []
    world.publish(over=5, **FAILED_LOG)
    (pending,) = world.publish(over=5, status="pending")
    exporter.poll_repeatedly(3)
    assert [(each["error"], each["error_code"]) for each in failures(exporter)] == [("too large", "MEDIA")]
    world.change(pending, "failed")
    exporter.poll_repeatedly(3)
    exporter.close()
    assert len(failures(exporter)) == 2


def test_many_failures_have_few_lines(world: World) -> None:
    """One more line says how many have none; the next poll has lines again."""
    exporter = InsideHarness(FakeLateApi(world), log_failures=True)
    exporter.poll()
    world.publish(MAX_LINES + 7, over=20, **FAILED_LOG)
    exporter.poll_repeatedly(2)
    assert len(failures(exporter)) == MAX_LINES
    assert failures(exporter, "further failed logs are not listed") == [{"logs": 7}]
    world.publish(over=5, **FAILED_LOG)
    exporter.poll_repeatedly(2)
    exporter.close()
    assert len(failures(exporter)) == MAX_LINES + 1


def test_no_lines_unless_wanted(world: World) -> None:
    """A feed that is not named by the option has none."""
    exporter = InsideHarness(FakeLateApi(world))
    exporter.poll()
    world.publish(over=5, **FAILED_LOG)
    exporter.poll_repeatedly(2)
    exporter.close()
    assert failures(exporter) == []


@pytest.mark.parametrize("generation", ["late", "zernio"])
def test_a_kill_at_every_step_repeats_no_line(generation: str, tmp_path: Path) -> None:
    """A log has at most one line, wherever the process is killed; and one unless it was killed at the commit."""
    for steps in range(0, 200, 7):
        world = World(VirtualClock(), distinct_times=True)
        api = FakeLateApi(world, generation=generation)
        exporter = InsideHarness(api, tmp_path / f"{steps}.db", generation=generation, log_failures=True)
        world.publish(3, over=60)
        exporter.poll()
        world.clock.advance(30)
        world.publish(130, over=25, kinds=({}, FAILED_LOG))
        was_killed = exporter.kill(steps)
        exporter.poll_repeatedly(4)
        lines = Counter(fields["created"] for fields in failures(exporter))
        assert {1} >= set(lines.values()), steps
        assert exporter.scrape().sum("late_publishing_failures_total") == 65, steps
        assert was_killed or len(lines) == 65
        exporter.close()
        if not was_killed:
            break
    else:
        pytest.fail("the poll takes more steps than were tried")
