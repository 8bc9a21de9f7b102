"""What the last lag of a commit is."""

from __future__ import annotations

from late_exporter.ingest.feed_publisher import last_lag
from late_exporter.model import LogEntry, Observation
from late_exporter.series import ObserveLog

NOW = 10_000


def observation(key: str, created: int | None, seconds: float, platform: str = "x") -> Observation:
    """Return a log with a duration."""
    entry = LogEntry(key=key, status="success", created=created, duration=int(seconds * 1e6))
    labels = ("default", platform)
    increment = ObserveLog("duration", labels, number="duration", bounds=(1.0, 10.0), has_exemplar=True)
    return Observation(entry, (increment,))


def test_the_last_lag() -> None:
    """The last lag is that of the last log with a time, in seconds."""
    logs = (observation("a", 1_000, 1), observation("b", 4_000, 1), observation("c", None, 1))
    assert last_lag(logs, NOW) == 6.0
    assert last_lag(logs[2:], NOW) is None
