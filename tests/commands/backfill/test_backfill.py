from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from late_exporter.commands.backfill.collect import Period, collect_history
from late_exporter.commands.backfill.command import require_space
from late_exporter.commands.backfill.history import Delta, SampleValue, SeriesHistory, apply_delta
from late_exporter.commands.backfill.openmetrics import (
    MAX_SAMPLE_GAP,
    SampleGrid,
    estimate_size,
    samples,
    sort_histories,
    write_openmetrics,
)
from late_exporter.commands.progress import ProgressBar
from late_exporter.errors import ApiUnavailable, LateError, Unauthorized
from late_exporter.exposition.family import Family
from late_exporter.feeds import GENERATIONS
from late_exporter.metrics.catalogue import CATALOGUE, build_catalogue
from late_exporter.model import Scope
from late_exporter.series import Histogram
from late_exporter.store.records import Coverage
from late_exporter.store.snapshot import Snapshot
from tests.support.clock import DAY, HOUR, MINUTE, VirtualClock
from tests.support.inside import InsideHarness
from tests.support.late_api import FakeLateApi, unauthorized, unavailable
from tests.support.samples import Samples
from tests.support.steps import drive
from tests.support.world import World

LOGS = "late_publishing_logs_total"
DURATION = "late_publishing_duration_seconds"
LAST = "late_publishing_last_log_timestamp_seconds"
STEP = 60_000

History: TypeAlias = Mapping[tuple[str, tuple[str, ...]], SeriesHistory]


class BackfillHarness:
    """An exporter on a state in a file, in a world that is two days old when it is first polled.

    Args:
        path: The state.
        max_values: As ``--metrics.max-label-values``.
    """

    def __init__(self, path: Path, *, max_values: int = 50) -> None:
        self.clock = VirtualClock()
        self.world = World(self.clock)
        self.api = FakeLateApi(self.world)
        self.started = 0.0
        self.first = Samples()
        self._path = path
        self.generation = "late"
        self._max_values = max_values
        self.pauses: list[float] = []
        self.output = io.StringIO()

    def start(self) -> None:
        """Start the exporter, which counts all logs and is scraped for the first time."""
        self.exporter = InsideHarness(
            self.api, self._path, max_label_values=self._max_values, generation=self.generation
        )
        self.exporter.poll()
        self.started = self.clock.now
        self.first = self.exporter.scrape()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.exporter.close()

    def keep_polling(self, seconds: float) -> None:
        """Let the exporter poll for some time."""
        for _ in range(4):
            self.clock.advance(seconds / 4)
            self.exporter.poll()

    @property
    def default_end(self) -> int:
        """Return the default end of the history in milliseconds."""
        return int(min(self.started - HOUR, self.clock.now - 3 * HOUR) * 1000)

    def history(
        self, *, since: float = 7 * DAY, until: float | None = None, families: Mapping[str, Family] = CATALOGUE
    ) -> History:
        """Return the history by family and labels."""
        now = int(self.clock.now * 1000)
        period = Period(now, now - int(since * 1000), None if until is None else int(until * 1000))

        async def sleep(seconds: float) -> None:
            self.pauses.append(seconds)

        histories = drive(
            collect_history(
                Scope("default", "publishing"),
                GENERATIONS[self.generation]["publishing"],
                client=self.api,
                snapshot=Snapshot(f"sqlite:///{self._path}"),
                families=families,
                period=period,
                progress=ProgressBar(self.output),
                sleep=sleep,
            )
        )
        return {(series.family.name, series.labels[1:]): series for series in histories}


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[BackfillHarness]:
    """Return a world with an exporter that has not started yet."""
    with BackfillHarness(tmp_path / "state.db") as harness:
        harness.clock.advance(2 * DAY)
        yield harness


def value_at(series: SeriesHistory, at: float | None = None) -> SampleValue | None:
    """Return the value of a series at a time, or at its end."""
    result = series.base
    for delta in series.deltas:
        if at is None or delta.at <= at * 1000:
            result = apply_delta(series.family, result, delta.amount)
    return result


def number_of(result: SampleValue | None) -> float:
    """Return a value that is a number."""
    assert isinstance(result, int | float)
    return result


def final_values(history: History) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return the final values of the counters as samples, without zeros."""
    result: dict[tuple[str, tuple[str, ...]], float] = {}
    for (name, labels), series in history.items():
        end = value_at(series)
        if isinstance(end, Histogram):
            result[f"{name}_count", labels] = sum(end.counts)
            result[f"{name}_sum", labels] = end.micros / 1e6
            for place, bound in enumerate((*end.bounds, math.inf)):
                result[f"{name}_bucket", (*labels, f"{bound}")] = sum(end.counts[: place + 1])
        elif series.family.kind == "counter":
            result[name, labels] = number_of(end)
    return {series: number for series, number in result.items() if number}


def exceeding(harness: BackfillHarness, history: History) -> list[tuple[str, tuple[str, ...]]]:
    """Return the series whose history ends above the first scrape."""
    first: dict[tuple[str, tuple[str, ...]], float] = {}
    for name in {name for name, _ in final_values(history)}:
        for sample, number in harness.first.family(name).items():
            first[name, tuple("inf" if label == "+Inf" else label for label in sample)] = number
    return [series for series, number in final_values(history).items() if number > first.get(series, 0.0) + 1e-6]


def insert_logs(harness: BackfillHarness, count: int, **fields: Any) -> None:
    """Insert equal logs over two days until two hours ago."""
    for number in range(count, 0, -1):
        harness.world.insert(harness.clock.now - 2 * HOUR - number * (2 * DAY - 3 * HOUR) / count, **fields)


def test_logs_are_placed_at_their_creation_time(harness: BackfillHarness) -> None:
    """A counter starts at 0 and is the number of logs created by then."""
    creation_times = [harness.clock.now - hours * HOUR for hours in (40, 30, 30, 20, 5)]
    for created in creation_times:
        harness.world.insert(created)
    harness.start()
    harness.keep_polling(4 * HOUR)

    series = harness.history()[LOGS, ("instagram", "publish", "success")]
    assert 0 == series.base
    for at in (creation_times[0] - 1, creation_times[0], creation_times[1], creation_times[3], creation_times[4]):
        assert sum(created <= at for created in creation_times) == number_of(value_at(series, at))
    assert harness.default_end == series.until


def test_history_ends_below_the_first_scrape(harness: BackfillHarness) -> None:
    """Only logs of the hour before the first sync are missing, in every family."""
    insert_logs(harness, 40, platform="tiktok", durationMs=1500)
    insert_logs(harness, 30, status="failed", statusCode=500, action="retry", attemptNumber=2)
    insert_logs(harness, 20, action="rate_limit_pause")
    young = harness.world.publish(3, over=HOUR / 2, platform="tiktok", durationMs=1500)
    harness.start()
    harness.keep_polling(4 * HOUR)
    harness.world.publish(50, platform="tiktok")
    harness.keep_polling(HOUR)

    history = harness.history()
    assert [] == exceeding(harness, history)
    totals = {labels: number for (name, labels), number in final_values(history).items() if name == LOGS}
    assert 90 == harness.first.sum(LOGS) - len(young) == sum(totals.values())
    assert {
        name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum") for name, _ in final_values(history)
    } == {
        LOGS,
        DURATION,
        "late_publishing_failures_total",
        "late_publishing_retries_total",
        "late_publishing_attempts",
        "late_publishing_rate_limit_pauses_total",
        "late_account_logs_total",
    }


def test_logs_without_ids_have_a_history(harness: BackfillHarness) -> None:
    """Equal logs are counted separately."""
    harness.generation = "zernio"
    harness.api.set_generation("zernio")
    insert_logs(harness, 130, status="failed", statusCode=500)
    for _ in range(3):
        harness.world.insert(harness.clock.now - DAY, postId="p1")
    harness.start()
    harness.keep_polling(4 * HOUR)

    history = harness.history(since=90 * DAY)
    assert [] == exceeding(harness, history)
    assert 130 == value_at(history[LOGS, ("instagram", "publish", "failed")])
    assert 3 == value_at(history[LOGS, ("instagram", "publish", "success")])


def test_there_is_no_history_of_another_list(harness: BackfillHarness) -> None:
    """After a switch of the API generation, the logs before it cannot be told from those that were not counted."""
    insert_logs(harness, 130)
    harness.start()
    harness.keep_polling(4 * HOUR)
    harness.generation = harness.exporter.generation = harness.api.generation = "zernio"
    harness.exporter.restart()
    harness.keep_polling(HOUR)
    with pytest.raises(LateError, match=r"no history to write: logs before .* were counted from another list"):
        harness.history()


def test_uncounted_logs_are_left_out(harness: BackfillHarness) -> None:
    """They will be in the live counters, however old they are."""
    insert_logs(harness, 10)
    harness.start()
    harness.keep_polling(4 * HOUR)
    harness.world.insert(harness.started - DAY, platform="mastodon")
    harness.world.insert(harness.started - DAY)

    history = harness.history()
    assert (LOGS, ("mastodon", "publish", "success")) not in history
    assert [] == exceeding(harness, history)


def test_a_log_that_settled_later_is_left_out(harness: BackfillHarness) -> None:
    """Its status at the end of the history is unknown."""
    log = harness.world.insert(harness.clock.now - DAY, status="pending", durationMs=None)
    insert_logs(harness, 5)
    harness.start()
    harness.world.change(log, "failed", statusCode=500, durationMs=900)
    harness.keep_polling(4 * HOUR)

    history = harness.history()
    assert 0 == value_at(history[LOGS, ("instagram", "publish", "pending")])
    assert 0 == value_at(history[LOGS, ("instagram", "publish", "failed")])
    assert ("late_publishing_failures_total", ("instagram", "publish", "platform_error", "500")) not in history
    assert 5 == value_at(history[LOGS, ("instagram", "publish", "success")])
    assert [] == exceeding(harness, history)


def test_former_statuses_are_left_out(harness: BackfillHarness) -> None:
    """The state does not tell in which status such a log was by the end of the history."""
    log = harness.world.insert(harness.clock.now - DAY, status="failed", statusCode=500)
    insert_logs(harness, 5)
    harness.start()
    harness.world.insert(harness.clock.now)  # for the scan to start with
    harness.world.change(log, "success")
    harness.exporter.settle()
    harness.keep_polling(4 * HOUR)

    history = harness.history()
    assert {(log, "failed"), (log, "success")} <= harness.exporter.observations
    assert 0 == value_at(history[LOGS, ("instagram", "publish", "failed")])
    assert 5 == value_at(history[LOGS, ("instagram", "publish", "success")])
    assert [] == exceeding(harness, history)


def test_expired_logs_are_in_the_first_value(tmp_path: Path) -> None:
    """Logs that the API no longer shows do not seem to arrive later."""
    with BackfillHarness(tmp_path / "state.db") as harness:
        harness.clock.advance(10 * DAY)
        for days in range(7):
            harness.world.insert(harness.clock.now - (6 - days) * DAY - 23 * HOUR)
        harness.start()
        harness.keep_polling(DAY)

        series = harness.history()[LOGS, ("instagram", "publish", "success")]
        assert 1 == series.base
        assert 7 == value_at(series)


def test_deleted_later_logs_are_subtracted_from_every_series(harness: BackfillHarness) -> None:
    """Their series is unknown, so that no series may end above the first scrape."""
    insert_logs(harness, 20)
    insert_logs(harness, 10, platform="tiktok")
    harness.start()
    young = harness.world.publish(3, over=MINUTE)
    harness.keep_polling(4 * HOUR)
    old = [row["_id"] for row in harness.world.rows if row["platform"] == "tiktok"][-5:]
    harness.world.delete(*young, *old)

    history = harness.history()
    assert 5 - 3 == history[LOGS, ("tiktok", "publish", "success")].base
    assert 0 == history[LOGS, ("instagram", "publish", "success")].base
    assert [] == exceeding(harness, history)


def test_a_pruned_history_is_an_error(harness: BackfillHarness) -> None:
    """After more than a week there is nothing left before the first scrape."""
    insert_logs(harness, 20)
    harness.start()
    for _ in range(40):
        harness.keep_polling(6 * HOUR)
        harness.world.publish(2)

    with pytest.raises(LateError, match=r"^default publishing: there is no history to write: it would begin at 2026-"):
        harness.history()


def test_later_series_have_no_history(harness: BackfillHarness) -> None:
    """A series that was first exposed at 0 has no history, even if a late log is older."""
    insert_logs(harness, 20)
    harness.start()
    harness.world.insert(harness.started - 2 * HOUR, platform="threads")
    harness.exporter.settle()
    harness.keep_polling(4 * HOUR)

    history = harness.history()
    assert 1 == harness.exporter.scrape().sum(LOGS, platform="threads")
    assert [] == [labels for _, labels in history if "threads" in labels]
    assert [] == exceeding(harness, history)


def test_labels_are_limited_as_in_the_state(tmp_path: Path) -> None:
    """Values that were counted as other stay so in the history."""
    with BackfillHarness(tmp_path / "state.db", max_values=1) as harness:
        harness.clock.advance(2 * DAY)
        for platform in ("mastodon", "nostr", "lemmy"):
            insert_logs(harness, 2, platform=platform)
        harness.start()
        harness.keep_polling(4 * HOUR)

        history = harness.history()
        totals = {labels[0]: number for (name, labels), number in final_values(history).items() if name == LOGS}
        assert [2, 4] == sorted(totals.values())
        assert 4 == totals["other"]
        assert [] == exceeding(harness, history)


def test_histograms_with_other_buckets_are_left_out(harness: BackfillHarness) -> None:
    """Their value before the history is unknown."""
    insert_logs(harness, 5)
    harness.start()
    harness.keep_polling(4 * HOUR)

    history = harness.history(families=build_catalogue({DURATION: (1.0, 2.0)}))
    assert {DURATION} == {name for name, _ in harness.history()} - {name for name, _ in history}


def test_the_time_of_the_newest_log_follows_the_logs(harness: BackfillHarness) -> None:
    """It has no value before the first log."""
    creation_times = [harness.clock.now - hours * HOUR for hours in (40, 30, 20)]
    for created in creation_times:
        harness.world.insert(created)
    harness.start()
    harness.keep_polling(4 * HOUR)

    series = harness.history()[LAST, ("instagram", "publish", "success")]
    assert value_at(series, creation_times[0] - 1) is None
    assert [creation_times[0], creation_times[1]] == [
        number_of(value_at(series, at)) for at in (creation_times[1] - 1, creation_times[2] - 1)
    ]


def test_the_end_can_be_chosen(harness: BackfillHarness) -> None:
    """History continues if Prometheus was installed later than the exporter."""
    insert_logs(harness, 20)
    harness.start()
    harness.world.publish(6, over=MINUTE)
    harness.keep_polling(8 * HOUR)

    history = harness.history(until=harness.started + 4 * HOUR)
    assert 26 == value_at(history[LOGS, ("instagram", "publish", "success")])
    assert 20 == value_at(harness.history()[LOGS, ("instagram", "publish", "success")])


def test_the_start_can_be_chosen(harness: BackfillHarness) -> None:
    """Older logs are in the first value and not reported, and no more pages are read than necessary."""
    harness.world.publish(1000, over=2 * DAY - HOUR)
    harness.start()
    harness.keep_polling(4 * HOUR)
    before = len(harness.api.requests)

    series = harness.history(since=12 * HOUR)[LOGS, ("instagram", "publish", "success")]
    assert 5 > len(harness.api.requests) - before
    assert series.base
    assert 900 < number_of(value_at(series)) <= harness.first.sum(LOGS)
    count = sum(delta.at >= (harness.clock.now - 12 * HOUR) * 1000 for delta in series.deltas)
    assert harness.output.getvalue().startswith(f"default publishing: {count} logs until ")


def test_requests_are_repeated_for_half_a_minute(harness: BackfillHarness) -> None:
    """A rejected key is reported at once."""
    insert_logs(harness, 5)
    harness.start()
    harness.keep_polling(4 * HOUR)
    for number in range(6):
        harness.api.fail_request(number, unavailable)
    with pytest.raises(ApiUnavailable):
        harness.history()
    assert [1.0, 2.0, 4.0, 8.0, 16.0] == harness.pauses
    harness.api.clear_events()
    harness.api.fail_request(0, unauthorized)
    with pytest.raises(Unauthorized):
        harness.history()


@pytest.mark.parametrize(
    ("coverage", "message"),
    [
        (None, "the first sync is not complete; start the exporter"),
        (Coverage(retention_floor=0, complete_since=0), "the first sync is not complete; start the exporter"),
        (
            Coverage(retention_floor=0, complete_since=0, is_synced=True, published_at=8 * 3_600_000),
            "it would begin at 1970-01-01T10:00:00Z",
        ),
    ],
)
def test_an_incomplete_state_is_an_error(coverage: Coverage | None, message: str) -> None:
    """The error says what is missing."""
    with pytest.raises(LateError, match=message):
        Period(now=24 * 3_600_000, since=10 * 3_600_000).end(Scope("a", "publishing"), coverage)


COUNTER = CATALOGUE["late_publishing_rate_limit_pauses_total"]


def series(
    *moves: int, base: SampleValue | None = 0, until: int = 3_600_000, family: Family = COUNTER
) -> SeriesHistory:
    """Return a series that increases by 1 at each of these times."""
    delta = tuple(Delta(at, at if family.kind == "gauge" else 1) for at in moves)
    return SeriesHistory(family=family, labels=("default", "tiktok"), until=until, base=base, deltas=delta)


@given(
    st.lists(st.integers(0, 20_000_000), max_size=4).map(sorted),
    st.sampled_from([15_000, 60_000, 300_000]),
    st.integers(0, 20_000_000),
)
@settings(max_examples=25)
def test_sparse_samples_do_not_change_increases(moves: Sequence[int], step: int, end: int) -> None:
    """Every sample is correct, none is stale, and ranges of an hour with a change are complete."""
    moments = SampleGrid(0, step).timestamps(end)
    result = dict(samples(series(*moves), moments))
    truth = {moment: sum(at <= moment for at in moves) for moment in moments}
    assert [] == [moment for moment in result if result[moment] != truth[moment]]
    last = 0
    for moment in moments:
        last = moment if moment in result else last
        assert moment - last <= max(MAX_SAMPLE_GAP, step)
        assert truth[moment] == result[last]
        if truth[moment] != truth.get(max(0, moment - 3_600_000)):
            assert set(range(max(0, moment - 3_600_000 + step), moment + 1, step)) <= result.keys()


def test_the_file_is_openmetrics() -> None:
    """Families and series are grouped, samples are in order and have the target labels, and the file is terminated."""
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
        sort_histories([series(STEP, until=5 * STEP), observed], CATALOGUE),
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


@pytest.mark.parametrize(("free", "is_enough"), [(2_000, True), (1_999, False)])
def test_the_free_space_is_checked(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    free: int,
    *,
    is_enough: bool,
) -> None:
    """The size is said before anything is written, and if there is no space for it, nothing is."""
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: SimpleNamespace(free=free))
    output = str(tmp_path / "late.om")
    if is_enough:
        require_space(output, 2_000, 12)
        assert f"{output}: about 2.0 kB in 12 series will be written, 2.0 kB are free" in capsys.readouterr().err
    else:
        with pytest.raises(LateError, match=r"about 2\.0 kB in 12 series would be written, but only 2\.0 kB are free"):
            require_space(output, 2_000, 12)
    require_space("-", 10**15, 1)
    assert "late-exporter: about 1000.0 TB in 1 series\n" == capsys.readouterr().err


@pytest.mark.parametrize("since", [0, 36 * 3_600_000])
@pytest.mark.parametrize("step", [15_000, STEP, 240_000])
@pytest.mark.parametrize("base", [None, 5])
def test_the_size_is_known_before(step: int, base: int | None, since: int) -> None:
    """The estimate is close to what is written, whether series change often, seldom or before the start."""
    day = 86_400_000
    moves = (*range(day // 2, day // 2 + 3_600_000, 60_000), day, 2 * day)
    histories = [series(*moves, until=4 * day, base=base), series(day // 3, until=4 * day, base=base)]
    grid, labels = SampleGrid(since, step), {"job": "late", "instance": "localhost:10077"}
    file = io.BytesIO()
    write_openmetrics(file, histories, grid, labels)
    assert estimate_size(histories, grid, labels) == pytest.approx(len(file.getvalue()), rel=0.05)


@pytest.mark.exhaustive
@given(st.data())
@settings(max_examples=30)
def test_no_history_ends_above_the_first_scrape(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever happens before and after the first scrape, no counter decreases at the end of the history."""
    with BackfillHarness(tmp_path_factory.mktemp("any") / "state.db") as harness:
        harness.clock.advance(8 * DAY)
        ages = st.floats(MINUTE, 7 * DAY - HOUR)
        statuses = st.sampled_from(["success", "failed", "pending", "skipped"])
        platforms = st.sampled_from(["tiktok", "mastodon"])
        actions = st.sampled_from(["publish", "retry", "rate_limit_pause"])

        def insert(age: float, status: str, platform: str, action: str) -> None:
            harness.world.insert(harness.clock.now - age, status=status, platform=platform, action=action)

        def happen() -> None:
            what = data.draw(st.sampled_from(["insert", "change", "delete"]))
            if what == "insert" or not harness.world.ids:
                age = data.draw(st.floats(1, MINUTE))
                insert(age, data.draw(statuses), data.draw(platforms), data.draw(actions))
            elif what == "change":
                harness.world.change(data.draw(st.sampled_from(harness.world.ids)), data.draw(statuses))
            else:
                harness.world.delete(data.draw(st.sampled_from(harness.world.ids)))

        for row in data.draw(st.lists(st.tuples(ages, statuses, platforms, actions), max_size=15)):
            insert(*row)
        harness.start()
        for _ in range(data.draw(st.integers(0, 10))):
            happen()
            if data.draw(st.booleans()):
                harness.keep_polling(HOUR)
        harness.keep_polling(2 * HOUR)
        history = harness.history()

        assert [] == exceeding(harness, history)
