"""The lines of a series, as text 0.0.4 and as OpenMetrics 1.0.0: to the byte what prometheus_client writes."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate
from typing import TypeAlias

import msgspec

from late_exporter.exposition.family import Family
from late_exporter.model import Exemplar, Histogram, Labels

__all__ = ["ExemplarsByLine", "FamilyFormatter", "PackedValue", "format_exemplar", "format_number"]

MAX_EXEMPLAR_CHARACTERS = 128

EXPONENTS_FROM = 1_000_000
"""Go writes numbers from here on with an exponent; Python does so from 1e16 on."""


PackedValue: TypeAlias = float | bytes | Histogram
"""A value as it is kept: a histogram with its family's bounds is packed, to a tenth of its size."""

ExemplarsByLine: TypeAlias = dict[int, tuple[float, str]]
"""Time and text of exemplars by the line they stand on."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[int]).decode


class FamilyFormatter:
    """How the series of a family are written."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._stem = family.name.removesuffix("_total") if family.kind == "counter" else family.name
        self._name = f"{self._stem}_total" if family.kind == "counter" else family.name
        # prometheus_client sorts labels by name, le among them.
        self._order = sorted(range(len(family.labels)), key=family.labels.__getitem__)
        self._names = [family.labels[place] for place in self._order]
        self._le = bisect_left(self._names, "le")
        self._les = _les(family.buckets)
        self.line_count = len(self._les) + 2 if family.kind == "histogram" else 1
        self.zero = self.pack(Histogram(family.buckets, (0,) * len(self._les))) if family.kind == "histogram" else 0

    def header(self) -> tuple[bytes, bytes]:
        """HELP and TYPE, as text and as OpenMetrics."""
        kind, help_ = self._family.kind, self._family.help.replace("\\", r"\\").replace("\n", r"\n")
        text = f"# HELP {self._name} {help_}\n# TYPE {self._name} {kind}\n"
        openmetrics = f"# HELP {self._stem} {_escape(self._family.help)}\n# TYPE {self._stem} {kind}\n"
        return text.encode(errors="replace"), openmetrics.encode(errors="replace")

    def pack(self, value: float | Histogram) -> PackedValue:
        """A value as it is kept."""
        if isinstance(value, Histogram) and self.matches_buckets(value):
            with suppress(OverflowError):
                return _encode((value.micros, *value.counts))
        return value

    def matches_buckets(self, held: PackedValue) -> bool:
        """Whether a value has the buckets of its family: the state may hold histograms of another configuration."""
        return not isinstance(held, Histogram) or held.bounds == self._family.buckets

    def text_lines(self, labels: Labels, held: PackedValue) -> list[str]:
        """The lines of a series."""
        if isinstance(held, bytes):
            micros, *counts = _decode(held)
            return self._histogram(labels, self._les, counts, micros)
        if isinstance(held, Histogram):
            return self._histogram(labels, _les(held.bounds), held.counts, held.micros)
        return [f"{self._name}{_braces(self._pairs(labels))} {format_number(held)}\n"]

    def openmetrics_lines(
        self, lines: list[str], labels: Labels, born: float | None, marks: ExemplarsByLine
    ) -> list[str]:
        """The same lines with what only OpenMetrics has."""
        if born is None and not marks:
            return lines
        lines = lines.copy()
        for line, (_, exemplar) in marks.items():
            lines[line] = f"{lines[line][:-1]}{exemplar}\n"
        if born is not None:
            lines.append(f"{self._stem}_created{_braces(self._pairs(labels))} {format_number(born)}\n")
        return lines

    def _histogram(self, labels: Labels, les: Sequence[str], counts: Sequence[int], micros: int) -> list[str]:
        pairs = self._pairs(labels)
        head = "".join((self._family.name, "_bucket{", *(f"{pair}," for pair in pairs[: self._le])))
        tail = "".join((*(f",{pair}" for pair in pairs[self._le :]), "} "))
        numbers = [format_number(count) for count in accumulate(counts)]
        lines = [f"{head}{le}{tail}{count}\n" for le, count in zip(les, numbers, strict=True)]
        braces = _braces(pairs)
        lines.append(f"{self._family.name}_count{braces} {numbers[-1]}\n")
        lines.append(f"{self._family.name}_sum{braces} {_seconds(micros)}\n")
        return lines

    def _pairs(self, labels: Labels) -> list[str]:
        values = [labels[place] for place in self._order]
        return [f'{name}="{_escape(value)}"' for name, value in zip(self._names, values, strict=True)]


def format_number(value: float) -> str:
    """A number as Go and prometheus_client write it; an integer too large for a float is infinite."""
    if type(value) is int and 0 <= value < EXPONENTS_FROM:
        return f"{value}.0"
    try:
        value = float(value)
    except OverflowError:
        return "+Inf" if value > 0 else "-Inf"
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    text = repr(value)
    if value >= EXPONENTS_FROM and "e" not in text:
        whole, _, fraction = text.partition(".")
        mantissa = f"{whole[0]}.{whole[1:]}{fraction}".rstrip("0.")
        return f"{mantissa}e+{len(whole) - 1:02d}"
    return text


def format_exemplar(value: float, exemplar: Exemplar) -> str | None:
    """What stands behind a sample; None where it could not be read again."""
    pairs = sorted(dict(exemplar.labels).items())
    characters = sum(len(name) + len(text) for name, text in pairs)
    if characters > MAX_EXEMPLAR_CHARACTERS or math.isnan(value) or not math.isfinite(exemplar.timestamp):
        return None
    labels = ",".join(f'{name}="{_escape(text)}"' for name, text in pairs)
    return f" # {{{labels}}} {format_number(value)} {exemplar.timestamp}"


def _les(bounds: Sequence[float]) -> list[str]:
    return [f'le="{format_number(bound)}"' for bound in (*bounds, math.inf)]


def _seconds(micros: int) -> str:
    try:
        return format_number(micros / 1e6)
    except OverflowError:
        return "+Inf"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _braces(pairs: Sequence[str]) -> str:
    return f"{{{','.join(pairs)}}}" if pairs else ""
