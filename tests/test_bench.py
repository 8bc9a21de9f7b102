"""The comparison of a bench run with the documented ratios."""

from __future__ import annotations

import pytest

from tests.bench.documented import DOCUMENT, read_ratios, too_low_ratios
from tests.bench.report import BenchReport, Measurement

TABLE = "| figure | ratio |\n|---|---|\n| (a) CPU per log | 0.5x |\n| (b) requests | 50x |\n"


def report(cpu: float, requests: float) -> BenchReport:
    """Return a report with two ratios, and one that is not documented."""
    result = BenchReport()
    result.add(
        "(a) catch-up of 5,000 logs", Measurement("CPU per log", 1 / cpu, "us", 1.0), Measurement("other", 1, "s")
    )
    result.add("(b) steady poll at 5,000 logs", Measurement("requests", 1.0, "", requests))
    return result


@pytest.mark.parametrize(
    ("cpu", "requests", "expected"),
    [
        (0.5, 50, []),
        (0.26, 26, []),
        (0.24, 50, ["(a) CPU per log: 0.24x, less than half of the documented 0.5x"]),
        (5.0, 20, ["(b) requests: 20.00x, less than half of the documented 50x"]),
    ],
)
def test_ratios_below_half_of_the_documented_ones_are_reported(
    cpu: float, requests: float, expected: list[str]
) -> None:
    """Ratios may vary, but not by half; what is better is no problem."""
    assert expected == list(too_low_ratios(report(cpu, requests), TABLE))


def test_documented_ratios_that_are_not_measured_are_reported() -> None:
    """A measurement cannot be renamed without its documented ratio."""
    (message,) = too_low_ratios(report(1, 100), f"{TABLE}| (e) memory | 1x |\n")
    assert "(e) memory: documented, but not measured" == message


def test_the_page_documents_ratios() -> None:
    """The page has ratios in the form that a run reads."""
    ratios = read_ratios(DOCUMENT.read_text("utf-8"))
    assert {"a", "b", "e", "f"} == {letter for letter, _ in ratios}
