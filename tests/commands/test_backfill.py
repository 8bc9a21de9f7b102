from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from functools import reduce
from pathlib import Path
from typing import Any, Self, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from late_exporter import cli
from late_exporter.api.generation import ApiGeneration
from late_exporter.commands.backfill import HistoryCollector, write_openmetrics
from late_exporter.commands.backfill_history import Change, SampleValue, SeriesHistory
from late_exporter.commands.list_reader import PAUSES
from late_exporter.commands.progress import ProgressLine
from late_exporter.errors import ApiUnavailable, LateError, Unauthorized
from late_exporter.exposition.family import Family
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.model import Scope
from late_exporter.series import Histogram, IncCounter, ObserveHistogram
from late_exporter.store.snapshot import Snapshot
from tests.support.clock import DAY, HOUR, MINUTE, VirtualClock
from tests.support.inside import InsideHarness
from tests.support.late_api import FakeLateApi, unauthorized, unavailable
from tests.support.loggers import NullLogger
from tests.support.samples import Samples
from tests.support.steps import drive
from tests.support.world import World

LOGS = "late_publishing_logs_total"
DURATION = "late_publishing_duration_seconds"
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

    def history(self, *, families: Mapping[str, Family] = CATALOGUE) -> History:
        """Return the history by family and labels."""
        progress = ProgressLine(self.output)
        progress.start("default publishing")

        async def sleep(seconds: float) -> None:
            self.pauses.append(seconds)

        collector = HistoryCollector(
            Scope("default", "publishing"),
            self.api,
            ApiGeneration(self.generation, logger=NullLogger()),
            families,
            progress,
            clock=self.clock.time,
            sleep=sleep,
        )
        histories = drive(collector.collect(Snapshot(f"sqlite:///{self._path}")))
        return {(series.family.name, series.labels[1:]): series for series in histories}


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[BackfillHarness]:
    """Return a world with an exporter that has not started yet."""
    with BackfillHarness(tmp_path / "state.db") as harness:
        harness.clock.advance(2 * DAY)
        yield harness


def value_at(series: SeriesHistory) -> SampleValue:
    """Return the value of a series at its end."""
    return reduce(lambda value, change: change.apply(value), series.changes, series.base)


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

    history = harness.history()
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
    with pytest.raises(LateError, match=r"no history: earlier logs were counted from another list"):
        harness.history()


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


def test_requests_are_repeated_for_half_a_minute(harness: BackfillHarness) -> None:
    """That is once a page could be read; a rejected key is reported at once."""
    harness.world.publish(250, over=2 * DAY - HOUR)
    harness.start()
    harness.keep_polling(4 * HOUR)
    for number in range(1, 7):
        harness.api.fail_request(number, unavailable)
    with pytest.raises(ApiUnavailable):
        harness.history()
    assert list(PAUSES) == harness.pauses
    harness.api.clear_events()
    harness.api.fail_request(1, unauthorized)
    with pytest.raises(Unauthorized):
        harness.history()


def test_an_incomplete_state_is_an_error(harness: BackfillHarness) -> None:
    """The error says what is missing."""
    harness.world.publish(250, over=DAY)
    harness.api.fail_request(1, unavailable)
    harness.start()
    with pytest.raises(LateError, match=r"^default publishing: the first sync is not complete; try again"):
        harness.history()


@pytest.mark.parametrize(("label", "problem"), [("platform=x", "the metrics already have a label"), ("a", "must be")])
def test_wrong_labels(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], label: str, problem: str
) -> None:
    monkeypatch.setenv("LATE_API_KEY", "sk_" + "0" * 64)
    assert 2 == cli.main(["backfill", "--label", label, "--state.url", "sqlite:///none.db"])
    assert problem in capsys.readouterr().err


def test_the_file_is_openmetrics() -> None:
    """Families and series are grouped, samples are in order and have the target labels, and the file is terminated."""
    histogram, counter = CATALOGUE["late_publishing_attempts"], CATALOGUE["late_publishing_rate_limit_pauses_total"]
    increment = ObserveHistogram(histogram.name, (), micros=2_000_000, bounds=histogram.buckets)
    observed = SeriesHistory(
        family=histogram,
        labels=("default", "x\n", "failed"),
        since=0,
        until=5 * STEP,
        changes=[Change(STEP, increment)],
    )
    changes = [Change(STEP, IncCounter(counter.name, ()))]
    counted = SeriesHistory(family=counter, labels=("default", "tiktok"), since=0, until=5 * STEP, changes=changes)
    file = io.BytesIO()
    count = write_openmetrics(file, [observed, counted], {"job": 'la"te', "instance": "here"})
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
    expected = [f"{head} {rest}" for rest in ("0.0 0", *(f"1.0 {at}" for at in range(60, 301, 60)))]
    assert expected == pauses.splitlines()[2:-1]


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
