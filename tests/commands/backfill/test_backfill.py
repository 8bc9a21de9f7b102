from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeAlias

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from late_exporter.commands.backfill import (
    Period,
    ProgressBar,
    SampleGrid,
    SeriesHistory,
    collect_history,
    write_openmetrics,
)
from late_exporter.commands.backfill.history import Delta, SampleValue, apply_delta
from late_exporter.commands.backfill.openmetrics import MAX_SAMPLE_GAP, samples
from late_exporter.errors import ApiUnavailable, LateError, Unauthorized
from late_exporter.exposition.family import Family
from late_exporter.feeds import GENERATIONS
from late_exporter.metrics.catalogue import CATALOGUE, build_catalogue
from late_exporter.model import Coverage, Histogram, Scope
from late_exporter.store import open_snapshot
from tests.support.worlds import (
    DAY,
    HOUR,
    MINUTE,
    ExporterHarness,
    FakeLateApi,
    Samples,
    VirtualClock,
    World,
    drive,
    rate_limited,
    unauthorized,
    unavailable,
)

LOGS = "late_publishing_logs_total"
DURATION = "late_publishing_duration_seconds"
LAST = "late_publishing_last_log_timestamp_seconds"
STEP = 60_000

Past: TypeAlias = Mapping[tuple[str, tuple[str, ...]], SeriesHistory]


class BackfillHarness:
    """An exporter on a state in a file, in a world that is two days old when it is first polled.

    Args:
        path: The state.
        max_values: As ``--metrics.max-label-values``.
    """

    def __init__(self, path: Path, *, max_values: int = 50) -> None:
        self.clock = VirtualClock()
        self.world = World(self.clock)
        self.late = FakeLateApi(self.world)
        self.started = 0.0
        self.first = Samples()
        self._path = path
        self.generation = "late"
        self._max_values = max_values
        self.slept: list[float] = []

    def start(self) -> None:
        """Start the exporter: it counts what is there, and is scraped for the first time."""
        self.exporter = ExporterHarness(self.late, self._path, max_values=self._max_values, generation=self.generation)
        self.exporter.poll()
        self.started = self.clock.now
        self.first = self.exporter.scrape_once()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.exporter.close()

    def switch(self) -> None:
        """Have the API speak zernio, and the exporter know it and nothing else of it."""
        self.generation = "zernio"
        self.late.set_generation("zernio")
        scope = Scope("default", "publishing")
        coverage = self.exporter.store.feed_state(scope).coverage
        assert coverage is not None
        self.exporter.store.begin_rekey(scope, msgspec.structs.replace(coverage, generation="zernio"))

    def live(self, seconds: float) -> None:
        """Let the exporter poll for some time."""
        for _ in range(4):
            self.clock.advance(seconds / 4)
            self.exporter.poll()

    @property
    def border(self) -> int:
        """Where history ends by itself, in milliseconds."""
        return int(min(self.started - HOUR, self.clock.now - 3 * HOUR) * 1000)

    def past(
        self, *, since: float = 7 * DAY, until: float | None = None, families: Mapping[str, Family] = CATALOGUE
    ) -> Past:
        """What is told of the past."""
        now = int(self.clock.now * 1000)
        span = Period(now, now - int(since * 1000), None if until is None else int(until * 1000))

        async def sleep(seconds: float) -> None:
            self.slept.append(seconds)

        tracks = drive(
            collect_history(
                Scope("default", "publishing"),
                GENERATIONS[self.generation]["publishing"],
                client=self.late,
                records=open_snapshot(f"sqlite:///{self._path}"),
                families=families,
                period=span,
                progress=ProgressBar(io.StringIO()),
                sleep=sleep,
            )
        )
        return {(track.family.name, track.labels[1:]): track for track in tracks}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[BackfillHarness]:
    """A world, and an exporter that has not started yet."""
    with BackfillHarness(tmp_path / "state.db") as rig:
        rig.clock.advance(2 * DAY)
        yield rig


def value(track: SeriesHistory, at: float | None = None) -> SampleValue | None:
    """What a series shows at a time, or at its end."""
    result = track.base
    for moved in track.deltas:
        if at is None or moved.at <= at * 1000:
            result = apply_delta(track.family, result, moved.amount)
    return result


def plain(found: SampleValue | None) -> float:
    """A value that is a number."""
    assert isinstance(found, int | float)
    return found


def ends(past: Past) -> dict[tuple[str, tuple[str, ...]], float]:
    """Where the counters end, as the samples of a scrape that are not 0."""
    found: dict[tuple[str, tuple[str, ...]], float] = {}
    for (name, labels), track in past.items():
        end = value(track)
        if isinstance(end, Histogram):
            found[f"{name}_count", labels] = sum(end.counts)
            found[f"{name}_sum", labels] = end.micros / 1e6
            for place, bound in enumerate((*end.bounds, math.inf)):
                found[f"{name}_bucket", (*labels, f"{bound}")] = sum(end.counts[: place + 1])
        elif track.family.kind == "counter":
            found[name, labels] = plain(end)
    return {series: number for series, number in found.items() if number}


def above(rig: BackfillHarness, past: Past) -> list[tuple[str, tuple[str, ...]]]:
    """The series whose history ends above what was first scraped."""
    first: dict[tuple[str, tuple[str, ...]], float] = {}
    for name in {name for name, _ in ends(past)}:
        for sample, number in rig.first.family(name).items():
            first[name, tuple("inf" if label == "+Inf" else label for label in sample)] = number
    return [series for series, number in ends(past).items() if number > first.get(series, 0.0) + 1e-6]


def kinds(rig: BackfillHarness, count: int, **fields: Any) -> None:
    """Some logs of a kind, over two days until two hours ago."""
    for number in range(count, 0, -1):
        rig.world.insert(rig.clock.now - 2 * HOUR - number * (2 * DAY - 3 * HOUR) / count, **fields)


def test_every_log_stands_at_its_creation(rig: BackfillHarness) -> None:
    """A counter at any time is the number of logs that were created by then, and it begins at 0."""
    made = [rig.clock.now - hours * HOUR for hours in (40, 30, 30, 20, 5)]
    for created in made:
        rig.world.insert(created)
    rig.start()
    rig.live(4 * HOUR)

    track = rig.past()[LOGS, ("instagram", "publish", "success")]
    assert 0 == track.base
    for at in (made[0] - 1, made[0], made[1], made[3], made[4]):
        assert sum(created <= at for created in made) == plain(value(track, at))
    assert rig.border == track.until


def test_history_ends_where_the_first_scrape_begins(rig: BackfillHarness) -> None:
    """What came in the hour before the first sync is missing, and nothing else; so it is for every family."""
    kinds(rig, 40, platform="tiktok", durationMs=1500)
    kinds(rig, 30, status="failed", statusCode=500, action="retry", attemptNumber=2)
    kinds(rig, 20, action="rate_limit_pause")
    young = rig.world.publish(3, over=HOUR / 2, platform="tiktok", durationMs=1500)
    rig.start()
    rig.live(4 * HOUR)
    rig.world.publish(50, platform="tiktok")
    rig.live(HOUR)

    past = rig.past()
    assert [] == above(rig, past)
    counted = {labels: number for (name, labels), number in ends(past).items() if name == LOGS}
    assert 90 == rig.first.sum(LOGS) - len(young) == sum(counted.values())
    assert {name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum") for name, _ in ends(past)} == {
        LOGS,
        DURATION,
        "late_publishing_failures_total",
        "late_publishing_retries_total",
        "late_publishing_attempts",
        "late_publishing_rate_limit_pauses_total",
        "late_account_logs_total",
    }


def test_the_state_tells_since_when_it_is_shown(tmp_path: Path) -> None:
    """It is the time at which the first sync was complete, by the API's clock, and stays so."""
    with BackfillHarness(tmp_path / "state.db") as rig:
        rig.world.publish(450, over=DAY)
        rig.late.latency = 1.0
        began = rig.clock.now
        rig.start()
        rig.live(HOUR)
        rig.exporter.restart(8 * DAY)
        rig.live(HOUR)
        coverage = rig.exporter.store.feed_state(Scope("default", "publishing")).coverage

        assert coverage is not None
        assert began + 5 <= coverage.published_at / 1000 <= rig.started


def test_the_history_of_zernio(rig: BackfillHarness) -> None:
    """Logs without ids have the same history, those that are alike too."""
    rig.generation = "zernio"
    rig.late.set_generation("zernio")
    kinds(rig, 130, status="failed", statusCode=500)
    for _ in range(3):
        rig.world.insert(rig.clock.now - DAY, postId="p1")
    rig.start()
    rig.live(4 * HOUR)

    past = rig.past(since=90 * DAY)
    assert [] == above(rig, past)
    assert 130 == value(past[LOGS, ("instagram", "publish", "failed")])
    assert 3 == value(past[LOGS, ("instagram", "publish", "success")])


def test_history_after_a_switch(rig: BackfillHarness) -> None:
    """Logs that the exporter has yet to recognize are in history as if it had."""
    kinds(rig, 130)
    kinds(rig, 20, platform="tiktok", action="retry", attemptNumber=2)
    waiting = rig.world.insert(rig.clock.now - DAY, platform="tiktok", status="pending", durationMs=None)
    rig.start()
    rig.live(4 * HOUR)
    before = ends(rig.past())
    rig.switch()

    assert before == ends(rig.past())
    rig.world.change(waiting, "success")
    assert before == ends(rig.past())


def test_history_goes_no_further_than_what_was_counted(rig: BackfillHarness) -> None:
    """Logs before the horizon cost no requests."""
    rig.generation = "zernio"
    rig.late.set_generation("zernio")
    rig.world.publish(200, over=DAY)
    rig.start()
    rig.live(4 * HOUR)
    asked = len(rig.late.requests)
    for number in range(1, 500):
        rig.world.insert(rig.started - 7 * DAY - number * HOUR / 100)
    rig.past(since=90 * DAY)

    assert len(rig.late.requests) - asked <= 4


def test_a_log_that_was_not_counted_yet_is_left_out(rig: BackfillHarness) -> None:
    """It will be in the live counters, so it is in no history, however old it is."""
    kinds(rig, 10)
    rig.start()
    rig.live(4 * HOUR)
    rig.world.insert(rig.started - DAY, platform="mastodon")
    rig.world.insert(rig.started - DAY)

    past = rig.past()
    assert (LOGS, ("mastodon", "publish", "success")) not in past
    assert [] == above(rig, past)


def test_a_log_that_settled_after_the_border(rig: BackfillHarness) -> None:
    """Nobody knows how it was counted by the border: it is in no history, neither as pending nor as it ended."""
    log = rig.world.insert(rig.clock.now - DAY, status="pending", durationMs=None)
    kinds(rig, 5)
    rig.start()
    rig.world.change(log, "failed", statusCode=500, durationMs=900)
    rig.live(4 * HOUR)

    past = rig.past()
    assert 0 == value(past[LOGS, ("instagram", "publish", "pending")])
    assert 0 == value(past[LOGS, ("instagram", "publish", "failed")])
    assert ("late_publishing_failures_total", ("instagram", "publish", "system", "500")) not in past
    assert 5 == value(past[LOGS, ("instagram", "publish", "success")])
    assert [] == above(rig, past)


def test_a_log_that_has_settled_since_the_last_poll(rig: BackfillHarness) -> None:
    """The ledger has it as pending, and so has history; how it ended the exporter will count."""
    log = rig.world.insert(rig.clock.now - DAY, status="pending", durationMs=None)
    rig.start()
    rig.live(4 * HOUR)
    rig.world.change(log, "success", durationMs=900)

    past = rig.past()
    assert 1 == value(past[LOGS, ("instagram", "publish", "pending")])
    assert 0 == value(past[LOGS, ("instagram", "publish", "success")])


def test_a_pending_log_that_pauses_counts_as_a_pause_once(rig: BackfillHarness) -> None:
    """A pause is one a log, in history too."""
    log = rig.world.insert(rig.clock.now - DAY, status="pending", action="rate_limit_pause")
    kinds(rig, 3, action="rate_limit_pause")
    rig.start()
    rig.world.change(log, "success")
    rig.live(4 * HOUR)

    past = rig.past()
    assert (log, "success") in rig.exporter.observations
    assert 0 == past["late_publishing_rate_limit_pauses_total", ("instagram",)].base
    assert 3 == value(past["late_publishing_rate_limit_pauses_total", ("instagram",)])


def test_a_status_that_nobody_shows_any_more(rig: BackfillHarness) -> None:
    """Nobody knows whether a log that failed and then succeeded had failed by the border: it is in no history."""
    log = rig.world.insert(rig.clock.now - DAY, status="failed", statusCode=500)
    kinds(rig, 5)
    rig.start()
    rig.world.insert(rig.clock.now)  # for the walk to begin with
    rig.world.change(log, "success")
    rig.exporter.settle()
    rig.live(4 * HOUR)

    past = rig.past()
    assert {(log, "failed"), (log, "success")} <= rig.exporter.observations
    assert 0 == value(past[LOGS, ("instagram", "publish", "failed")])
    assert 5 == value(past[LOGS, ("instagram", "publish", "success")])
    assert [] == above(rig, past)


def test_what_has_expired_is_below_the_first_value(tmp_path: Path) -> None:
    """A log that the first sync still saw and the API no longer shows is in history from its begin: none comes late."""
    with BackfillHarness(tmp_path / "state.db") as rig:
        rig.clock.advance(10 * DAY)
        for days in range(7):
            rig.world.insert(rig.clock.now - (6 - days) * DAY - 23 * HOUR)
        rig.start()
        rig.live(DAY)

        track = rig.past()[LOGS, ("instagram", "publish", "success")]
        assert 1 == track.base
        assert 7 == value(track)


def test_old_logs_that_were_deleted(rig: BackfillHarness) -> None:
    """A deleted log of before the border stays in the history of its series."""
    kinds(rig, 20)
    kinds(rig, 10, platform="tiktok")
    rig.start()
    rig.live(4 * HOUR)
    gone = [row["_id"] for row in rig.world.rows if row["platform"] == "tiktok"][-4:]
    rig.world.delete(*gone)

    past = rig.past()
    assert 4 == past[LOGS, ("tiktok", "publish", "success")].base
    assert 0 == past[LOGS, ("instagram", "publish", "success")].base
    assert [] == above(rig, past)


def test_young_logs_that_were_deleted(rig: BackfillHarness) -> None:
    """Nobody can say of which series a deleted log of after the border was, so no series ends above its first value."""
    kinds(rig, 20)
    kinds(rig, 10, platform="tiktok")
    rig.start()
    young = rig.world.publish(3, over=MINUTE)
    rig.live(4 * HOUR)
    old = [row["_id"] for row in rig.world.rows if row["platform"] == "tiktok"][-5:]
    rig.world.delete(*young, *old)

    past = rig.past()
    assert 5 - 3 == past[LOGS, ("tiktok", "publish", "success")].base
    assert 0 == past[LOGS, ("instagram", "publish", "success")].base
    assert [] == above(rig, past)


def test_logs_that_were_rejected(rig: BackfillHarness) -> None:
    """A log without an id is in no series, so its being there changes none."""
    kinds(rig, 20)
    rig.start()
    rig.world.insert(rig.clock.now, _id="")
    rig.live(4 * HOUR)
    rig.world.delete(rig.world.rows[-1]["_id"])

    past = rig.past()
    assert 1 == rig.exporter.scrape().sum("late_exporter_entries_rejected_total")
    assert 1 == past[LOGS, ("instagram", "publish", "success")].base
    assert 20 == value(past[LOGS, ("instagram", "publish", "success")])


def test_logs_that_have_been_forgotten(rig: BackfillHarness) -> None:
    """After more than a week the state has forgotten the first logs, and there is nothing before the border to tell."""
    kinds(rig, 20)
    rig.start()
    for _ in range(40):
        rig.live(6 * HOUR)
        rig.world.publish(2)

    with pytest.raises(LateError, match=r"^default publishing: there is nothing to tell: history would begin at 2026-"):
        rig.past()


def test_series_that_were_born_later(rig: BackfillHarness) -> None:
    """A series that was served at 0 first has no history, though a log that came late is older than the border."""
    kinds(rig, 20)
    rig.start()
    rig.world.insert(rig.started - 2 * HOUR, platform="threads")
    rig.exporter.settle()
    rig.live(4 * HOUR)

    past = rig.past()
    assert 1 == rig.exporter.scrape().sum(LOGS, platform="threads")
    assert [] == [labels for _, labels in past if "threads" in labels]
    assert [] == above(rig, past)


def test_labels_are_those_of_the_ledger(tmp_path: Path) -> None:
    """What was folded into other at the time is there in history, and what was admitted under its name."""
    with BackfillHarness(tmp_path / "state.db", max_values=1) as rig:
        rig.clock.advance(2 * DAY)
        for platform in ("mastodon", "nostr", "lemmy"):
            kinds(rig, 2, platform=platform)
        rig.start()
        rig.live(4 * HOUR)

        past = rig.past()
        counted = {labels[0]: number for (name, labels), number in ends(past).items() if name == LOGS}
        assert [2, 4] == sorted(counted.values())
        assert 4 == counted["other"]
        assert [] == above(rig, past)


def test_other_buckets(rig: BackfillHarness) -> None:
    """Where the state has a histogram over other buckets, what it had before cannot be told, and it is left out."""
    kinds(rig, 5)
    rig.start()
    rig.live(4 * HOUR)

    past = rig.past(families=build_catalogue((1.0, 2.0)))
    assert {DURATION} == {name for name, _ in rig.past()} - {name for name, _ in past}


def test_the_newest_log(rig: BackfillHarness) -> None:
    """The time of the newest log follows the logs, and there is none before the first."""
    made = [rig.clock.now - hours * HOUR for hours in (40, 30, 20)]
    for created in made:
        rig.world.insert(created)
    rig.start()
    rig.live(4 * HOUR)

    track = rig.past()[LAST, ("instagram", "publish", "success")]
    assert value(track, made[0] - 1) is None
    assert [made[0], made[1]] == [plain(value(track, at)) for at in (made[1] - 1, made[2] - 1)]


def test_a_chosen_end(rig: BackfillHarness) -> None:
    """Where Prometheus came later than the exporter, history goes on until then."""
    kinds(rig, 20)
    rig.start()
    rig.world.publish(6, over=MINUTE)
    rig.live(8 * HOUR)

    past = rig.past(until=rig.started + 4 * HOUR)
    assert 26 == value(past[LOGS, ("instagram", "publish", "success")])
    assert 20 == value(rig.past()[LOGS, ("instagram", "publish", "success")])


def test_a_short_history(rig: BackfillHarness) -> None:
    """What is older than asked for is in the value that history begins with, and no more is read than is needed."""
    rig.world.publish(1000, over=2 * DAY - HOUR)
    rig.start()
    rig.live(4 * HOUR)
    before = len(rig.late.requests)

    track = rig.past(since=12 * HOUR)[LOGS, ("instagram", "publish", "success")]
    assert 5 > len(rig.late.requests) - before
    assert track.base
    assert 900 < plain(value(track)) <= rig.first.sum(LOGS)


@pytest.mark.parametrize("fault", [unavailable, rate_limited], ids=lambda fault: fault.__name__)
def test_a_page_that_fails_is_asked_for_again(rig: BackfillHarness, fault: object) -> None:
    """An error in the middle costs a pause and no log."""
    kinds(rig, 250)
    rig.start()
    rig.live(4 * HOUR)
    rig.late.fail_request(1, fault)  # type: ignore[arg-type]

    past = rig.past()
    assert [1.0] == rig.slept
    assert 250 == value(past[LOGS, ("instagram", "publish", "success")])


def test_an_api_that_stays_away(rig: BackfillHarness) -> None:
    """After half a minute of pauses the error is told; a key that is refused is told at once."""
    kinds(rig, 5)
    rig.start()
    rig.live(4 * HOUR)
    for number in range(6):
        rig.late.fail_request(number, unavailable)
    with pytest.raises(ApiUnavailable):
        rig.past()
    assert [1.0, 2.0, 4.0, 8.0, 16.0] == rig.slept
    rig.late.clear_events()
    rig.late.fail_request(0, unauthorized)
    with pytest.raises(Unauthorized):
        rig.past()


def test_a_list_that_moves_while_it_is_read(rig: BackfillHarness) -> None:
    """Logs that come or are deleted between two pages neither double another one nor hide it."""
    kinds(rig, 350)
    rig.start()
    rig.live(4 * HOUR)
    expected = ends(rig.past())
    rig.late.before_request(1, lambda: rig.world.publish(130, over=MINUTE) and None)
    rig.late.before_request(2, lambda: rig.world.delete_top(130))

    assert expected == ends(rig.past())


@pytest.mark.parametrize(
    ("coverage", "words"),
    [
        (None, "the first sync is not complete; start the exporter"),
        (Coverage(retention_floor=0, complete_since=0), "the first sync is not complete; start the exporter"),
        (
            Coverage(retention_floor=0, complete_since=0, is_synced=True),
            "does not tell since when it is shown; give --until",
        ),
        (
            Coverage(retention_floor=0, complete_since=0, is_synced=True, published_at=8 * 3_600_000),
            "history would begin at 1970-01-01T10:00:00Z",
        ),
    ],
)
def test_a_history_that_cannot_be_told(coverage: Coverage | None, words: str) -> None:
    """It is said what is missing."""
    with pytest.raises(LateError, match=words):
        Period(now=24 * 3_600_000, since=10 * 3_600_000).end(Scope("a", "publishing"), coverage)


def test_the_newest_three_hours_are_never_told() -> None:
    """History ends three hours ago where the exporter is younger than that."""
    coverage = Coverage(retention_floor=0, complete_since=0, is_synced=True, published_at=23 * 3_600_000)
    assert 21 * 3_600_000 == Period(now=24 * 3_600_000, since=0).end(Scope("a", "publishing"), coverage)


COUNTER = CATALOGUE["late_publishing_rate_limit_pauses_total"]


def track(*moves: int, base: SampleValue | None = 0, until: int = 3_600_000, family: Family = COUNTER) -> SeriesHistory:
    """A series that moves by 1 at each of these times."""
    moved = tuple(Delta(at, at if family.kind == "gauge" else 1) for at in moves)
    return SeriesHistory(family=family, labels=("default", "tiktok"), until=until, base=base, deltas=moved)


def told(found: SeriesHistory, step: int = STEP) -> list[tuple[int, SampleValue]]:
    """Its samples, with times in steps."""
    moments = SampleGrid(0, step).timestamps(found.until)
    return [(at // step, number) for at, number in samples(found, moments)]


def test_samples_where_something_moves() -> None:
    """Within an hour of a move every moment has a sample; elsewhere one in four minutes is enough."""
    found = told(track(100 * STEP + 1, 102 * STEP, until=200 * STEP))
    expected = [*range(0, 41, 4), *range(41, 163), *range(166, 200, 4), 200]
    assert expected == [at for at, _ in found]
    assert [(100, 0), (101, 1), (102, 2), (103, 2)] == found[70:74]


def test_samples_of_a_reading() -> None:
    """A gauge has none before it has a value."""
    found = told(track(2 * STEP + 5, 4 * STEP, base=None, until=5 * STEP, family=CATALOGUE[LAST]))
    assert [(3, 2 * STEP + 5), (4, 4 * STEP), (5, 4 * STEP)] == found


@given(
    st.lists(st.integers(0, 20_000_000), max_size=4).map(sorted),
    st.sampled_from([15_000, 60_000, 300_000]),
    st.integers(0, 20_000_000),
)
@settings(max_examples=25)
def test_thinning_changes_no_increase(moves: Sequence[int], step: int, end: int) -> None:
    """At every moment the last sample is true and not stale, and a range of an hour that has a move has all samples."""
    moments = SampleGrid(0, step).timestamps(end)
    found = dict(samples(track(*moves), moments))
    truth = {moment: sum(at <= moment for at in moves) for moment in moments}
    assert [] == [moment for moment in found if found[moment] != truth[moment]]
    last = 0
    for moment in moments:
        last = moment if moment in found else last
        assert moment - last <= max(MAX_SAMPLE_GAP, step)
        assert truth[moment] == found[last]
        if truth[moment] != truth.get(max(0, moment - 3_600_000)):
            assert set(range(max(0, moment - 3_600_000 + step), moment + 1, step)) <= found.keys()


def test_the_file_is_openmetrics() -> None:
    """Families stand together, each series in order of time, with the labels of the target, and it has an end."""
    histogram = CATALOGUE["late_publishing_attempts"]
    observed = SeriesHistory(
        family=histogram,
        labels=("default", "x\n", "failed"),
        until=5 * STEP,
        base=Histogram(histogram.buckets, (0,) * 7),
        deltas=(Delta(STEP, 2_000_000),),
    )
    file = io.BytesIO()
    count = write_openmetrics(
        file,
        [observed, track(STEP, until=5 * STEP)],
        CATALOGUE,
        SampleGrid(0, STEP),
        {"job": 'la"te', "instance": "here"},
    )
    text = file.getvalue().decode()

    assert 5 == sum(line.startswith("#") for line in text.splitlines())
    assert count == text.count("\n") - 5
    assert text.endswith("\n# EOF\n")
    attempts, pauses = text.split("# HELP ")[1:]
    assert attempts.startswith(f"late_publishing_attempts {histogram.help}\n")
    target = r'instance="here",job="la\"te"'
    head = rf'late_publishing_attempts_sum{{{target},platform="x\n",status="failed",workspace="default"}}'
    assert [f"{head} {rest}" for rest in ("0.0 0", *(f"2.0 {at}" for at in range(60, 301, 60)))] == [
        line for line in attempts.splitlines() if "_sum" in line
    ]
    head = f'late_publishing_rate_limit_pauses_total{{{target},platform="tiktok",workspace="default"}}'
    assert [f"{head} {rest}" for rest in ("0.0 0", *(f"1.0 {at}" for at in range(60, 301, 60)))] == pauses.splitlines()[
        2:-1
    ]


def test_parts_of_seconds() -> None:
    """A step that is no whole second has times with a fraction."""
    file = io.BytesIO()
    write_openmetrics(file, [track(500, until=1500)], CATALOGUE, SampleGrid(0, 1500), {})
    assert b'{platform="tiktok",workspace="default"} 1.0 1.500\n' in file.getvalue()


class TtyStream(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        """It is one."""
        return True


def test_progress() -> None:
    """A terminal shows a bar with the time left, anything else a line for each feed."""
    clock = VirtualClock()
    terminal, pipe = TtyStream(), io.StringIO()
    for stream in (terminal, pipe):
        progress = ProgressBar(stream, clock.monotonic)
        progress.start("acme publishing")
        progress.update(0, 0, "no logs")
        clock.advance(100)
        progress.update(25, 100, "25 of 100 logs")
        clock.advance(3 * HOUR)
        progress.update(50, 100, "50 of 100 logs")
        progress.finish("50 logs")
        progress.clear()

    shown = [piece.removeprefix("\x1b[K") for piece in terminal.getvalue().split("\r")]
    assert "acme publishing [######                  ] 25 of 100 logs, 5m00s left" == shown[2]
    assert "acme publishing [############            ] 50 of 100 logs, 3h01m left" == shown[3]
    assert "acme publishing: 50 logs\n" == shown[4]
    assert "" == shown[5]
    assert "acme publishing: 50 logs\n" == pipe.getvalue()


@given(st.data())
@settings(max_examples=30)
def test_no_history_ends_above_what_was_first_scraped(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever happens before and after the first scrape, no counter falls at the border."""
    with BackfillHarness(tmp_path_factory.mktemp("any") / "state.db") as rig:
        rig.clock.advance(8 * DAY)
        ages = st.floats(MINUTE, 7 * DAY - HOUR)
        statuses = st.sampled_from(["success", "failed", "pending", "skipped"])
        platforms = st.sampled_from(["tiktok", "mastodon"])
        actions = st.sampled_from(["publish", "retry", "rate_limit_pause"])

        def insert(age: float, status: str, platform: str, action: str) -> None:
            rig.world.insert(rig.clock.now - age, status=status, platform=platform, action=action)

        def happen() -> None:
            what = data.draw(st.sampled_from(["insert", "change", "delete"]))
            if what == "insert" or not rig.world.ids:
                age = data.draw(st.floats(1, MINUTE))
                insert(age, data.draw(statuses), data.draw(platforms), data.draw(actions))
            elif what == "change":
                rig.world.change(data.draw(st.sampled_from(rig.world.ids)), data.draw(statuses))
            else:
                rig.world.delete(data.draw(st.sampled_from(rig.world.ids)))

        for row in data.draw(st.lists(st.tuples(ages, statuses, platforms, actions), max_size=15)):
            insert(*row)
        rig.start()
        for _ in range(data.draw(st.integers(0, 10))):
            happen()
            if data.draw(st.booleans()):
                rig.live(HOUR)
        rig.live(2 * HOUR)
        past = rig.past()

        assert [] == above(rig, past)
