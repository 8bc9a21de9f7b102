"""Samples of a scrape."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Self

from late_exporter.metrics.catalogue import CATALOGUE


class Samples(dict[tuple[str, tuple[tuple[str, str], ...]], float]):
    """Samples of a scrape: value by name and labels.

    Attributes:
        text: Text format from which they were parsed.
    """

    text = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the text format."""
        lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
        samples = cls({_series(head): float(value) for head, _, value in lines})
        samples.text = text
        return samples

    def family(self, name: str, **labels: str) -> dict[tuple[str, ...], float]:
        """Return values above 0 with some labels, by the values of the other labels in the catalogue's order."""
        family = CATALOGUE.get(name) or CATALOGUE[name.rpartition("_")[0]]
        rest = [label for label in (*family.labels[1:], "le") if label not in labels]
        sums: dict[tuple[str, ...], float] = {}
        for (sample, pairs), value in self.items():
            carried = dict(pairs)
            if sample == name and value and labels.items() <= carried.items():
                values = tuple(carried[label] for label in rest if label in carried)
                sums[values] = sums.get(values, 0) + value
        return sums

    def sum(self, name: str, **labels: str) -> float:
        """Return the sum of the samples with some labels."""
        return sum(self.family(name, **labels).values())

    @property
    def counters(self) -> Self:
        """Samples that must never fall."""
        endings = ("_total", "_bucket", "_count", "_sum")
        return type(self)({series: value for series, value in self.items() if series[0].endswith(endings)})


LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@lru_cache(maxsize=20_000)
def _series(head: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    name, _, labels = head.partition("{")
    return name, tuple(sorted(LABEL.findall(labels)))
