"""Write the history of counters as OpenMetrics, with the samples that a Prometheus would have scraped."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import IO

import msgspec

from late_exporter.exposition.family import Family
from late_exporter.exposition.family_lines import FamilyFormatter
from late_exporter.model import MINUTE_MS
from late_exporter.series import Labels

STEP_MS, SPARSE_STEP_MS = 60_000, 240_000
"""Milliseconds between two samples near a change, and of an unchanged series; after 5 minutes, it would be stale."""

DENSE_WINDOW = 60 * MINUTE_MS
"""Milliseconds around a change with a sample at every step, so that ``increase()`` over an hour is as with scrapes."""


class SeriesHistory(msgspec.Struct, frozen=True):
    """History of a counter between two times in milliseconds: the times at which it was incremented, in order."""

    family: Family
    labels: Labels
    since: int
    until: int
    times: Sequence[int]


def write_openmetrics(file: IO[bytes], histories: Iterable[SeriesHistory], target_labels: Mapping[str, str]) -> None:
    """Write series that are ordered by family, with target labels in every sample."""
    for family, group in groupby(histories, key=lambda history: history.family):
        formatter = FamilyFormatter(msgspec.structs.replace(family, labels=(*family.labels, *target_labels)))
        file.write(formatter.header[1])
        for history in group:
            file.writelines(_series_text(formatter, history, (*history.labels, *target_labels.values())))
    file.write(b"# EOF\n")


def _series_text(formatter: FamilyFormatter, history: SeriesHistory, labels: Labels) -> Iterator[bytes]:
    count, lines = 0, formatter.samples(labels, 0)
    # Whole minutes, so that full hours are among them, and the file does not depend on when the command runs.
    for timestamp in range(-(-history.since // STEP_MS) * STEP_MS, history.until + 1, STEP_MS):
        if (new_count := bisect_right(history.times, timestamp)) > count:
            count = new_count
            lines = formatter.samples(labels, count)
        is_near = any(abs(at - timestamp) <= DENSE_WINDOW for at in history.times[max(0, count - 1) : count + 1])
        if is_near or timestamp % SPARSE_STEP_MS == 0 or timestamp + STEP_MS > history.until:
            yield "".join(f"{line} {timestamp // 1000}\n" for line in lines).encode(errors="replace")
