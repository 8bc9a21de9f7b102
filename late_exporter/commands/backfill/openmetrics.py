"""A past in OpenMetrics: every sample with its time, family by family, series by series."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from typing import IO

import msgspec

from late_exporter.commands.backfill.history import SampleValue, SeriesHistory, apply_delta
from late_exporter.exposition.family import Family
from late_exporter.exposition.text import FamilyFormatter

__all__ = ["SampleGrid", "samples", "write_openmetrics"]

MAX_SAMPLE_GAP = 240_000
"""A series that does not move is written this often: after five minutes without a sample Prometheus takes it to be
gone."""

DENSE_WINDOW = 3_600_000
"""How close to a move every moment has a sample."""


class SampleGrid(msgspec.Struct, frozen=True):
    """The moments that get samples, in milliseconds.

    Args:
        since: The first one may not be before.
        step: Between two; they are whole multiples of it, so that full hours are among them.
    """

    since: int
    step: int

    def timestamps(self, end: int) -> range:
        """The moments up to an end."""
        return range(-(-self.since // self.step) * self.step, end + 1, self.step)


def samples(history: SeriesHistory, moments: range) -> Iterator[tuple[int, SampleValue]]:
    """The samples of a series.

    ``increase()`` and ``rate()`` extrapolate by the distances between samples, so that thin ones make them wrong.
    Within an hour of a move every moment has a sample: ranges of up to an hour see what they would have seen of a
    scrape at each of them. For the rest, which is most of a file, one in four minutes is enough.
    """
    value, place, written = history.base, 0, None
    for moment in moments:
        while place < len(history.deltas) and history.deltas[place].at <= moment:
            value = apply_delta(history.family, value, history.deltas[place].amount)
            place += 1
        if value is None:
            continue
        due = written is None or moment + moments.step - written > MAX_SAMPLE_GAP or moment == moments[-1]
        if due or any(abs(near.at - moment) <= DENSE_WINDOW for near in history.deltas[max(0, place - 1) : place + 1]):
            yield moment, value
            written = moment


def write_openmetrics(
    file: IO[bytes],
    histories: Iterable[SeriesHistory],
    families: Mapping[str, Family],
    grid: SampleGrid,
    target: Mapping[str, str],
    *,
    on_progress: Callable[[int], object] = lambda _: None,
) -> int:
    """Write series to a file; returns how many lines with samples there are.

    Args:
        file: Takes them as they come.
        histories: The series.
        families: In the order in which they are to stand.
        grid: When they have samples.
        target: Labels that each sample gets.
        on_progress: Hears how many series are written.
    """
    order = {name: number for number, name in enumerate(families)}
    ordered = sorted(histories, key=lambda track: (order[track.family.name], track.labels))
    written = done = 0
    for family, group in groupby(ordered, key=lambda track: track.family):
        writer = FamilyFormatter(msgspec.structs.replace(family, labels=(*family.labels, *target)))
        file.write(writer.header()[1])
        for track in group:
            for text in _series(writer, track, (*track.labels, *target.values()), grid):
                file.write(text)
                written += writer.line_count
            done += 1
            on_progress(done)
    file.write(b"# EOF\n")
    return written


def _series(
    writer: FamilyFormatter, track: SeriesHistory, labels: tuple[str, ...], grid: SampleGrid
) -> Iterator[bytes]:
    """The lines of a series, moment by moment."""
    held: SampleValue | None = None
    lines: list[str] = []
    for moment, value in samples(track, grid.timestamps(track.until)):
        if value is not held:
            lines, held = [line[:-1] for line in writer.text_lines(labels, value)], value
        stamp = f" {moment // 1000}.{moment % 1000:03d}\n" if moment % 1000 else f" {moment // 1000}\n"
        yield "".join(line + stamp for line in lines).encode(errors="replace")
