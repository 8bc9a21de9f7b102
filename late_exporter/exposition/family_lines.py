"""The series of a family with their lines, which are rendered once per change.

Lines are those of text 0.0.4 and OpenMetrics 1.0.0, byte for byte like those of prometheus_client,
but for the order of labels.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from types import MappingProxyType
from typing import TypeAlias

import msgspec
from prometheus_client.utils import floatToGoString

from late_exporter.exposition.family import Family
from late_exporter.model import Exemplar, Histogram, Labels

Exemplars: TypeAlias = Mapping[int, Exemplar]
"""Exemplars of a series by the index of their bucket."""

NO_EXEMPLARS: Exemplars = MappingProxyType({})


class SeriesLines(msgspec.Struct, gc=False):
    """A series: what it shows, and its lines as text and as OpenMetrics."""

    value: float | Histogram
    created: float | None
    text: bytes = b""
    openmetrics: bytes = b""


class FamilyLines:
    """Series of a family, sorted by their labels when they are read.

    Args:
        has_created: Whether OpenMetrics has creation times.
    """

    def __init__(self, family: Family, *, has_created: bool) -> None:
        self.family = family
        self.has_workspaces = family.labels[:1] == ("workspace",)
        self._has_created = has_created
        self._stem = family.name.removesuffix("_total")  # the name of a counter in OpenMetrics
        self._bounds = [format_number(bound) for bound in (*family.buckets, math.inf)]
        self._series: dict[Labels, SeriesLines] = {}
        self._order: list[Labels] | None = []

    def __contains__(self, labels: Labels) -> bool:
        return labels in self._series

    def set(self, labels: Labels, series: SeriesLines) -> None:
        """Set a series, without rendering it."""
        if labels not in self._series:
            self._order = None
        self._series[labels] = series

    def remove(self, labels: Labels) -> None:
        if self._series.pop(labels, None) is not None:
            self._order = None

    def render(self, labels: Labels, exemplars: Exemplars, *, is_zero: bool) -> None:
        """Render the lines of a series, if it exists; one that shows 0 has no exemplars."""
        series = self._series.get(labels)
        if series is None:
            return
        value = series.value
        if is_zero:
            is_number = not isinstance(value, Histogram)
            value = 0 if is_number else Histogram(self.family.buckets, (0,) * len(self._bounds))
            exemplars = NO_EXEMPLARS

        pairs = _format_pairs(zip(self.family.labels, labels, strict=True))
        lines = self._samples(pairs, value)
        series.text = series.openmetrics = _encode(lines)
        if exemplars or (self._has_created and series.created):
            for bucket, exemplar in exemplars.items():
                lines[bucket] += _format_exemplar(exemplar)
            if self._has_created and series.created:
                lines.append(f"{self._stem}_created{pairs} {format_number(series.created)}")
            series.openmetrics = _encode(lines)

    def _samples(self, pairs: str, value: float | Histogram) -> list[str]:
        """Return the samples of a series in both formats, without ends of line."""
        name = self.family.name
        if not isinstance(value, Histogram):
            return [f"{name}{pairs} {format_number(value)}"]
        start = f"{pairs[:-1]}," if pairs else "{"
        counts = [format_number(count) for count in accumulate(value.counts)]
        return [
            *(
                f'{name}_bucket{start}le="{bound}"}} {count}'
                for bound, count in zip(self._bounds, counts, strict=True)
            ),
            f"{name}_count{pairs} {counts[-1]}",
            f"{name}_sum{pairs} {format_number(value.micros / 1e6)}",
        ]

    def lines(self, workspaces: Sequence[str] | None, *, is_openmetrics: bool) -> list[bytes]:
        """Return the header and the lines of some workspaces, or of all."""
        order = self._sort()
        if workspaces is None:
            series: Iterable[SeriesLines] = self._series.values()
        else:
            series = (
                self._series[labels] for name in workspaces for labels in _of_workspace(order, name)
            )
        lines = [each.openmetrics if is_openmetrics else each.text for each in series]
        if not lines:
            return []
        name = self._stem if is_openmetrics else self.family.name
        header = [f"# HELP {name} {self.family.help}", f"# TYPE {name} {self.family.kind}"]
        return [_encode(header), *lines]

    def _sort(self) -> list[Labels]:
        if self._order is None:
            self._order = sorted(self._series)
            # so that it is sorted sooner next
            self._series = {labels: self._series[labels] for labels in self._order}
        return self._order


def _of_workspace(order: Sequence[Labels], workspace: str) -> Sequence[Labels]:
    start = bisect_left(order, (workspace,))
    return order[start : bisect_left(order, (f"{workspace}\0",), start)]


def format_number(value: float) -> str:
    """Format a number like Go."""
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]
    return text


def _format_exemplar(exemplar: Exemplar) -> str:
    pairs = _format_pairs(exemplar.labels) or "{}"
    return f" # {pairs} {format_number(exemplar.value)} {exemplar.timestamp}"


def _format_pairs(labels: Iterable[tuple[str, str]]) -> str:
    pairs = [f'{name}="{_escape(value)}"' for name, value in labels]
    return f"{{{','.join(pairs)}}}" if pairs else ""


def _escape(text: str) -> str:
    if text.isalnum():  # as most label values are
        return text
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _encode(lines: Iterable[str]) -> bytes:
    return "".join([f"{line}\n" for line in lines]).encode(errors="replace")
