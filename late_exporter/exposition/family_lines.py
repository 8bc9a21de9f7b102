"""The series of a family with their lines, which are rendered once per change.

Lines are those of text 0.0.4 and OpenMetrics 1.0.0, byte for byte like those of prometheus_client.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import msgspec
from prometheus_client.utils import floatToGoString

from late_exporter.exposition.family import Family
from late_exporter.model import Exemplar, Histogram, Labels


class ObservedExemplar(NamedTuple):
    """An exemplar, and the value to which it is attached."""

    value: float
    exemplar: Exemplar

    def __str__(self) -> str:
        labels = ",".join(f'{name}="{_escape(text)}"' for name, text in self.exemplar.labels)
        return f" # {{{labels}}} {format_number(self.value)} {self.exemplar.timestamp}"


Exemplars: TypeAlias = Mapping[int, ObservedExemplar]
"""Exemplars of a series by the index of their bucket."""


class FamilyFormatter:
    """Formatter of the lines of a family.

    Attributes:
        header: The lines HELP and TYPE, as text and as OpenMetrics.
        zero: Value of a series that is 0.
    """

    def __init__(self, family: Family) -> None:
        self._name = family.name
        self.stem = family.name.removesuffix("_total") if family.kind == "counter" else family.name
        # prometheus_client sorts labels by name, le among them.
        self._order = sorted((name, index) for index, name in enumerate(family.labels))
        self._le_index = bisect_left([name for name, _ in self._order], "le")
        self._le_pairs = [f'le="{format_number(bound)}"' for bound in (*family.buckets, math.inf)]
        empty = Histogram(family.buckets, (0,) * len(self._le_pairs))
        self.zero: float | Histogram = empty if family.kind == "histogram" else 0
        help_text = family.help.replace("\\", r"\\").replace("\n", r"\n")
        self.header = (
            _encode([f"# HELP {self._name} {help_text}", f"# TYPE {self._name} {family.kind}"]),
            _encode(
                [f"# HELP {self.stem} {_escape(family.help)}", f"# TYPE {self.stem} {family.kind}"]
            ),
        )

    def format(
        self, labels: Labels, value: float | Histogram, created: float | None, exemplars: Exemplars
    ) -> tuple[bytes, bytes]:
        """Return the lines of a series as text and as OpenMetrics.

        The latter has its exemplars and creation time.
        """
        lines = self.samples(labels, value)
        text = _encode(lines)
        if not created and not exemplars:
            return text, text
        for bucket, exemplar in exemplars.items():
            lines[bucket] += str(exemplar)
        if created:
            lines.append(
                f"{self.stem}_created{_braces(self._pairs(labels))} {format_number(created)}"
            )
        return text, _encode(lines)

    def samples(self, labels: Labels, value: float | Histogram) -> list[str]:
        """Return the samples of a series in both formats, without ends of line."""
        pairs = self._pairs(labels)
        if not isinstance(value, Histogram):
            return [f"{self._name}{_braces(pairs)} {format_number(value)}"]
        head = "".join(f"{pair}," for pair in pairs[: self._le_index])
        tail = "".join(f",{pair}" for pair in pairs[self._le_index :])
        counts = [format_number(count) for count in accumulate(value.counts)]
        return [
            *(
                f"{self._name}_bucket{{{head}{le}{tail}}} {count}"
                for le, count in zip(self._le_pairs, counts, strict=True)
            ),
            f"{self._name}_count{_braces(pairs)} {counts[-1]}",
            f"{self._name}_sum{_braces(pairs)} {format_number(value.micros / 1e6)}",
        ]

    def _pairs(self, labels: Labels) -> list[str]:
        return [f'{name}="{_escape(labels[index])}"' for name, index in self._order]


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
        shows_created: Whether OpenMetrics has the creation times of counters and histograms.
    """

    def __init__(self, family: Family, *, shows_created: bool) -> None:
        self.family = family
        self.has_workspaces = family.labels[:1] == ("workspace",)
        self._formatter = FamilyFormatter(family)
        self._shows_created = shows_created and family.kind != "gauge"
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
            value = self._formatter.zero
            exemplars = NO_EXEMPLARS
        created = series.created if self._shows_created else None
        series.text, series.openmetrics = self._formatter.format(labels, value, created, exemplars)

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
        return [self._formatter.header[is_openmetrics], *lines] if lines else []

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
    """Format a number like Go; an integer that is too large for a float becomes infinite."""
    try:
        text: str = floatToGoString(value)  # type: ignore[no-untyped-call]
    except OverflowError:
        return "+Inf" if value > 0 else "-Inf"
    return text


def _escape(text: str) -> str:
    if text.isalnum():  # as most label values are
        return text
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _braces(pairs: Sequence[str]) -> str:
    return f"{{{','.join(pairs)}}}" if pairs else ""


def _encode(lines: Iterable[str]) -> bytes:
    return "".join([f"{line}\n" for line in lines]).encode(errors="replace")
