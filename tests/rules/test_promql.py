from __future__ import annotations

import pytest

from tests.rules.promql import Matcher, Selector, named_labels, selectors

EXPRESSION = """\
sum by (job, workspace) (rate(a_total{x="1", y=~"b(c)?|d"}[5m])) / on (job) group_left (name) (level:b:rate1h > bool 0)
unless
absent(up) and quantile_over_time(0.5, c[7d:1h] offset 1d) < 3
"""


def test_selectors() -> None:
    """Each selector has its matchers, its function, and whether it is a range."""
    matchers = {"x": Matcher("=", "1"), "y": Matcher("=~", "b(c)?|d")}
    assert [
        Selector("a_total", matchers, "rate", is_range=True),
        Selector("level:b:rate1h", {}),
        Selector("up", {}, "absent"),
        Selector("c", {}, "quantile_over_time", is_range=True),
    ] == selectors(EXPRESSION)


def test_named_labels() -> None:
    """The labels of by, on and group_left are returned."""
    assert {"job", "workspace", "name"} == named_labels(EXPRESSION)


@pytest.mark.parametrize("expr", ['a{b <> "c"}', "rate(a_total)", "sum(a"])
def test_invalid_expression_raises(expr: str) -> None:
    """An expression that is not valid PromQL raises ValueError."""
    with pytest.raises(ValueError, match=r"invalid|expected|unexpected|unclosed"):
        selectors(expr)
