"""The gauge of pending logs is right whatever the list of pending logs does."""

from __future__ import annotations

import itertools

import pytest

from late_exporter.errors import ApiError, ApiUnavailable, ResponseTooLarge
from tests.ingest.conftest import OpenExporter
from tests.support.client import ClientRequest
from tests.support.clock import DAY, HOUR, MINUTE
from tests.support.exporter import ExporterHarness
from tests.support.late_api import FakeLateApi, ListQuirks, empty_list
from tests.support.world import World

GENERATIONS = ("late", "zernio")


def pending(exporter: ExporterHarness) -> float:
    """Return the exposed number of pending logs."""
    return exporter.scrape().sum("late_publishing_pending_logs")


def listed_pending(world: World) -> int:
    """Return the number of logs that are pending in the API."""
    return sum(row["status"] == "pending" for row in world.rows)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_one_answer_that_lags_behind_gives_up_no_log(generation: str, world: World, start: OpenExporter) -> None:
    """A log that neither the list of pending logs nor its look-up shows once stays in the gauge; twice, it is gone."""
    api = FakeLateApi(world, generation=generation)
    exporter = start(api)
    world.insert(world.clock.now - HOUR, status="pending", postId="p1")
    world.publish(150, over=MINUTE)
    exporter.poll_repeatedly(3)
    for number in (1, 2):
        api.fail_request(number, empty_list)
    exporter.poll()
    assert pending(exporter) == 1
    exporter.poll_repeatedly(3)
    assert pending(exporter) == 1
    world.delete(world.ids[-1])
    exporter.poll_repeatedly(6)
    assert 0 == listed_pending(world) == pending(exporter)


def test_answers_that_lag_behind_hours_apart_give_up_no_log(world: World, start: OpenExporter) -> None:
    """A log without a post, which cannot be looked up, stays in the gauge if the list has shown it in between."""
    api = FakeLateApi(world)
    exporter = start(api)
    world.insert(world.clock.now - HOUR, status="pending", postId=None)
    world.publish(150, over=MINUTE)
    exporter.poll()
    for _ in range(2):
        api.fail_request(1, empty_list)
        exporter.poll_repeatedly(5)
        assert pending(exporter) == 1
    world.delete(world.ids[-1])
    exporter.poll_repeatedly(2)
    assert pending(exporter) == 0


@pytest.mark.parametrize("generation", GENERATIONS)
def test_an_outdated_answer_makes_no_final_log_pending_again(
    generation: str, world: World, start: OpenExporter
) -> None:
    """It counts in the status that the answer shows, but is not in the gauge."""
    exporter = start(FakeLateApi(world, generation=generation))
    (log_id,) = world.publish(1, status="success")
    exporter.poll()
    world.change(log_id, "pending")
    exporter.poll_repeatedly(1)
    world.change(log_id, "success")
    exporter.poll_repeatedly(1)
    assert pending(exporter) == 0
    assert exporter.scrape().sum("late_publishing_logs_total") == 2


def test_a_look_up_whose_time_is_ignored_gives_up_no_log(world: World, start: OpenExporter) -> None:
    """If the API ignores ``from`` and ``to``, what is read from the top does not show that a log was deleted."""
    api = FakeLateApi(world, generation="zernio", quirks=ListQuirks(time_filter="ignored"))
    exporter = start(api)
    world.insert(world.clock.now - HOUR, status="pending")
    world.publish(1500, over=MINUTE)
    exporter.poll()
    exporter.poll_repeatedly(3)
    for _ in range(4):
        api.fail_request(1, empty_list)
        exporter.poll_repeatedly(1)
    assert pending(exporter) == 1


def test_a_look_up_of_the_newest_logs_hides_none_below(world: World, start: OpenExporter) -> None:
    """If the API ignores ``from`` and ``to``, a look-up may count a whole page of new logs before the next poll."""
    api = FakeLateApi(world, generation="zernio", quirks=ListQuirks(time_filter="ignored"))
    exporter = start(api)
    waiting = world.insert(world.clock.now - HOUR, status="pending")
    world.publish(150, over=MINUTE)
    exporter.poll()
    for _ in range(2):
        world.publish(1)
        exporter.poll_repeatedly(1)  # The second one reads the late window.
    world.change(waiting, "success")
    api.before_request(2, lambda: world.publish(250, over=1))
    exporter.poll_repeatedly(2)
    assert set(world.ids) == exporter.counted_ids


def test_a_post_with_more_logs_than_a_page_is_not_requested_at_every_poll(world: World, start: OpenExporter) -> None:
    """If the logs of a post that the API returns lack the pending one, it stays, and is looked up ever more rarely."""
    exporter = start(FakeLateApi(world))
    log_id = world.insert(world.clock.now, status="pending", postId="post")
    world.clock.advance(HOUR)
    world.publish(150, postId="post", status="failed")
    world.publish(300, over=1)
    exporter.poll_repeatedly(3)
    world.change(log_id, "success")
    exporter.poll_repeatedly(40)
    assert pending(exporter) == 1
    assert 1 <= [request.path for request in exporter.requests].count("/v1/posts/post/logs") <= 8


def test_a_look_up_that_counts_another_log_starts_no_other_request(world: World, start: OpenExporter) -> None:
    """The total of the list has changed once, when that log appeared."""
    exporter = start(FakeLateApi(world))
    world.publish(300, over=5 * DAY)
    exporter.poll()
    settled = world.publish(1, status="pending", postId="post-1")
    world.clock.advance(HOUR)
    world.publish(300, over=HOUR)
    exporter.poll_repeatedly(8)
    world.change(settled[0], "failed")
    world.insert(world.clock.now - HOUR, action="retry", postId="post-1")
    requests = [len(exporter.api.requests)]
    for _ in range(14):
        exporter.poll_repeatedly(1)
        requests.append(len(exporter.api.requests))
    assert exporter.scrape().sum("late_publishing_logs_total") == 603
    assert [after - before for before, after in itertools.pairwise(requests)] == [4, *[1] * 13]


def test_a_pending_log_that_the_api_cannot_deliver_is_not_given_up(world: World, start: OpenExporter) -> None:
    """A page that was read without it does not show that it was deleted."""
    api = FakeLateApi(world, generation="zernio")
    exporter = start(api)
    second = world.clock.now - HOUR
    broken = world.insert(second, status="pending", postId="post-0-x")
    for n in range(1, 10):
        world.insert(second + n / 100, status="pending", postId=f"post-{n}-x")
    world.publish(150, over=HOUR / 2)
    exporter.poll()

    def refuse(request: ClientRequest, body: bytes) -> ApiError | None:
        if b"post-0-x" not in body:
            return None
        return ResponseTooLarge("too large") if request.params["limit"] != 1 else ApiUnavailable("500: oops")

    api.refuse = refuse
    exporter.poll_repeatedly(6)
    assert pending(exporter) == 10
    api.refuse = lambda *_: None
    world.change(broken, "success")
    exporter.poll_repeatedly(6)
    assert pending(exporter) == 9
