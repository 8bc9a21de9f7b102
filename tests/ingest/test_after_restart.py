"""What is shown after a start: nothing of a feed before a poll has read everything that the API has."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from late_exporter.errors import ApiUnavailable
from late_exporter.simulator.log_list import LogRow
from tests.support.client import ClientRequest
from tests.support.clock import DAY, HOUR, MINUTE
from tests.support.exporter import NEVER, ExporterHarness
from tests.support.late_api import FakeLateApi, unavailable
from tests.support.samples import Samples
from tests.support.store import execute
from tests.support.world import World

LOGS = "late_publishing_logs_total"
DOWN = ApiUnavailable("503: Service Unavailable", status=503)
UP = "late_up", (("feed", "publishing"), ("workspace", "default"))
KINDS: tuple[LogRow, ...] = (
    {},
    {"status": "failed", "statusCode": 500},
    {"action": "retry", "platform": "tiktok"},
    {"platform": "bluesky"},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture(params=["late", "zernio"])
def exporter(request: pytest.FixtureRequest, world: World, path: Path) -> Iterator[ExporterHarness]:
    """Return an exporter that has counted 300 logs of a day."""
    api = FakeLateApi(world, generation=request.param)
    with closing(ExporterHarness(api, path, generation=request.param, reconcile_interval=NEVER)) as exporter:
        world.publish(300, over=DAY, kinds=KINDS)
        exporter.poll()
        yield exporter


def fallen(before: Samples, after: Samples) -> Samples:
    """Return the counters of logs that are lower than before, or missing."""
    return Samples(
        {
            series: value
            for series, value in before.counters.items()
            if series[0].startswith(("late_publishing", "late_account"))
            and ("status", "pending") not in series[1]
            and after.get(series, -1) < value
        }
    )


def test_nothing_is_shown_before_the_first_poll(world: World, exporter: ExporterHarness) -> None:
    """Only what is about the exporter itself is, also if the API is dead; then everything is, with what is new."""
    before = exporter.scrape()
    exporter.restart(HOUR)
    world.publish(10, over=MINUTE)
    exporter.api.fail_request(0, unavailable)
    assert exporter.poll().outcome == "unavailable"
    dead = exporter.scrape()
    assert [name for name, _ in dead if name.startswith(("late_publishing", "late_account"))] == []
    assert dead[UP] == 0
    assert dead.sum("late_exporter_polls_total", outcome="success") == 1
    exporter.poll()
    shown = exporter.scrape()
    assert not fallen(before, shown)
    assert shown.sum(LOGS) == 310
    assert shown[UP] == 1


def test_a_restored_backup_shows_no_lower_counter(world: World, path: Path, exporter: ExporterHarness) -> None:
    """The logs since the backup are counted again before anything is shown, settled and late ones as well."""
    pending = world.publish(1, status="pending")
    exporter.poll()
    exporter.close()
    shutil.copy(path, path.with_name("backup.db"))
    exporter.restart()
    world.clock.advance(HOUR)
    world.publish(110, over=HOUR, kinds=KINDS)
    world.change(pending[0], "success")
    world.insert(world.clock.now - HOUR - 10 * MINUTE)
    exporter.poll_repeatedly(4)
    before = exporter.scrape()
    assert before.sum(LOGS) == 300 + 110 + 3
    exporter.close()
    shutil.copy(path.with_name("backup.db"), path)
    exporter.restart()
    assert not exporter.scrape().family(LOGS)
    exporter.poll()
    after = exporter.scrape()
    assert not fallen(before, after)
    assert after.sum(LOGS) == before.sum(LOGS)


def is_look_up(request: ClientRequest) -> bool:
    """Return whether a request looks a pending log up, by its post or by its time."""
    return "from" in request.params or "skip" not in request.params


def is_window(request: ClientRequest) -> bool:
    """Return whether a request is for logs below the newest ones."""
    return request.status is None and not is_look_up(request) and ("to" in request.params or request.skip > 0)


def restore_backup(exporter: ExporterHarness, path: Path, pending_count: int) -> Samples:
    """Restore a backup that lacks new and late logs, and outcomes of pending ones; return what was shown before."""
    world = exporter.api.world
    exporter.api.rate_limit = 60
    pending = world.publish(pending_count, over=MINUTE, status="pending")
    world.clock.advance(3 * HOUR)
    world.publish(300, over=2 * HOUR)
    exporter.poll_repeatedly(1)
    exporter.close()
    shutil.copy(path, path.with_name("backup.db"))
    exporter.restart(HOUR)
    world.publish(20, over=HOUR, kinds=KINDS)
    for log_id in pending:
        world.change(log_id, "success")
    world.insert(world.clock.now - HOUR - 10 * MINUTE)
    exporter.poll_repeatedly(20)
    shown = exporter.scrape()
    exporter.close()
    shutil.copy(path.with_name("backup.db"), path)
    exporter.restart()
    return shown


@pytest.mark.parametrize("is_failing", [is_look_up, is_window])
def test_nothing_is_shown_before_every_request_has_succeeded(
    is_failing: Callable[[ClientRequest], bool], path: Path, exporter: ExporterHarness
) -> None:
    """A request for late or pending logs that fails delays the exposition until it succeeds."""
    before = restore_backup(exporter, path, 1)
    exporter.api.refuse = lambda request, _: DOWN if is_failing(request) else None
    assert exporter.poll_repeatedly(1)[0].error is None
    assert exporter.scrape().sum("late_exporter_failed_requests_total") == 1
    assert not exporter.scrape().family(LOGS)
    exporter.api.refuse = lambda *_: None
    exporter.poll_repeatedly(2)
    assert exporter.scrape().sum(LOGS) == before.sum(LOGS)
    assert not fallen(before, exporter.scrape())


@pytest.mark.parametrize(("settled", "waiting"), [(60, 0), (1, 150)])
def test_nothing_is_shown_before_all_pending_logs_are_looked_up(
    settled: int, waiting: int, path: Path, exporter: ExporterHarness
) -> None:
    """A poll looks up a limited number of them, and reads one page of the list of those that still wait."""
    exporter.api.world.publish(waiting, over=MINUTE, status="pending")
    before = restore_backup(exporter, path, settled)
    exporter.poll_repeatedly(1)
    assert not exporter.scrape().family(LOGS)
    exporter.poll_repeatedly(6)
    assert exporter.scrape().sum(LOGS) == before.sum(LOGS)
    assert not fallen(before, exporter.scrape())


def test_series_are_hidden_for_minutes_only(path: Path, exporter: ExporterHarness) -> None:
    """If some logs cannot be read for five minutes, what was read is shown."""
    before = restore_backup(exporter, path, 1)
    exporter.api.refuse = lambda request, _: DOWN if is_look_up(request) else None
    exporter.poll_repeatedly(10)
    assert not exporter.scrape().family(LOGS)
    exporter.poll_repeatedly(1)
    assert exporter.scrape().sum(LOGS) == before.sum(LOGS) - 1


def test_a_single_run_shows_what_it_could_read(path: Path, exporter: ExporterHarness) -> None:
    """No later poll of its process could read the rest."""
    before = restore_backup(exporter, path, 1)
    exporter.api.refuse = lambda request, _: DOWN if is_look_up(request) else None
    assert exporter.run_once().error is None
    assert exporter.scrape().sum(LOGS) == before.sum(LOGS) - 1


def test_a_counter_that_lacks_logs_is_completed_loudly(path: Path, exporter: ExporterHarness) -> None:
    """A version without the counter may have counted meanwhile."""
    before = exporter.scrape()
    exporter.close()
    execute(f"sqlite:///{path}", "UPDATE late_series SET value = '1' WHERE family = 'late_publishing_retries_total'")
    exporter.restart(MINUTE)
    exporter.poll()
    assert not fallen(before, exporter.scrape())
    assert [message for level, message in exporter.log.above_debug if level == "warning"] == [
        "a counter lacked logs, which were added"
    ]
