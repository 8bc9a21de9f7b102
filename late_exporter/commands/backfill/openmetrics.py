"""Write history as OpenMetrics: every sample with its time, grouped by family and series."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from typing import IO

import msgspec

from late_exporter.commands.backfill.history import SampleValue, SeriesHistory, apply_delta
from late_exporter.exposition.family import Family
from late_exporter.exposition.text import FamilyFormatter

# Milliseconds between two samples of an unchanged series; Prometheus considers a series gone after five minutes.
MAX_SAMPLE_GAP = 240_000
TIMESTAMP_BYTES = 11
DENSE_WINDOW = 3_600_000  # milliseconds around a change in which a series has a sample at every step


class SampleGrid(msgspec.Struct, frozen=True):
    """Times of the samples, in milliseconds, at whole multiples of the step, so that full hours are among them."""

    since: int
    step: int

    @property
    def sparse_step(self) -> int:
        """Time between two samples of an unchanged series."""
        return max(MAX_SAMPLE_GAP // self.step, 1) * self.step

    def timestamps(self, end: int) -> range:
        """Return the times until ``end``; they do not depend on when a command runs, so that it can be repeated."""
        return range(-(-self.since // self.sparse_step) * self.sparse_step, end + 1, self.step)


def samples(history: SeriesHistory, timestamps: range) -> Iterator[tuple[int, SampleValue]]:
    """Yield the samples of a series.

    ``increase()`` and ``rate()`` extrapolate by the distances of samples, so that sparse ones make them wrong. Within
    an hour of a change, a series has a sample at every step: ranges of up to an hour see the same as with a scrape at
    each step. For the rest, which is most of a file, one sample every four minutes is enough.
    """
    value, index, last_timestamp = history.base, 0, None
    for timestamp in timestamps:
        while index < len(history.deltas) and history.deltas[index].at <= timestamp:
            value = apply_delta(history.family, value, history.deltas[index].amount)
            index += 1
        if value is None:
            continue
        is_due = (
            last_timestamp is None
            or timestamp + timestamps.step - last_timestamp > MAX_SAMPLE_GAP
            or timestamp == timestamps[-1]
        )
        neighbours = history.deltas[max(0, index - 1) : index + 1]
        if is_due or any(abs(delta.at - timestamp) <= DENSE_WINDOW for delta in neighbours):
            yield timestamp, value
            last_timestamp = timestamp


def sort_histories(histories: Iterable[SeriesHistory], families: Mapping[str, Family]) -> list[SeriesHistory]:
    """Return histories in the order of ``families``, then by their labels."""
    order = {name: index for index, name in enumerate(families)}
    return sorted(histories, key=lambda history: (order[history.family.name], history.labels))


def estimate_size(histories: Iterable[SeriesHistory], grid: SampleGrid, target_labels: Mapping[str, str]) -> int:
    """Return about how many bytes ``write_openmetrics`` writes, in a fraction of its time."""
    formatters: dict[str, FamilyFormatter] = {}
    size = 0
    for history in histories:
        family = history.family
        formatter = formatters.get(family.name)
        if formatter is None:
            labelled_family = msgspec.structs.replace(family, labels=(*family.labels, *target_labels))
            formatter = formatters[family.name] = FamilyFormatter(labelled_family)
        value = history.base
        if value is None and history.deltas:
            value = apply_delta(family, None, history.deltas[0].amount)
        if value is not None:
            lines = formatter.samples((*history.labels, *target_labels.values()), value)
            size += _count_samples(history, grid) * sum(len(line) + 1 + TIMESTAMP_BYTES for line in lines)
    return size


def _count_samples(history: SeriesHistory, grid: SampleGrid) -> int:
    """Return about how many samples a series has."""
    times = [delta.at for delta in history.deltas]
    start = grid.since if history.base is not None else max(grid.since, times[0])
    dense_end = start
    dense_time = 0
    for time in times:
        dense_time += max(0, min(time + DENSE_WINDOW, history.until) - max(time - DENSE_WINDOW, dense_end))
        dense_end = max(dense_end, time + DENSE_WINDOW)
    return dense_time // grid.step + max(history.until - start - dense_time, 0) // grid.sparse_step + 1


def write_openmetrics(
    file: IO[bytes],
    histories: Iterable[SeriesHistory],
    grid: SampleGrid,
    target_labels: Mapping[str, str],
    *,
    on_progress: Callable[[int], object] = lambda _: None,
) -> int:
    """Write sorted series with target labels in every sample; return the number of samples."""
    sample_count = series_count = 0
    for family, group in groupby(histories, key=lambda history: history.family):
        formatter = FamilyFormatter(msgspec.structs.replace(family, labels=(*family.labels, *target_labels)))
        file.write(formatter.header[1])
        for history in group:
            for text in _series_text(formatter, history, (*history.labels, *target_labels.values()), grid):
                file.write(text)
                sample_count += text.count(b"\n")
            series_count += 1
            on_progress(series_count)
    file.write(b"# EOF\n")
    return sample_count


def _series_text(
    formatter: FamilyFormatter, history: SeriesHistory, labels: tuple[str, ...], grid: SampleGrid
) -> Iterator[bytes]:
    last_value: SampleValue | None = None
    lines: list[str] = []
    for timestamp, value in samples(history, grid.timestamps(history.until)):
        if value is not last_value:
            lines, last_value = formatter.samples(labels, value), value
        seconds, millis = divmod(timestamp, 1000)
        suffix = f" {seconds}.{millis:03d}\n" if millis else f" {seconds}\n"
        yield "".join(line + suffix for line in lines).encode(errors="replace")
