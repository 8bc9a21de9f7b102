"""An exposition whose series can be read back."""

from __future__ import annotations

from late_exporter.exposition.exposition import TEXT, BodyRequest, Exposition
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.model import Exemplar, Histogram, Labels, Series


class FakeExposition(Exposition):
    """Exposition of the catalogue that keeps every value and asserts that no counter falls.

    Attributes:
        values: Current value of every series.
        exemplars: Labels of the series that received an exemplar, in order.
    """

    def __init__(self) -> None:
        super().__init__(CATALOGUE)
        self.values: dict[Series, float | Histogram] = {}
        self.exemplars: list[Labels] = []

    def put(self, family: str, labels: Labels, value: float | Histogram, *, created: float | None = None) -> None:
        assert (created is None) == (CATALOGUE[family].kind == "gauge")
        previous = self.values.get((family, labels), 0)
        if CATALOGUE[family].kind == "counter":
            assert isinstance(value, int | float)
            assert isinstance(previous, int | float)
            assert previous <= value, f"{family}{labels} fell from {previous} to {value}"
        self.values[family, labels] = value
        super().put(family, labels, value, created=created)

    def remove(self, family: str, labels: Labels) -> None:
        self.values.pop((family, labels), None)
        super().remove(family, labels)

    def add_exemplar(self, family: str, labels: Labels, exemplar: Exemplar) -> None:
        assert (family, labels) in self.values
        assert exemplar.value >= 0
        assert exemplar.labels
        self.exemplars.append(labels)
        super().add_exemplar(family, labels, exemplar)


def read_body(exposition: Exposition, media: str = TEXT) -> str:
    """Return the published body in the format that a header ``Accept`` selects."""
    return exposition.get_body(BodyRequest(media)).decode()
