from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from late_exporter import cli
from late_exporter.api.generation import GenerationDetector
from late_exporter.commands.backfill import collect_history
from late_exporter.commands.list_reader import PAUSES
from late_exporter.commands.progress import ProgressLine
from late_exporter.errors import ApiUnavailable, LateError, Unauthorized
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.metrics.series_history import SeriesHistory, write_openmetrics
from late_exporter.model import Scope
from late_exporter.store.snapshot import Snapshot
from tests.support.clock import DAY, HOUR, VirtualClock
from tests.support.inside import InsideHarness
from tests.support.late_api import FakeLateApi, unauthorized, unavailable
from tests.support.loggers import NullLogger
from tests.support.samples import Samples
from tests.support.steps import drive
from tests.support.world import World

LOGS = "late_publishing_logs_total"
STEP = 60_000

History: TypeAlias = Mapping[tuple[str, tuple[str, ...]], SeriesHistory]


class BackfillHarness:
    """An exporter on a state in a file, in a world that is two days old when it is first polled."""

    def __init__(self, path: Path) -> None:
        self.clock = VirtualClock()
        self.world = World(self.clock)
        self.api = FakeLateApi(self.world)
        self.first = Samples()
        self._path = path
        self.generation = "late"
        self.pauses: list[float] = []

    def start(self) -> None:
        """Start the exporter, which counts all logs and is scraped for the first time."""
        self.exporter = InsideHarness(self.api, self._path, generation=self.generation)
        self.exporter.poll()
        self.first = self.exporter.scrape()

    def close(self) -> None:
        self.exporter.close()

    def keep_polling(self, seconds: float) -> None:
        """Let the exporter poll for some time."""
        for _ in range(4):
            self.clock.advance(seconds / 4)
            self.exporter.poll()

    def history(self) -> History:
        """Return the history by family and labels."""

        async def sleep(seconds: float) -> None:
            self.pauses.append(seconds)

        histories = collect_history(
            Scope("default", "publishing"),
            (self.api, GenerationDetector(self.generation, logger=NullLogger())),
            Snapshot(f"sqlite:///{self._path}"),
            CATALOGUE,
            ProgressLine(io.StringIO()),
            clock=self.clock.time,
            sleep=sleep,
        )
        return {(series.family.name, series.labels[1:]): series for series in drive(histories)}


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[BackfillHarness]:
    """Return a world with an exporter that has not started yet."""
    with closing(BackfillHarness(tmp_path / "state.db")) as harness:
        harness.clock.advance(2 * DAY)
        yield harness


def insert_logs(harness: BackfillHarness, count: int, **fields: Any) -> None:
    """Insert equal logs over two days until two hours ago."""
    for number in range(count, 0, -1):
        harness.world.insert(harness.clock.now - 2 * HOUR - number * (2 * DAY - 3 * HOUR) / count, **fields)


def test_history_ends_below_the_first_scrape(harness: BackfillHarness) -> None:
    """Logs of the hour before the first sync are missing, in every family, and those that settled after it."""
    insert_logs(harness, 40, platform="tiktok", durationMs=1500)
    insert_logs(harness, 30, status="failed", statusCode=500, action="retry", attemptNumber=2)
    insert_logs(harness, 20, action="rate_limit_pause")
    young = harness.world.publish(3, over=HOUR / 2, platform="tiktok", durationMs=1500)
    unsettled = harness.world.insert(harness.clock.now - DAY, status="pending", durationMs=None)
    harness.start()
    harness.world.change(unsettled, "failed", statusCode=500, durationMs=900)
    harness.keep_polling(4 * HOUR)
    harness.world.publish(50, platform="tiktok")
    harness.keep_polling(HOUR)

    history = harness.history()
    first = {name: harness.first.family(name) for name, _ in history}
    assert all(len(each.times) <= first[name].get(labels, 0) for (name, labels), each in history.items())
    counts = [len(series.times) for (name, _), series in history.items() if name == LOGS]
    assert 90 == sum(counts) == harness.first.sum(LOGS) - len([*young, unsettled])
    assert {
        LOGS,
        "late_publishing_failures_total",
        "late_publishing_retries_total",
        "late_publishing_rate_limit_pauses_total",
        "late_account_logs_total",
    } == {name for (name, _), series in history.items() if series.times}


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


def test_wrong_labels(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("LATE_API_KEY", "sk_" + "0" * 64)
    for label, problem in (("platform=x", "the metrics already have a label"), ("a", "must be")):
        assert 2 == cli.main(["backfill", "--label", label, "--state.url", "sqlite:///none.db"])
        assert problem in capsys.readouterr().err


def test_the_file_is_openmetrics() -> None:
    """Families and series are grouped, samples are in order and have the target labels, and the file is terminated."""
    retries, pauses = CATALOGUE["late_publishing_retries_total"], CATALOGUE["late_publishing_rate_limit_pauses_total"]
    histories = [
        SeriesHistory(retries, ("default", "x\n", "failed"), 0, 5 * STEP, [STEP, STEP]),
        SeriesHistory(pauses, ("default", "tiktok"), 0, 5 * STEP, [STEP]),
    ]
    file = io.BytesIO()
    write_openmetrics(file, histories, {"job": 'la"te', "instance": "here"})
    text = file.getvalue().decode().removesuffix("\n# EOF\n")
    first, second = (each.splitlines() for each in text.split("# HELP ")[1:])
    target = r'instance="here",job="la\"te"'
    assert f"late_publishing_retries {retries.help}" == first[0]
    head = rf'late_publishing_retries_total{{{target},platform="x\n",status="failed",workspace="default"}}'
    assert [f"{head} {rest}" for rest in ("0.0 0", *(f"2.0 {at}" for at in range(60, 301, 60)))] == first[2:]
    head = f'late_publishing_rate_limit_pauses_total{{{target},platform="tiktok",workspace="default"}}'
    assert [f"{head} {rest}" for rest in ("0.0 0", *(f"1.0 {at}" for at in range(60, 301, 60)))] == second[2:]
