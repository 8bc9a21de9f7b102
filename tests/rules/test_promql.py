from __future__ import annotations

import pytest

from tests.rules.promql import Selector, named_labels, selectors

EXPRESSION = """\
sum by (job, workspace) (rate(a_total{x="1", y=~"b(c)?|d"}[5m])) / on (job) group_left (name) (level:b:rate1h > bool 0)
unless
absent(up) and quantile_over_time(0.5, c[7d:1h] offset 1d) < 3
"""


def test_selectors() -> None:
    """Series are found with their matchers, function and window; keywords, labels and functions are none."""
    assert [
        Selector("a_total", (("x", "=", "1"), ("y", "=~", "b(c)?|d")), "rate", "[5m]"),
        Selector("level:b:rate1h", (), "", ""),
        Selector("up", (), "absent", ""),
        Selector("c", (), "quantile_over_time", "[7d:1h]"),
    ] == list(selectors(EXPRESSION))


def test_named_labels() -> None:
    """The labels of by, on and group_left are found."""
    assert {"job", "workspace", "name"} == named_labels(EXPRESSION)


def test_odd_matchers_are_not_passed_over() -> None:
    """What cannot be read is an error, not nothing."""
    with pytest.raises(AssertionError):
        list(selectors('a{b <> "c"}'))
