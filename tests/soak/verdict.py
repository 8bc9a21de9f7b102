"""What a soak has to come to, and what it came to instead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from late_exporter.model import PENDING, Scope
from late_exporter.store import StateSnapshot
from tests.e2e.prometheus import PrometheusApi
from tests.soak.stage import Counts, Stage
from tests.support.samples import Samples

__all__ = ["Ledger", "Life", "Memory", "counted", "differences", "examine", "falls", "slope"]

LOGS = "late_publishing_logs_total"
COUNTERS = ("_total", "_bucket", "_count", "_sum")

GROWTH, SLACK = 1.25, 16 * 1024
"""By how much, and by how many KiB on top, the second half of a soak may take more memory than the first."""

SETTLED = 120.0
"""Seconds for which a process has to be watched, after as long a time to settle, to tell whether it leaks."""

STEEPEST = 256.0
"""KiB a minute by which a process that has settled may grow."""


class Life(NamedTuple):
    """The memory of one process: pairs of seconds and KiB."""

    samples: list[tuple[float, float]]

    @property
    def slope(self) -> float:
        """KiB a minute."""
        return slope(self.samples) * 60

    @property
    def seconds(self) -> float:
        """How long it was watched."""
        return self.samples[-1][0] - self.samples[0][0] if self.samples else 0.0

    @property
    def settled(self) -> Life:
        """Its second half: caches are full by then, and what grows still is a leak."""
        return Life(self.samples[len(self.samples) // 2 :])


class Memory:
    """The memory of all processes of a soak, one after the other."""

    def __init__(self) -> None:
        self.lives: list[Life] = []

    @property
    def samples(self) -> list[tuple[float, float]]:
        """Those of all lives."""
        return [sample for life in self.lives for sample in life.samples]

    @property
    def longest(self) -> Life:
        """The life that was watched for the longest time."""
        return max(self.lives, key=lambda life: life.seconds, default=Life([]))

    def halves(self) -> tuple[float, float]:
        """The mean of the first half and of the second one, in KiB."""
        sizes = [size for _, size in self.samples]
        middle = len(sizes) // 2
        return _mean(sizes[:middle]), _mean(sizes[middle:])

    def faults(self) -> Iterator[str]:
        """Whether it grew: from process to process, or within the one that lived longest."""
        first, second = self.halves()
        if second > first * GROWTH + SLACK:
            yield f"memory grows: {first / 1024:.1f} MiB in the first half, {second / 1024:.1f} MiB in the second"
        settled = self.longest.settled
        if settled.seconds >= SETTLED and settled.slope > STEEPEST:
            yield f"memory leaks: {settled.slope:+,.0f} KiB/min in the last {settled.seconds:.0f} s of a process"


def slope(samples: Sequence[tuple[float, float]]) -> float:
    """By how much the second number grows with the first one, by least squares; 0 where nothing can be said."""
    if not samples:
        return 0.0
    x_mean, y_mean = _mean([x for x, _ in samples]), _mean([y for _, y in samples])
    spread = sum((x - x_mean) ** 2 for x, _ in samples)
    return sum((x - x_mean) * (y - y_mean) for x, y in samples) / spread if spread else 0.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def counted(samples: Samples, workspace: str) -> Counts:
    """What the exporter shows of a workspace, without the statuses that pass."""
    found = samples.family(LOGS, workspace=workspace)
    return Counts({(key[0], key[1], key[2]): int(value) for key, value in found.items() if key[2] != PENDING})


def differences(ledger: Counts, shown: Counts) -> Iterator[str]:
    """Where the metrics are not what the logs come to."""
    for key in sorted(ledger | shown):
        if ledger[key] != shown[key]:
            yield f"{'/'.join(key)}: there are {ledger[key]:,} logs, {shown[key]:,} are shown"


class Ledger(NamedTuple):
    """What the state has counted of a workspace, by kind, and what is wrong with that."""

    counts: Counts
    wrong: Sequence[str]


def examine(stage: Stage, records: StateSnapshot, workspace: str) -> Ledger:
    """Look every log up: it has to be held once in its final status, unless it was deleted before that."""
    rows, held = stage.rows, dict[str, list[str]]()
    for sighting in records.recorded_statuses(Scope(workspace, "publishing")):
        held.setdefault(sighting.key, []).append(sighting.status)
    counts, wrong = Counts(), list[str]()
    for key in held.keys() | rows.keys():
        row, final = rows.get(key), [status for status in held.get(key, ()) if status != PENDING]
        if row is None:
            wrong.append(f"{workspace}: {key} was counted and never was")
        elif final not in ([], [row["status"]]):
            wrong.append(f"{workspace}: {key} is {row['status']}, counted as {', '.join(final)}")
        elif final:
            counts[row["platform"], row["action"], row["status"]] += 1
        elif row["status"] != PENDING and key not in stage.deleted:
            wrong.append(f"{workspace}: {key} is {row['status']}, and not counted")
    return Ledger(counts, wrong)


def falls(database: PrometheusApi, seconds: float) -> Iterator[str]:
    """The counters that Prometheus saw fall or vanish within the last seconds."""
    names = [name for name in database.call_api("label/__name__/values") if name.startswith("late_")]
    counters = [name for name in names if name.endswith(COUNTERS)]
    if LOGS not in counters:
        yield f"Prometheus has no {LOGS}"
    period = f"[{round(seconds)}s]"
    for name in counters:
        for row in database.query(f"resets({name}{period}) > 0"):
            yield f"{name}{row['metric']} fell {row['value'][1]} times"
        for row in database.query(f"last_over_time({name}{period}) unless {name}"):
            yield f"{name}{row['metric']} vanished"
