"""What a soak has to come to, and what it came to instead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from late_exporter.model import PENDING, Scope
from late_exporter.store import StateSnapshot
from tests.e2e.prometheus import PrometheusApi
from tests.soak.stage import LogCounts, SoakWorld
from tests.support.worlds import Samples

__all__ = [
    "MemoryHistory",
    "ProcessMemory",
    "StateCheck",
    "check_state",
    "exposed_counts",
    "find_count_differences",
    "find_counter_resets",
    "slope",
]

LOGS_FAMILY = "late_publishing_logs_total"
COUNTER_SUFFIXES = ("_total", "_bucket", "_count", "_sum")

MAX_GROWTH_RATIO, GROWTH_SLACK_KIB = 1.25, 16 * 1024
"""By how much, and by how many KiB on top, the second half of a soak may take more memory than the first."""

MIN_LEAK_WINDOW = 120.0
"""Seconds for which a process has to be watched, after as long a time to settle, to tell whether it leaks."""

MAX_LEAK_SLOPE = 256.0
"""KiB a minute by which a process that has settled may grow."""


class ProcessMemory(NamedTuple):
    """The memory of one process: pairs of seconds and KiB."""

    samples: list[tuple[float, float]]

    @property
    def kib_per_minute(self) -> float:
        """KiB a minute."""
        return slope(self.samples) * 60

    @property
    def seconds(self) -> float:
        """How long it was watched."""
        return self.samples[-1][0] - self.samples[0][0] if self.samples else 0.0

    @property
    def second_half(self) -> ProcessMemory:
        """Its second half: caches are full by then, and what grows still is a leak."""
        return ProcessMemory(self.samples[len(self.samples) // 2 :])


class MemoryHistory:
    """The memory of all processes of a soak, one after the other."""

    def __init__(self) -> None:
        self.processes: list[ProcessMemory] = []

    @property
    def samples(self) -> list[tuple[float, float]]:
        """Those of all lives."""
        return [sample for life in self.processes for sample in life.samples]

    @property
    def longest_process(self) -> ProcessMemory:
        """The life that was watched for the longest time."""
        return max(self.processes, key=lambda life: life.seconds, default=ProcessMemory([]))

    def halves(self) -> tuple[float, float]:
        """The mean of the first half and of the second one, in KiB."""
        sizes = [size for _, size in self.samples]
        middle = len(sizes) // 2
        return _mean(sizes[:middle]), _mean(sizes[middle:])

    def find_problems(self) -> Iterator[str]:
        """Whether it grew: from process to process, or within the one that lived longest."""
        first, second = self.halves()
        if second > first * MAX_GROWTH_RATIO + GROWTH_SLACK_KIB:
            yield f"memory grows: {first / 1024:.1f} MiB in the first half, {second / 1024:.1f} MiB in the second"
        second_half = self.longest_process.second_half
        if second_half.seconds >= MIN_LEAK_WINDOW and second_half.kib_per_minute > MAX_LEAK_SLOPE:
            yield f"memory leaks: {second_half.kib_per_minute:+,.0f} KiB/min in the last {second_half.seconds:.0f} s of a process"


def slope(samples: Sequence[tuple[float, float]]) -> float:
    """By how much the second number grows with the first one, by least squares; 0 where nothing can be said."""
    if not samples:
        return 0.0
    x_mean, y_mean = _mean([x for x, _ in samples]), _mean([y for _, y in samples])
    variance = sum((x - x_mean) ** 2 for x, _ in samples)
    return sum((x - x_mean) * (y - y_mean) for x, y in samples) / variance if variance else 0.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def exposed_counts(samples: Samples, workspace: str) -> LogCounts:
    """What the exporter shows of a workspace, without the statuses that pass."""
    values = samples.family(LOGS_FAMILY, workspace=workspace)
    return LogCounts({(key[0], key[1], key[2]): int(value) for key, value in values.items() if key[2] != PENDING})


def find_count_differences(expected: LogCounts, exposed: LogCounts) -> Iterator[str]:
    """Where the metrics are not what the logs come to."""
    for key in sorted(expected | exposed):
        if expected[key] != exposed[key]:
            yield f"{'/'.join(key)}: there are {expected[key]:,} logs, {exposed[key]:,} are shown"


class StateCheck(NamedTuple):
    """What the state has counted of a workspace, by kind, and what is wrong with that."""

    counts: LogCounts
    problems: Sequence[str]


def check_state(world: SoakWorld, records: StateSnapshot, workspace: str) -> StateCheck:
    """Look every log up: it has to be held once in its final status, unless it was deleted before that."""
    rows, statuses_by_key = world.rows, dict[str, list[str]]()
    for sighting in records.recorded_statuses(Scope(workspace, "publishing")):
        statuses_by_key.setdefault(sighting.key, []).append(sighting.status)
    counts, problems = LogCounts(), list[str]()
    for key in statuses_by_key.keys() | rows.keys():
        row, final_statuses = rows.get(key), [status for status in statuses_by_key.get(key, ()) if status != PENDING]
        if row is None:
            problems.append(f"{workspace}: {key} was counted and never was")
        elif final_statuses not in ([], [row["status"]]):
            problems.append(f"{workspace}: {key} is {row['status']}, counted as {', '.join(final_statuses)}")
        elif final_statuses:
            counts[row["platform"], row["action"], row["status"]] += 1
        elif row["status"] != PENDING and key not in world.deleted:
            problems.append(f"{workspace}: {key} is {row['status']}, and not counted")
    return StateCheck(counts, problems)


def find_counter_resets(database: PrometheusApi, seconds: float) -> Iterator[str]:
    """The counters that Prometheus saw fall or vanish within the last seconds."""
    metric_names = [name for name in database.call_api("label/__name__/values") if name.startswith("late_")]
    counters = [name for name in metric_names if name.endswith(COUNTER_SUFFIXES)]
    if LOGS_FAMILY not in counters:
        yield f"Prometheus has no {LOGS_FAMILY}"
    period = f"[{round(seconds)}s]"
    for name in counters:
        for row in database.query(f"resets({name}{period}) > 0"):
            yield f"{name}{row['metric']} fell {row['value'][1]} times"
        for row in database.query(f"last_over_time({name}{period}) unless {name}"):
            yield f"{name}{row['metric']} vanished"
