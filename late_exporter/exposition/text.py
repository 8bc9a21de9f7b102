"""Lines of a series as text 0.0.4 and OpenMetrics 1.0.0, byte for byte like those of prometheus_client."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple, TypeAlias

from late_exporter.exposition.family import Family
from late_exporter.series import Exemplar, Histogram, Labels

MAX_EXEMPLAR_CHARACTERS = 128
"""Limit of OpenMetrics for the names and values of an exemplar's labels."""

MIN_EXPONENT_NUMBER = 1_000_000
"""Numbers from which Go uses an exponent; Python does so from 1e16 on."""


class ObservedExemplar(NamedTuple):
    """An exemplar, and the value to which it is attached."""

    value: float
    exemplar: Exemplar

    @property
    def is_valid(self) -> bool:
        """Whether parsers accept it."""
        characters = sum(len(name) + len(text) for name, text in dict(self.exemplar.labels).items())
        is_finite = math.isfinite(self.exemplar.timestamp) and not math.isnan(self.value)
        return characters <= MAX_EXEMPLAR_CHARACTERS and is_finite

    def __str__(self) -> str:
        labels = ",".join(f'{name}="{_escape(text)}"' for name, text in sorted(dict(self.exemplar.labels).items()))
        return f" # {{{labels}}} {format_number(self.value)} {self.exemplar.timestamp}"


Exemplars: TypeAlias = Mapping[int, ObservedExemplar]
"""Exemplars of a series by the index of the line: of the bucket, or 0 for a counter."""


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
        text, openmetrics = family.help.replace("\\", r"\\").replace("\n", r"\n"), _escape(family.help)
        self.header = (
            _encode([f"# HELP {self._name} {text}", f"# TYPE {self._name} {family.kind}"]),
            _encode([f"# HELP {self.stem} {openmetrics}", f"# TYPE {self.stem} {family.kind}"]),
        )

    def format(
        self, labels: Labels, value: float | Histogram, created: float | None, exemplars: Exemplars
    ) -> tuple[bytes, bytes]:
        """Return the lines of a series as text and as OpenMetrics, which has its exemplars and creation time."""
        lines = self.samples(labels, value)
        text = _encode(lines)
        if not created and not exemplars:
            return text, text
        for line, exemplar in exemplars.items():
            lines[line] += str(exemplar)
        if created:
            lines.append(f"{self.stem}_created{_braces(self._pairs(labels))} {format_number(created)}")
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
            f"{self._name}_sum{_braces(pairs)} {seconds(value.micros)}",
        ]

    def _pairs(self, labels: Labels) -> list[str]:
        return [f'{name}="{_escape(labels[index])}"' for name, index in self._order]


def format_number(value: float) -> str:
    """Format a number like Go and prometheus_client; an integer too large for a float becomes infinite."""
    if type(value) is int and 0 <= value < MIN_EXPONENT_NUMBER:
        return f"{value}.0"
    try:
        value = float(value)
    except OverflowError:
        return "+Inf" if value > 0 else "-Inf"
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    text = repr(value)
    if value >= MIN_EXPONENT_NUMBER and "e" not in text:
        integer, _, fraction = text.partition(".")
        mantissa = f"{integer[0]}.{integer[1:]}{fraction}".rstrip("0.")
        return f"{mantissa}e+{len(integer) - 1:02d}"
    return text


def seconds(micros: int) -> str:
    """Format a sum in millionths of the unit of its family."""
    try:
        return format_number(micros / 1e6)
    except OverflowError:
        return "+Inf"


def _escape(text: str) -> str:
    if text.isalnum():  # as most label values are
        return text
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _braces(pairs: Sequence[str]) -> str:
    return f"{{{','.join(pairs)}}}" if pairs else ""


def _encode(lines: Iterable[str]) -> bytes:
    return "".join([f"{line}\n" for line in lines]).encode(errors="replace")
