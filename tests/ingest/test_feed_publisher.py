"""Which observations of a commit become exemplars."""

from __future__ import annotations

import pytest

from late_exporter.ingest.feed_publisher import LAG, select_exemplars
from late_exporter.model import LogEntry, Observation
from late_exporter.series import Exemplar, ObserveHistogram

BOUNDS = (1.0, 10.0)


def observation(key: str, time: float, seconds: float, platform: str = "x") -> Observation:
    """Return a log with a duration, created at a time."""
    exemplar = Exemplar((("log_id", key),), time)
    labels = ("default", platform)
    increment = ObserveHistogram("duration", labels, micros=int(seconds * 1e6), bounds=BOUNDS, exemplar=exemplar)
    return Observation(LogEntry(key=key, status="success"), (increment,))


def selected(*observations: Observation) -> list[str]:
    """Return the keys of the logs of the exemplars."""
    exemplars, _ = select_exemplars(observations)
    return [increment.exemplar.labels[0][1] for increment in exemplars if increment.exemplar is not None]


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
    """The last lag is that of the last log, in seconds."""
    lags = [ObserveHistogram(LAG, ("default",), micros=micros, bounds=BOUNDS) for micros in (3_000_000, 2_500_000)]
    observations = [Observation(LogEntry(key="k", status="success"), (lag,)) for lag in lags]
    assert ([], 2.5) == select_exemplars(observations)
