"""Which logs of a commit become exemplars, and what its last lag is."""

from __future__ import annotations

import pytest

from late_exporter.exposition.exposition import Exposition
from late_exporter.ingest.feed_publisher import FeedPublisher, last_lag, select_exemplars
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.metrics.labels import LabelLimiter
from late_exporter.metrics.names import PENDING_LOGS
from late_exporter.metrics.registry import SeriesRegistry
from late_exporter.model import LogEntry, Observation, PendingLog, Scope
from late_exporter.series import ObserveLog

NOW = 10_000


def observation(key: str, created: int | None, seconds: float, platform: str = "x") -> Observation:
    """Return a log with a duration."""
    entry = LogEntry(key=key, status="success", created=created, duration=int(seconds * 1e6))
    labels = ("default", platform)
    increment = ObserveLog("duration", labels, number="duration", bounds=(1.0, 10.0), has_exemplar=True)
    return Observation(entry, (increment,))


def selected(*observations: Observation) -> list[str]:
    """Return the keys of the logs of the exemplars."""
    exemplars = [observed.exemplar for observed in select_exemplars(observations, NOW)]
    return [exemplar.labels[0][1] for exemplar in exemplars if exemplar is not None]


@pytest.mark.parametrize("newest_first", [False, True])
def test_the_newest_log_of_a_bucket_is_its_exemplar(*, newest_first: bool) -> None:
    """A catch-up reads from new to old, so the order of the logs does not matter."""
    logs = [observation("old", 1, 5), observation("newer", 2, 6), observation("newest", 3, 10)]
    assert ["newest"] == selected(*(reversed(logs) if newest_first else logs))


def test_each_bucket_of_each_series_has_its_exemplar() -> None:
    """Buckets include their bounds, and other series have exemplars of their own."""
    logs = (observation("a", 1, 1.0), observation("b", 2, 1.1), observation("c", 3, 11), observation("d", 0, 1, "y"))
    assert ["a", "b", "c", "d"] == selected(*logs)


def test_the_last_lag() -> None:
    """The last lag is that of the last log with a time, in seconds."""
    logs = (observation("a", 1_000, 1), observation("b", 4_000, 1), observation("c", None, 1))
    assert last_lag(logs, NOW) == 6.0
    assert last_lag(logs[2:], NOW) is None


def test_pending_gauges_are_set_if_they_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """A poll without a change of the pending logs or the platforms sets no gauge; others set all."""
    limiter = LabelLimiter(CATALOGUE)
    registry = SeriesRegistry(CATALOGUE, Exposition(CATALOGUE))
    registry.add_workspace("acme")
    publisher = FeedPublisher(Scope("acme", "publishing"), registry, limiter)
    gauges: list[tuple[tuple[str, ...], float]] = []
    monkeypatch.setattr(registry, "set_gauge", lambda _, labels, value: gauges.append((labels[1:], value)))
    monkeypatch.setattr(registry, "remove_gauge", lambda *_: None)
    pending = {"a": PendingLog("a", 0, "x", "publish", None)}
    for _ in range(2):
        publisher.update_pending_gauges(pending)
        publisher.update_pending_gauges(dict(pending))
    assert [(("x", "publish"), 1)] == gauges

    limiter.restore(
        [(PENDING_LOGS, ("acme", "y", "publish")), ("late_publishing_logs_total", ("acme", "y", "publish", "success"))]
    )
    publisher.update_pending_gauges(pending)
    assert {("x", "publish"): 1, ("y", "publish"): 0} == dict(gauges[1:])
    publisher.update_pending_gauges({})
    assert {("x", "publish"): 0, ("y", "publish"): 0} == dict(gauges[3:])
