"""Checks at the end of a soak: the state, the metrics, counter resets and memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from late_exporter.model import PENDING, Scope
from late_exporter.store.snapshot import Snapshot
from tests.e2e.prometheus import PrometheusApi
from tests.soak.world import LogCounts, SoakWorld
from tests.support.samples import Samples

__all__ = [
    "MemoryHistory",
    "ProcessMemory",
    "StateCheck",
    "check_state",
    "exposed_counts",
    "find_count_differences",
    "find_counter_resets",
    "find_falls",
    "find_missing",
    "slope",
]

LOGS_FAMILY = "late_publishing_logs_total"
COUNTER_SUFFIXES = ("_total", "_bucket", "_count", "_sum")

MAX_GROWTH_RATIO, GROWTH_SLACK_KIB = 1.25, 16 * 1024
"""Allowed growth of memory from the first to the second half of a soak: a ratio, plus a number of KiB."""

MIN_LEAK_WINDOW = 600.0
"""Seconds of samples from which a leak can be told, after the same time for caches to fill.

Python takes memory from the system in arenas of 1 MiB, so that a process grows in steps. In a soak of 25 minutes one
grew by 3 MiB in nine minutes, while the blocks in use became fewer.
"""

MAX_LEAK_SLOPE = 256.0
"""Allowed growth of a process with full caches, in KiB per minute."""


class ProcessMemory(NamedTuple):
    """Memory samples of one process: pairs of seconds and KiB."""

    samples: list[tuple[float, float]]

    @property
    def kib_per_minute(self) -> float:
        """Return the growth in KiB per minute."""
        return slope(self.samples) * 60

    @property
    def seconds(self) -> float:
        """Return the time between the first and the last sample."""
        return self.samples[-1][0] - self.samples[0][0] if self.samples else 0.0

    @property
    def second_half(self) -> ProcessMemory:
        """Return the second half of the samples, in which caches are full and growth is a leak."""
        return ProcessMemory(self.samples[len(self.samples) // 2 :])


class MemoryHistory:
    """Memory samples of all processes of a soak, in the order of their starts."""

    def __init__(self) -> None:
        self.processes: list[ProcessMemory] = []

    @property
    def samples(self) -> list[tuple[float, float]]:
        """Return the samples of all processes."""
        return [sample for process in self.processes for sample in process.samples]

    @property
    def longest_process(self) -> ProcessMemory:
        """Return the process with the longest time of samples."""
        return max(self.processes, key=lambda process: process.seconds, default=ProcessMemory([]))

    def halves(self) -> tuple[float, float]:
        """Return the mean memory of the first and the second half of all samples, in KiB."""
        sizes = [size for _, size in self.samples]
        middle = len(sizes) // 2
        return _mean(sizes[:middle]), _mean(sizes[middle:])

    def find_problems(self) -> Iterator[str]:
        """Yield problems: growth from process to process, or within the longest one."""
        first, second = self.halves()
        if second > first * MAX_GROWTH_RATIO + GROWTH_SLACK_KIB:
            yield f"memory grows: {first / 1024:.1f} MiB in the first half, {second / 1024:.1f} MiB in the second"
        second_half = self.longest_process.second_half
        if second_half.seconds >= MIN_LEAK_WINDOW and second_half.kib_per_minute > MAX_LEAK_SLOPE:
            growth, seconds = second_half.kib_per_minute, second_half.seconds
            yield f"memory leaks: {growth:+,.0f} KiB/min in the last {seconds:.0f} s of a process"


def slope(samples: Sequence[tuple[float, float]]) -> float:
    """Return the slope of a least-squares line through points, 0 if it is undefined."""
    if not samples:
        return 0.0
    x_mean, y_mean = _mean([x for x, _ in samples]), _mean([y for _, y in samples])
    variance = sum((x - x_mean) ** 2 for x, _ in samples)
    return sum((x - x_mean) * (y - y_mean) for x, y in samples) / variance if variance else 0.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def exposed_counts(samples: Samples, workspace: str) -> LogCounts:
    """Return the exposed counts of the final statuses of a workspace."""
    values = samples.family(LOGS_FAMILY, workspace=workspace)
    return LogCounts({(key[0], key[1], key[2]): int(value) for key, value in values.items() if key[2] != PENDING})


def find_count_differences(expected: LogCounts, exposed: LogCounts) -> Iterator[str]:
    """Yield the series whose exposed value is not the number of logs."""
    for key in sorted(expected | exposed):
        if expected[key] != exposed[key]:
            yield f"{'/'.join(key)}: there are {expected[key]:,} logs, /metrics shows {exposed[key]:,}"


class StateCheck(NamedTuple):
    """Counted logs of a workspace in the state, by series, and the problems found."""

    counts: LogCounts
    problems: Sequence[str]


def check_state(world: SoakWorld, snapshot: Snapshot, workspace: str) -> StateCheck:
    """Check that the state has every log once in its final status, unless the log was deleted before that."""
    rows, statuses_by_key = world.rows, dict[str, list[str]]()
    for observation in snapshot.recorded_statuses(Scope(workspace, "publishing")):
        statuses_by_key.setdefault(observation.key, []).append(observation.status)
    counts, problems = LogCounts(), list[str]()
    for key in statuses_by_key.keys() | rows.keys():
        row, final_statuses = rows.get(key), [status for status in statuses_by_key.get(key, ()) if status != PENDING]
        if row is None:
            problems.append(f"{workspace}: {key} was counted but never existed")
        elif final_statuses not in ([], [row["status"]]):
            problems.append(f"{workspace}: {key} is {row['status']}, counted as {', '.join(final_statuses)}")
        elif final_statuses:
            counts[row["platform"], row["action"], row["status"]] += 1
        elif row["status"] != PENDING and key not in world.deleted:
            problems.append(f"{workspace}: {key} is {row['status']}, but not counted")
    return StateCheck(counts, problems)


def find_counter_resets(database: PrometheusApi, seconds: float) -> Iterator[str]:
    """Yield the counters that Prometheus saw fall or vanish in the last seconds."""
    if LOGS_FAMILY not in _counters(database):
        yield f"Prometheus has no {LOGS_FAMILY}"
    yield from find_falls(database, seconds)
    yield from find_missing(database, seconds)


def find_falls(database: PrometheusApi, seconds: float, selector: str = "") -> Iterator[str]:
    """Yield the counters that fell in the last seconds.

    Args:
        database: The Prometheus.
        seconds: Time to look back.
        selector: Labels of the counters, in braces; empty for all.
    """
    for name in _counters(database):
        for row in database.query(f"resets({name}{selector}[{round(seconds)}s]) > 0"):
            yield f"{name}{row['metric']} fell {row['value'][1]} times"


def find_missing(database: PrometheusApi, seconds: float, selector: str = "") -> Iterator[str]:
    """Yield the counters of the last seconds that are missing now; arguments as above."""
    for name in _counters(database):
        family = f"{name}{selector}"
        for row in database.query(f"last_over_time({family}[{round(seconds)}s]) unless {family}"):
            yield f"{name}{row['metric']} vanished"


def _counters(database: PrometheusApi) -> list[str]:
    names = database.call_api("label/__name__/values")
    return [name for name in names if name.startswith("late_") and name.endswith(COUNTER_SUFFIXES)]
