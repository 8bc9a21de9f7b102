"""Lines of a series as text 0.0.4 and OpenMetrics 1.0.0, byte for byte like those of prometheus_client."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate
from typing import TypeAlias

import msgspec

from late_exporter.exposition.family import Family
from late_exporter.series import Exemplar, Histogram, Labels

MAX_EXEMPLAR_CHARACTERS = 128
"""Limit of OpenMetrics for the names and values of an exemplar's labels."""

MIN_EXPONENT_NUMBER = 1_000_000
"""Numbers from which Go uses an exponent; Python does so from 1e16 on."""

PackedValue: TypeAlias = float | bytes | Histogram
"""Value in memory: histograms with the buckets of their family are packed to a tenth of their size."""

ExemplarsByLine: TypeAlias = dict[int, tuple[float, str]]
"""Time and text of exemplars by the index of their line."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[int]).decode


class FamilyFormatter:
    """Format the series of a family: each has ``line_count`` lines, and one that is 0 has the packed value ``zero``."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._stem = family.name.removesuffix("_total") if family.kind == "counter" else family.name
        # prometheus_client sorts labels by name, le among them.
        self._order = sorted(range(len(family.labels)), key=family.labels.__getitem__)
        self._names = [family.labels[index] for index in self._order]
        self._line = family.name + _braces([f'{name}="%s"' for name in self._names]) + " %s\n"
        self._le_index = bisect_left(self._names, "le")
        self._le_pairs = _format_le_pairs(family.buckets)
        self.line_count = len(self._le_pairs) + 2 if family.kind == "histogram" else 1
        self.zero = (
            self.pack(Histogram(family.buckets, (0,) * len(self._le_pairs))) if family.kind == "histogram" else 0
        )

    def header(self) -> tuple[bytes, bytes]:
        """Return the lines HELP and TYPE, as text and as OpenMetrics."""
        kind, help_text = self._family.kind, self._family.help.replace("\\", r"\\").replace("\n", r"\n")
        text = f"# HELP {self._family.name} {help_text}\n# TYPE {self._family.name} {kind}\n"
        openmetrics = f"# HELP {self._stem} {_escape(self._family.help)}\n# TYPE {self._stem} {kind}\n"
        return text.encode(errors="replace"), openmetrics.encode(errors="replace")

    def pack(self, value: float | Histogram) -> PackedValue:
        if isinstance(value, Histogram) and self.matches_buckets(value):
            with suppress(OverflowError):
                return _encode((value.micros, *value.counts))
        return value

    def matches_buckets(self, value: PackedValue) -> bool:
        """Return whether a value has the buckets of the family; a stored histogram may have others."""
        return not isinstance(value, Histogram) or value.bounds == self._family.buckets

    def text_lines(self, labels: Labels, value: PackedValue) -> list[str]:
        if isinstance(value, bytes):
            micros, *counts = _decode(value)
            return self._histogram(labels, self._le_pairs, counts, micros)
        if isinstance(value, Histogram):
            return self._histogram(labels, _format_le_pairs(value.bounds), value.counts, value.micros)
        return [self._line % (*[_escape(labels[index]) for index in self._order], format_number(value))]

    def openmetrics_lines(
        self, lines: list[str], labels: Labels, created: float | None, exemplars: ExemplarsByLine
    ) -> list[str]:
        """Return the lines of a series as OpenMetrics: those of the text, with exemplars and creation time."""
        if created is None and not exemplars:
            return lines
        lines = lines.copy()
        for line, (_, exemplar) in exemplars.items():
            lines[line] = f"{lines[line][:-1]}{exemplar}\n"
        if created is not None:
            lines.append(f"{self._stem}_created{_braces(self._pairs(labels))} {format_number(created)}\n")
        return lines

    def _histogram(self, labels: Labels, le_pairs: Sequence[str], counts: Sequence[int], micros: int) -> list[str]:
        pairs = self._pairs(labels)
        head = "".join((self._family.name, "_bucket{", *(f"{pair}," for pair in pairs[: self._le_index])))
        tail = "".join((*(f",{pair}" for pair in pairs[self._le_index :]), "} "))
        numbers = [format_number(count) for count in accumulate(counts)]
        lines = [f"{head}{le}{tail}{count}\n" for le, count in zip(le_pairs, numbers, strict=True)]
        braces = _braces(pairs)
        lines.append(f"{self._family.name}_count{braces} {numbers[-1]}\n")
        lines.append(f"{self._family.name}_sum{braces} {_seconds(micros)}\n")
        return lines

    def _pairs(self, labels: Labels) -> list[str]:
        values = [labels[index] for index in self._order]
        return [f'{name}="{_escape(value)}"' for name, value in zip(self._names, values, strict=True)]


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


def format_exemplar(value: float, exemplar: Exemplar) -> str | None:
    """Return the text after a sample, or None if parsers would reject it."""
    pairs = sorted(dict(exemplar.labels).items())
    characters = sum(len(name) + len(text) for name, text in pairs)
    if characters > MAX_EXEMPLAR_CHARACTERS or math.isnan(value) or not math.isfinite(exemplar.timestamp):
        return None
    labels = ",".join(f'{name}="{_escape(text)}"' for name, text in pairs)
    return f" # {{{labels}}} {format_number(value)} {exemplar.timestamp}"


def _format_le_pairs(bounds: Sequence[float]) -> list[str]:
    return [f'le="{format_number(bound)}"' for bound in (*bounds, math.inf)]


def _seconds(micros: int) -> str:
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
