"""A switch to a list in which the counted logs are not recognised, by switch policy."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from late_exporter.api.generation import MAX_REFUSALS
from late_exporter.feeds.decoder import parse_millis
from late_exporter.format import iso_time
from late_exporter.ingest.schedule import PollConfig
from late_exporter.simulator.log_list import LogRow
from tests.ingest.test_exactness import MEMORY
from tests.ingest.test_switch import exposed_counts, gauge
from tests.support.clock import DAY, HOUR, VirtualClock
from tests.support.exporter import ExporterHarness
from tests.support.late_api import FakeLateApi, ListQuirks, unavailable
from tests.support.loggers import RecordingLogger
from tests.support.world import World

pytestmark = pytest.mark.exhaustive

Change: TypeAlias = Callable[[LogRow], Mapping[str, Any]]


def retimed(field: str, change: Callable[[int], int]) -> Change:
    """Return a change of the creation times of one list, in milliseconds."""

    def apply(row: LogRow) -> Mapping[str, Any]:
        millis = parse_millis(row.get(field))
        return {} if millis is None else {field: iso_time(change(millis), precise=True)}

    return apply


def renamed(field: str, names: Mapping[str, str]) -> Change:
    """Return a change of some values of a field of generation zernio."""
    return lambda row: {field: names[row[field]]} if "created_at" in row and row.get(field) in names else {}


SECOND = 1000
NO_SHIFT: Change = lambda _: {}  # noqa: E731 - one of the changes
DIFFERENCES: Mapping[str, Change] = {
    "the old list cuts times to seconds": retimed("createdAt", lambda millis: millis // SECOND * SECOND),
    "the old list rounds times to seconds": retimed("createdAt", lambda millis: (millis + 500) // SECOND * SECOND),
    "the new list cuts times to seconds": retimed("created_at", lambda millis: millis // SECOND * SECOND),
    "the new list rounds times to seconds": retimed("created_at", lambda millis: (millis + 500) // SECOND * SECOND),
    "every second time is 1 ms later": retimed("created_at", lambda millis: millis + millis % 2),
    "every second time is 1 ms earlier": retimed("created_at", lambda millis: millis - millis % 2),
    "account ids of another form": renamed("account_id", {"acc1": "65f1c0ffee0000000000acc1"}),
    "twitter is called x": renamed("platform", {"twitter": "x"}),
    "media uploads have another name": renamed("action", {"media.uploaded": "asset.stored"}),
}
"""Differences between the two lists that make counted logs look like others."""

KINDS: tuple[dict[str, Any], ...] = (
    {},
    {"status": "failed", "statusCode": 500},
    {"platform": "twitter"},
    {"action": "media_upload"},
    {"status": "pending", "platform": "twitter"},
)
HISTORY, NEW = 130, 7


class SwitchingExporter(ExporterHarness):
    """An exporter with a switch policy, whose warnings are recorded."""

    def __init__(self, policy: str, api: FakeLateApi, path: Path) -> None:
        self.switch_policy, self.logger = policy, RecordingLogger()
        super().__init__(api, path, config=PollConfig(), generation="auto")


Start: TypeAlias = Callable[..., SwitchingExporter]


@pytest.fixture
def start() -> Iterator[Start]:
    """Return a function that starts an exporter with a switch policy and a database file of its own."""
    folder = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
    started: list[SwitchingExporter] = []

    def start(policy: str, change: Change, **options: Any) -> SwitchingExporter:
        def transform(document: dict[str, Any]) -> dict[str, Any]:
            return {**document, "logs": [{**row, **change(row)} for row in document["logs"]]}

        api = FakeLateApi(World(VirtualClock()), quirks=ListQuirks(transform=transform, **options))
        exporter = SwitchingExporter(policy, api, Path(folder.name, f"{len(started)}.db"))
        started.append(exporter)
        return exporter

    yield start
    for exporter in started:
        exporter.close()
    folder.cleanup()


def count_history(exporter: SwitchingExporter) -> int:
    """Count the logs of three days in generation late; return their number in all statuses."""
    exporter.clock.advance(0.7)  # the newest time is not a whole second
    exporter.api.world.publish(HISTORY, over=3 * DAY, kinds=KINDS)
    exporter.poll()
    exporter.poll_repeatedly(1)
    total = exposed_counts(exporter).total()
    assert HISTORY == total
    return total


def switch(exporter: SwitchingExporter) -> None:
    """Replace the list by that of generation zernio; some logs are written meanwhile."""
    world = exporter.api.world
    exporter.api.generation = "zernio"
    world.clock.advance(60)
    world.publish(NEW, over=50, kinds=KINDS[:4])


def follow(exporter: SwitchingExporter) -> None:
    """Poll until the exporter has switched, then read everything twice, with a restart in between."""
    exporter.poll_repeatedly(MAX_REFUSALS + 1)
    assert "zernio" == exporter.poller.generation
    exporter.settle()
    exporter.restart(downtime=HOUR)
    exporter.settle()


def mismatch_warnings(exporter: SwitchingExporter) -> list[Mapping[str, Any]]:
    """Return the fields of the warnings about a switch without recognition."""
    assert isinstance(exporter.logger, RecordingLogger)
    return [
        fields
        for level, event, fields in exporter.logger.records
        if (level, event) == ("warning", "API generation changed") and "switch" in fields
    ]


@pytest.mark.parametrize("change", DIFFERENCES.values(), ids=DIFFERENCES)
def test_strict_counts_nothing(change: Change, start: Start) -> None:
    """Polls fail, ``late_up`` is 0, and no counter moves; the message names the other policies."""
    exporter = start("strict", change)
    total = count_history(exporter)
    switch(exporter)
    (*_, result) = exporter.poll_repeatedly(MAX_REFUSALS + 3)
    assert "generation_mismatch" == result.outcome
    assert "--api.switch newer-only" in str(result.error)
    assert "--api.switch trust" in str(result.error)
    assert {"publishing": 0.0} == gauge(exporter, "late_up", "feed")
    assert "late" == exporter.poller.generation
    assert total == exposed_counts(exporter).total()


@pytest.mark.parametrize("change", DIFFERENCES.values(), ids=DIFFERENCES)
def test_newer_only_counts_new_logs_once(change: Change, start: Start) -> None:
    """What was written since the last counted log counts once, and nothing older counts again."""
    exporter = start("newer-only", change)
    total = count_history(exporter)
    switch(exporter)
    follow(exporter)
    assert total + NEW == exposed_counts(exporter).total()
    assert {} == exporter.scrape().family("late_publishing_pending_logs")
    audit, mismatches = exporter.run_audit()
    assert ([], []) == (audit.differences, mismatches)
    exporter.api.world.publish(3, over=1)
    exporter.poll_repeatedly(2)
    assert total + NEW + 3 == exposed_counts(exporter).total()


@pytest.mark.parametrize("change", DIFFERENCES.values(), ids=DIFFERENCES)
def test_trust_counts_exactly_the_unrecognised_logs_again(change: Change, start: Start) -> None:
    """A warning says how many logs were recognised; each of the others counts once more, and only once."""
    exporter = start("trust", change)
    total = count_history(exporter)
    switch(exporter)
    follow(exporter)
    (warning,) = mismatch_warnings(exporter)
    assert "trust" == warning["switch"]
    assert HISTORY - 3 <= warning["of"] <= HISTORY
    assert warning["recognised"] < HISTORY * 0.9
    assert total + NEW + HISTORY - warning["recognised"] == exposed_counts(exporter).total()


@pytest.mark.parametrize("policy", ["strict", "newer-only", "trust"])
def test_the_policy_does_not_matter_if_the_logs_are_recognised(policy: str, start: Start) -> None:
    """Then every log counts once, also one that is pending across the switch, and no warning is needed."""
    exporter = start(policy, NO_SHIFT)
    total = count_history(exporter)
    pending_count = sum(exporter.scrape().family("late_publishing_pending_logs").values())
    switch(exporter)
    follow(exporter)
    assert total + NEW == exposed_counts(exporter).total()
    assert pending_count == sum(exporter.scrape().family("late_publishing_pending_logs").values())
    assert [] == mismatch_warnings(exporter)


def test_a_reload_can_choose_the_policy(start: Start) -> None:
    """An exporter that counts nothing goes on as soon as another policy is chosen."""
    exporter = start("strict", DIFFERENCES["account ids of another form"])
    total = count_history(exporter)
    switch(exporter)
    exporter.poll_repeatedly(MAX_REFUSALS + 1)
    exporter.switch_policy = "newer-only"
    exporter.reload()
    exporter.poll_repeatedly(1)
    assert total + NEW == exposed_counts(exporter).total()


@pytest.mark.parametrize("kind", ["the old list cuts times to seconds", "account ids of another form"])
def test_newer_only_survives_a_crash_at_any_step(kind: str, start: Start) -> None:
    """Whichever step of the switch the process dies at, every log is counted once."""
    step, was_killed = 0, True
    while was_killed:
        step += 5
        exporter = start("newer-only", DIFFERENCES[kind], max_page_size=25)
        total = count_history(exporter)
        switch(exporter)
        exporter.poll_repeatedly(MAX_REFUSALS)
        was_killed = exporter.kill(step)
        exporter.poll_repeatedly(MAX_REFUSALS + 1)
        exporter.settle()
        assert total + NEW == exposed_counts(exporter).total()
    assert step > 20


def test_newer_only_gives_up_what_was_not_read_before_the_switch(start: Start) -> None:
    """An open gap is not filled with logs that could be counted ones; the coverage says from when on it is complete."""
    exporter = start("newer-only", DIFFERENCES["account ids of another form"], max_page_size=25)
    total = count_history(exporter)
    world = exporter.api.world
    world.clock.advance(HOUR)
    world.publish(60, over=50 * 60)
    exporter.api.fail_request(1, unavailable)
    exporter.poll()
    (recorder,) = exporter.recorders.values()
    assert recorder.coverage is not None
    (gap,) = recorder.coverage.gaps
    counted = exposed_counts(exporter).total()
    assert total < counted < total + 60
    switch(exporter)
    follow(exporter)
    assert counted + NEW == exposed_counts(exporter).total()
    (recorder,) = exporter.recorders.values()
    assert recorder.complete_since is not None
    assert gap.upper.created <= recorder.complete_since <= world.clock.now * 1000


@pytest.mark.parametrize("downtime", [60, 20 * HOUR])
@pytest.mark.parametrize("hours", [-2, 2])
def test_strict_counts_nothing_from_another_time_zone(hours: int, downtime: float, start: Start) -> None:
    """Not even if no log of the new list is at the times of the counted ones, because they span less than the shift."""
    exporter = start("strict", retimed("created_at", lambda millis: millis + hours * 3_600_000))
    world = exporter.api.world
    world.publish(30, over=20 * 60, kinds=KINDS[:4])
    exporter.poll()
    total = exposed_counts(exporter).total()
    world.clock.advance(downtime)
    switch(exporter)
    (*_, result) = exporter.poll_repeatedly(MAX_REFUSALS + 3)
    assert "generation_mismatch" == result.outcome
    assert f"whose times are 2 h {'later' if hours > 0 else 'earlier'}" in str(result.error)
    assert total == exposed_counts(exporter).total() == 30


@pytest.mark.parametrize("policy", ["strict", "newer-only", "trust"])
def test_deleted_logs_do_not_block_a_switch(policy: str, start: Start) -> None:
    """A list that begins after the last counted log is followed, and its logs count once."""
    exporter = start(policy, NO_SHIFT)
    total = count_history(exporter)
    exporter.api.world.delete(*exporter.api.world.ids)
    switch(exporter)
    follow(exporter)
    assert total + NEW == exposed_counts(exporter).total()
    assert [] == mismatch_warnings(exporter)


@pytest.mark.parametrize("policy", ["strict", "newer-only"])
def test_a_list_in_the_future_has_no_newer_logs(policy: str, start: Start) -> None:
    """If times are off by hours, hours of logs look newer than the last counted one, so nothing is counted."""
    exporter = start(policy, retimed("created_at", lambda millis: millis + 5 * 3_600_000))
    total = count_history(exporter)
    switch(exporter)
    (*_, result) = exporter.poll_repeatedly(MAX_REFUSALS + 2)
    assert "generation_mismatch" == result.outcome
    assert ("logs in the future" in str(result.error)) == (policy == "newer-only")
    assert total == exposed_counts(exporter).total()
