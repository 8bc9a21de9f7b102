"""Log events are queued exactly once, with the counters."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from late_exporter.ingest.event_selection import EventSelection
from tests.support.clock import VirtualClock
from tests.support.inside import InsideHarness
from tests.support.late_api import FakeLateApi
from tests.support.world import World

FAILED_LOG: dict[str, Any] = {"status": "failed", "response": {"errorCode": "MEDIA", "errorMessage": "too large"}}


class EventExporter(InsideHarness):
    """An exporter with events about failures."""

    events = EventSelection()


class AllExporter(InsideHarness):
    """An exporter with events about all logs."""

    events = EventSelection(all_statuses=True)


OpenEvents: TypeAlias = Callable[..., InsideHarness]


@pytest.fixture
def open_events() -> Iterator[OpenEvents]:
    """Return a function that opens an exporter with events; all are closed after the test."""
    with ExitStack() as stack:
        yield lambda world, kind=EventExporter, **options: stack.enter_context(
            closing(kind(FakeLateApi(world), **options))
        )


def queued_ids(exporter: InsideHarness) -> Counter[str]:
    """Return how often each event is queued, by key and status."""
    events = [json.loads(each.body) for each in exporter.store.outbox.read(10_000)]
    return Counter(event["id"].partition("/publishing/")[2] for event in events)


def failed(*log_ids: str) -> Counter[str]:
    """Return one event per failed log."""
    return Counter(f"{log_id}/failed" for log_id in log_ids)


def test_history_has_no_events(world: World, open_events: OpenEvents) -> None:
    """What the first sync reads is not queued; what fails afterwards is, with its message."""
    world.publish(250, over=3600, **FAILED_LOG)
    exporter = open_events(world)
    exporter.poll()
    assert not queued_ids(exporter)
    (log_id,) = world.publish(over=5, **FAILED_LOG)
    world.publish(over=5)
    exporter.poll_repeatedly(3)
    assert failed(log_id) == queued_ids(exporter)
    assert "too large" == json.loads(exporter.store.outbox.read(1)[0].body)["error"]


def test_all_observations(world: World, open_events: OpenEvents) -> None:
    """With all statuses a log has an event for each status that it was seen in."""
    exporter = open_events(world, AllExporter)
    exporter.poll()
    (log_id,) = world.publish(status="pending")
    exporter.poll_repeatedly(1)
    world.change(log_id, "success")
    exporter.poll_repeatedly(2)
    assert Counter((f"{log_id}/pending", f"{log_id}/success")) == queued_ids(exporter)


@pytest.mark.parametrize("generation", ["late", "zernio"])
def test_a_kill_at_every_step_neither_loses_nor_doubles_an_event(generation: str, tmp_path: Path) -> None:
    """The event of a log is queued if and only if it is counted, wherever the process is killed."""
    for steps in range(0, 200, 7):
        world = World(VirtualClock(), distinct_times=True)
        api = FakeLateApi(world, generation=generation)
        exporter = EventExporter(api, tmp_path / f"{steps}.db", generation=generation)
        world.publish(3, over=60)
        exporter.poll()
        world.clock.advance(30)
        world.publish(130, over=25, kinds=({}, FAILED_LOG))
        was_killed = exporter.kill(steps)
        exporter.poll_repeatedly(4)
        events = queued_ids(exporter)
        assert (65, {1}) == (len(events), set(events.values())), steps
        exporter.close()
        if not was_killed:
            break
    else:
        pytest.fail("the poll takes more steps than were tried")
