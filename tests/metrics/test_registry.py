from __future__ import annotations

import math
from typing import Any

import pytest

from late_exporter.exposition.exposition import Exposition
from late_exporter.metrics.catalogue import CATALOGUE, build_catalogue
from late_exporter.metrics.registry import SeriesRegistry
from late_exporter.model import (
    Exemplar,
    FailureStreak,
    Histogram,
    IncCounter,
    Labels,
    LatestValue,
    ObserveHistogram,
    Series,
    SeriesValue,
    Value,
)
from late_exporter.status import AccountHealth, PlatformHealth

LOGS = "late_publishing_logs_total"
EVENTS = "late_connection_events_total"
POLLS = "late_exporter_polls_total"
INFO = "late_account_info"
BOTH = frozenset({"publishing", "connections"})
PUBLISHED: Series = (LOGS, ("acme", "tiktok", "publish", "success"))
FAILED: Series = (LOGS, ("acme", "tiktok", "publish", "failed"))
CONNECTED: Series = (EVENTS, ("acme", "tiktok", "connect_success", "oauth"))
POLLED: Series = (POLLS, ("acme", "publishing", "success"))
ACCOUNT: Series = (INFO, ("acme", "tiktok", "a1"))


class FakeExposition(Exposition):
    """What is shown now, and what happened."""

    def __init__(self) -> None:
        super().__init__(CATALOGUE)
        self.shown: dict[Series, float | Histogram] = {}
        self.created: dict[Series, float | None] = {}
        self.newborn: set[Series] = set()
        self.exemplars: list[tuple[Series, float, Exemplar]] = []
        self.seen: list[tuple[Series, float | Histogram]] = []

    def put(
        self,
        family: str,
        labels: Labels,
        value: float | Histogram,
        *,
        created: float | None = None,
        start_at_zero: bool = False,
    ) -> None:
        """Set a series."""
        assert len(CATALOGUE[family].labels) == len(labels)
        series = (family, labels)
        if start_at_zero and series not in self.shown:
            self.newborn.add(series)
        self.shown[series] = value
        self.created[series] = created
        self.seen.append((series, value))

    def remove(self, family: str, labels: Labels) -> None:
        """Remove a series, which has to be there."""
        del self.shown[family, labels]

    def add_exemplar(self, family: str, labels: Labels, value: float, exemplar: Exemplar) -> None:
        """Attach an exemplar."""
        self.exemplars.append(((family, labels), value, exemplar))


@pytest.fixture
def canvas() -> FakeExposition:
    """Where it is drawn."""
    return FakeExposition()


@pytest.fixture
def board(canvas: FakeExposition) -> SeriesRegistry:
    """A board of one workspace with both feeds."""
    return SeriesRegistry(CATALOGUE, canvas, {"acme": BOTH})


def totals(*series: Series, value: Value = 1, created: float = 7.0) -> dict[Series, SeriesValue]:
    """The same total for some series."""
    return {one: SeriesValue(value, created) for one in series}


def test_history_is_withheld(board: SeriesRegistry, canvas: FakeExposition) -> None:
    """Until a feed's first sync is complete its families are not shown; then they are, whole and not as newborn."""
    board.update(totals(PUBLISHED, FAILED, CONNECTED))
    board.update(totals(PUBLISHED, value=150, created=5.0))
    assert {} == canvas.shown

    board.show_feed("acme", "publishing")
    assert {PUBLISHED: 150, FAILED: 1} == canvas.shown
    assert 5.0 == canvas.created[PUBLISHED]

    board.show_feed("acme", "connections")
    assert {PUBLISHED: 150, FAILED: 1, CONNECTED: 1} == canvas.shown
    assert set() == canvas.newborn
    assert [150] == [value for series, value in canvas.seen if series == PUBLISHED], "shown once"


def test_births(board: SeriesRegistry, canvas: FakeExposition) -> None:
    """A series that comes into being after the first sync is newborn, once."""
    board.update(totals(PUBLISHED))
    board.show_feed("acme", "publishing")
    board.update(totals(PUBLISHED, FAILED, value=2))
    board.update(totals(FAILED, value=3))

    assert {FAILED} == canvas.newborn
    assert {PUBLISHED: 2, FAILED: 3} == canvas.shown


def test_the_exporters_own_metrics_are_never_withheld(board: SeriesRegistry, canvas: FakeExposition) -> None:
    """What the exporter counts of itself is shown at once; while a feed has history before it, nothing is newborn."""
    board.update(totals(POLLED))
    board.show_feed("acme", "publishing")
    other = (POLLS, ("acme", "publishing", "unavailable"))
    board.update(totals(other))
    assert {POLLED: 1, other: 1} == canvas.shown
    assert set() == canvas.newborn

    board.show_feed("acme", "connections")
    late = (POLLS, ("acme", "publishing", "bad_payload"))
    board.update(totals(late))
    assert {late} == canvas.newborn


def test_families_of_two_feeds(board: SeriesRegistry, canvas: FakeExposition) -> None:
    """A family that two feeds fill is shown with the first of them."""
    board.update(totals(ACCOUNT, value=LatestValue(1, "@acme")))
    board.show_feed("acme", "connections")
    assert {(INFO, ("acme", "tiktok", "a1", "@acme")): 1} == canvas.shown


def test_a_feed_that_is_not_read(canvas: FakeExposition) -> None:
    """Where only one feed is read, its first sync is all that is waited for, and the other's state is not shown."""
    board = SeriesRegistry(CATALOGUE, canvas, {"acme": frozenset({"publishing"})})
    board.restore(totals(PUBLISHED, CONNECTED), {"acme": ["publishing"]})
    board.update(totals(ACCOUNT, value=LatestValue(1, "@acme")))
    board.update(totals(POLLED))
    assert {PUBLISHED, POLLED, (INFO, ("acme", "tiktok", "a1", "@acme"))} == set(canvas.shown)
    assert {POLLED} == canvas.newborn, "gauges are not"


def test_workspaces_sync_by_themselves(canvas: FakeExposition) -> None:
    """A workspace whose first sync is complete shows nothing of another one."""
    board = SeriesRegistry(CATALOGUE, canvas, {"acme": BOTH, "umbrella": BOTH})
    other: Series = (LOGS, ("umbrella", "tiktok", "publish", "success"))
    board.update(totals(PUBLISHED, other))
    board.show_feed("acme", "publishing")
    assert {PUBLISHED} == set(canvas.shown)


def test_restore(board: SeriesRegistry, canvas: FakeExposition) -> None:
    """After a restart everything is shown again as it was, nothing as newborn; what comes then is."""
    board.restore(totals(PUBLISHED, CONNECTED, POLLED, value=9), {"acme": ["publishing", "connections"]})
    assert {PUBLISHED: 9, CONNECTED: 9, POLLED: 9} == canvas.shown

    board.update(totals(PUBLISHED, FAILED, value=10))
    assert {FAILED} == canvas.newborn


def test_restore_before_the_first_sync(board: SeriesRegistry, canvas: FakeExposition) -> None:
    """After a restart in the middle of a first sync its families stay withheld."""
    board.restore(totals(PUBLISHED, CONNECTED, POLLED), {"acme": ["connections"]})
    assert {CONNECTED, POLLED} == set(canvas.shown)

    board.update(totals(FAILED))
    board.show_feed("acme", "publishing")
    assert {CONNECTED, POLLED, PUBLISHED, FAILED} == set(canvas.shown)
    assert set() == canvas.newborn


def test_what_the_state_has_and_nobody_wants(board: SeriesRegistry, canvas: FakeExposition) -> None:
    """A workspace that is not configured any more and a family that is no longer there are not shown."""
    gone: Series = (LOGS, ("umbrella", "tiktok", "publish", "success"))
    polled: Series = (POLLS, ("umbrella", "publishing", "success"))
    board.restore(totals(gone, polled, ("late_old_total", ("acme",)), PUBLISHED), {"acme": ["publishing"]})
    assert {PUBLISHED} == set(canvas.shown)


VALUES: list[tuple[float | Histogram, str, Value]] = [
    (5, LOGS, 5),
    (0.5, "late_exporter_api_throttled_seconds_total", 0.5),
    (12.5, "late_publishing_last_log_timestamp_seconds", LatestValue(9, 12.5)),
    (1.0, "late_account_connected", LatestValue(9, 1)),
    (0, "late_account_consecutive_failures", FailureStreak(last_success=5)),
    (2, "late_account_consecutive_failures", FailureStreak(failures=(1, 2))),
    (
        1500,
        "late_account_consecutive_failures",
        FailureStreak(failures=tuple(range(1000)), older_failures=500, older_until=1),
    ),
    (Histogram((1.0, 2.0), (3, 0, 1), 7), "late_publishing_duration_seconds", Histogram((1.0, 2.0), (3, 0, 1), 7)),
    (Histogram((1.0, 2.0), (3, 0, 1), 7), "late_publishing_duration_seconds", Histogram((0.5, 9.0), (3, 0, 1), 7)),
]


@pytest.mark.parametrize(("expected", "family", "value"), VALUES)
def test_values(canvas: FakeExposition, expected: float | Histogram, family: str, value: Value) -> None:
    """Counts, readings, streaks and histograms are shown as numbers and by the bounds configured."""
    board = SeriesRegistry(build_catalogue((1.0, 2.0)), canvas, {"acme": BOTH})
    labels = ("acme", *("x" for _ in CATALOGUE[family].labels[1:]))
    board.restore({(family, labels): SeriesValue(value, 7.0)}, {"acme": BOTH})
    assert {(family, labels): expected} == canvas.shown
    assert (None if CATALOGUE[family].kind == "gauge" else 7.0) == canvas.created[family, labels]


def test_a_renamed_account(board: SeriesRegistry, canvas: FakeExposition) -> None:
    """An account that is called otherwise has one series, by its new name."""
    board.show_feed("acme", "publishing")
    for name in ("@old", "@old", "@new", "@newer"):
        board.update(totals(ACCOUNT, value=LatestValue(1, name)))
        assert {(INFO, ("acme", "tiktok", "a1", name)): 1} == canvas.shown
    board.update(totals((INFO, ("acme", "tiktok", "a2")), value=LatestValue(1, "@newer")))
    assert 2 == len(canvas.shown)
    assert set() == canvas.newborn


def test_gauges(board: SeriesRegistry, canvas: FakeExposition) -> None:
    """A gauge that is not of the state is set and removed; those of a feed wait for its first sync."""
    pending: Series = ("late_publishing_pending_logs", ("acme", "tiktok", "publish"))
    oldest: Series = ("late_publishing_oldest_pending_timestamp_seconds", ("acme", "tiktok"))
    board.set_gauge("late_up", ("acme", "publishing"), 1)
    board.set_gauge("late_exporter_build_info", ("1", "abc", "3.11"), 1)
    board.set_gauge(*pending, 3)
    board.set_gauge(*oldest, 12.5)
    board.remove_gauge(*oldest)
    assert {
        ("late_up", ("acme", "publishing")): 1,
        ("late_exporter_build_info", ("1", "abc", "3.11")): 1,
    } == canvas.shown

    board.show_feed("acme", "publishing")
    assert 3 == canvas.shown[pending]
    assert oldest not in canvas.shown
    board.set_gauge(*oldest, 13.5)
    assert 13.5 == canvas.shown[oldest]
    for _ in range(2):
        board.remove_gauge(*pending)
        board.remove_gauge(*oldest)
    assert {"late_up", "late_exporter_build_info"} == {family for family, _ in canvas.shown}
    assert set() == canvas.newborn


def test_exemplars(board: SeriesRegistry, canvas: FakeExposition) -> None:
    """An exemplar is attached in the family's unit, where its series is shown."""
    series: Series = ("late_publishing_duration_seconds", ("acme", "tiktok", "publish", "success"))
    exemplar = Exemplar((("log_id", "a"),), 5.0)
    board.add_exemplar(ObserveHistogram(*series, micros=2_340_000, exemplar=exemplar))
    board.update(totals(series, value=Histogram((), (1,))))
    board.add_exemplar(ObserveHistogram(*series, micros=2_340_000, exemplar=exemplar))
    assert [] == canvas.exemplars

    board.show_feed("acme", "publishing")
    board.add_exemplar(ObserveHistogram(*series, micros=2_340_000, exemplar=exemplar))
    board.add_exemplar(ObserveHistogram(*series, micros=1))
    assert [(series, 2.34, exemplar)] == canvas.exemplars


def test_provisional_counters(board: SeriesRegistry, canvas: FakeExposition) -> None:
    """What cannot be saved is shown on top of what was, and never falls while it is saved bit by bit."""
    board.restore(totals(POLLED, value=10), {"acme": BOTH})
    requests: Series = ("late_exporter_api_requests_total", ("acme", "/v1/posts/logs", "200"))
    for _ in range(3):
        board.add_unsaved([IncCounter(*POLLED), IncCounter(*requests, amount=2)])
    assert {POLLED: 13, requests: 6} == canvas.shown

    board.update({POLLED: SeriesValue(12, 7.0)})
    assert {POLLED: 13, requests: 6} == canvas.shown
    board.update({POLLED: SeriesValue(14, 7.0), requests: SeriesValue(6, 8.0)})
    assert {POLLED: 14, requests: 6} == canvas.shown
    board.add_unsaved([IncCounter(*POLLED)])
    assert 15 == canvas.shown[POLLED]
    values = [value for series, value in canvas.seen if series == POLLED]
    assert sorted(values, key=lambda value: value if isinstance(value, int) else math.inf) == values


def apply(board: SeriesRegistry, family: str, *rows: tuple[Any, ...]) -> None:
    """Make rows of labels, value and birth durable."""
    for *labels, value, created in rows:
        board.update({(family, ("acme", *labels)): SeriesValue(value, created)})


def test_platforms_for_people(board: SeriesRegistry) -> None:
    """What is shown of a workspace's publishing logs is summed up a platform; platforms without logs are left out."""
    assert () == board.platform_health("acme")
    apply(
        board,
        LOGS,
        ("tiktok", "publish", "success", 5, 50.0),
        ("tiktok", "retry", "success", 1, 40.0),
        ("tiktok", "retry", "failed", 2, 60.0),
        ("tiktok", "publish", "skipped", 3, 60.0),
        ("tiktok", "publish", "pending", 9, 60.0),
        ("tiktok", "media_upload", "failed", 7, 60.0),
        ("bluesky", "media_upload", "success", 1, 60.0),
        ("reddit", "publish", "success", 0, 60.0),
    )
    apply(
        board,
        "late_publishing_last_log_timestamp_seconds",
        ("tiktok", "publish", "success", LatestValue(2, 0.002), 1.0),
        ("tiktok", "publish", "failed", LatestValue(3, 0.003), 1.0),
    )
    board.set_gauge("late_publishing_pending_logs", ("acme", "tiktok", "publish"), 2)
    board.set_gauge("late_publishing_pending_logs", ("acme", "tiktok", "retry"), 1)
    assert () == board.platform_health("acme"), "not before the first sync is complete"

    board.show_feed("acme", "publishing")
    expected = (
        PlatformHealth(name="bluesky", counted_since=60.0),
        PlatformHealth(name="tiktok", counted_since=40.0, published=6, failed=2, final=11, pending=3, last_log=0.003),
    )
    assert expected == board.platform_health("acme")
    assert () == board.platform_health("umbrella")

    board.remove_gauge("late_publishing_pending_logs", ("acme", "tiktok", "publish"))
    assert 1 == board.platform_health("acme")[1].pending


def test_failing_accounts_for_people(board: SeriesRegistry) -> None:
    """The accounts that fail are told by name, those with the longest streak first."""
    board.show_feed("acme", "publishing")
    apply(
        board,
        "late_account_consecutive_failures",
        ("tiktok", "a1", FailureStreak(failures=(1,)), 1.0),
        ("tiktok", "a2", FailureStreak(failures=(1, 2)), 1.0),
        ("reddit", "a3", FailureStreak(failures=(1,)), 1.0),
        ("reddit", "a4", FailureStreak(last_success=1), 1.0),
    )
    apply(
        board,
        INFO,
        ("tiktok", "a2", LatestValue(1, "@acme"), 1.0),
        ("reddit", "a3", LatestValue(1, "unknown"), 1.0),
    )
    expected = (
        AccountHealth(platform="tiktok", account_id="a2", username="@acme", consecutive_failures=2),
        AccountHealth(platform="reddit", account_id="a3", username="", consecutive_failures=1),
        AccountHealth(platform="tiktok", account_id="a1", username="", consecutive_failures=1),
    )
    assert expected == board.failing_accounts("acme")

    apply(board, "late_account_consecutive_failures", ("tiktok", "a2", FailureStreak(last_success=3), 1.0))
    assert ["a3", "a1"] == [account.account_id for account in board.failing_accounts("acme")]
