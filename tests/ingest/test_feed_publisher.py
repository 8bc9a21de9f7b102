"""Which logs of a commit become exemplars, and what its last lag is."""

from __future__ import annotations

import pytest

from late_exporter.ingest.feed_publisher import last_lag, select_exemplars
from late_exporter.model import LogEntry, Observation
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
