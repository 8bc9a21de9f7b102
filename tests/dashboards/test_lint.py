"""The rules find what they are there for."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import TypeAlias

import pytest

from tests.dashboards.boards import Board, Json, Selector, load, selectors
from tests.dashboards.lint import RULES

Change: TypeAlias = Callable[[Json], object]

TOTAL = 'late_publishing_logs_total{job=~"$job", instance=~"$instance", workspace=~"$workspace", platform=~"$platform"}'


def variable(name: str, **fields: object) -> Change:
    """Change a variable."""
    return lambda document: next(one for one in document["templating"]["list"] if one["name"] == name).update(fields)


def panel(number: int, **fields: object) -> Change:
    """Change a panel."""
    return lambda document: found(document, number).update(fields)


def query(number: int, **fields: object) -> Change:
    """Change the first query of a panel."""
    return lambda document: found(document, number)["targets"][0].update(fields)


def found(document: Json, number: int) -> Json:
    """A panel."""
    panel: Json = next(panel for panel in document["panels"] if panel["id"] == number)
    return panel


def without(number: int) -> Change:
    """Leave a panel out."""
    return lambda document: document["panels"].remove(found(document, number))


MISTAKES: tuple[tuple[str, Change], ...] = (
    ("datasource_variable", variable("datasource", label="Prometheus")),
    ("datasource_variable", variable("job", datasource={"type": "prometheus", "uid": "P1809F7CD0C75ACF3"})),
    ("datasource_variable", panel(301, datasource={"type": "prometheus", "uid": "P1809F7CD0C75ACF3"})),
    ("datasource_variable", query(301, datasource={"type": "prometheus", "uid": "P1809F7CD0C75ACF3"})),
    ("variables", lambda document: document["templating"]["list"].pop(1)),
    ("variables", variable("job", multi=False)),
    ("variables", variable("platform", allValue=".*")),
    ("variables", variable("platform", query="label_values(late_publishing_logs_total, platform)")),
    ("variables", variable("platform", refresh=1)),
    ("variables", variable("job", label="job")),
    ("identity", lambda document: document.update(uid="")),
    ("identity", lambda document: document.update(id=7)),
    ("identity", lambda document: document.update(editable=True)),
    ("identity", lambda document: document.update(refresh="5s")),
    ("identity", lambda document: document.update(schemaVersion=42)),
    ("ids", panel(301, id=302)),
    ("ids", panel(301, id=499)),
    ("grid", panel(301, gridPos={"x": 4, "y": 20, "w": 8, "h": 9})),
    ("grid", panel(303, gridPos={"x": 20, "y": 20, "w": 8, "h": 9})),
    ("grid", without(303)),
    ("words", panel(301, description="")),
    ("words", panel(301, fieldConfig={"defaults": {"noValue": "None"}})),
    ("words", panel(301, fieldConfig={"defaults": {"unit": "s"}})),
    ("words", panel(301, targets=[])),
    ("legends", query(301, legendFormat="")),
    ("legends", query(301, legendFormat="{{region}}")),
    ("legends", panel(301, options={"legend": {"showLegend": False}})),
    ("instants", query(101, instant=False, range=True)),
    ("instants", query(301, instant=True, range=False)),
    ("intervals", panel(301, interval="10s")),
    ("intervals", query(301, interval=None)),
    ("promql", query(301, expr=f"sum(rate({TOTAL}[5m])")),
    ("promql", query(301, expr=f"rate({TOTAL})")),
    ("promql", query(301, expr="late_publishing_posts_total")),
    ("promql", query(301, expr='late_up{platform="x"}')),
    ("promql", query(301, expr=f"sum by (region) (increase({TOTAL}[1h]))")),
    ("chosen", query(301, expr='late_up{job=~"$job", workspace=~"$workspace"}')),
    ("chosen", query(301, expr='late_up{job="$job", instance=~"$instance", workspace=~"$workspace"}')),
    ("chosen", query(301, expr=f"sum(increase({TOTAL.replace('platform=~', 'status=~')}[1h]))")),
    ("counters", query(301, expr=TOTAL)),
    ("counters", query(301, expr=f"rate({TOTAL}[5m])")),
    ("counters", query(301, expr='increase(late_up{job=~"$job"}[1h])')),
    ("others", query(301, expr='up{job=~"$job", instance=~"$instance"}')),
    ("navigation", lambda document: document["links"][0].update(includeVars=False)),
    ("navigation", lambda document: document["links"][0].update(placement="inControlsMenu")),
    ("navigation", panel(301, links=[{"url": "/d/late-platform"}])),
    ("marks", lambda document: document["annotations"]["list"].pop()),
    ("marks", lambda document: document["annotations"]["list"][0].update(hide=True)),
    ("marks", lambda document: document["annotations"]["list"][0].update(enable=False)),
)


@pytest.mark.parametrize(("rule", "change"), MISTAKES, ids=[f"{n}-{rule}" for n, (rule, _) in enumerate(MISTAKES)])
def test_mistakes(rule: str, change: Change) -> None:
    """A dashboard with a mistake breaks the rule that forbids it."""
    document = deepcopy(next(board for board in load() if board.uid == "late-overview").document)
    assert [] == list(RULES[rule](Board(document)))
    change(document)
    assert list(RULES[rule](Board(document)))


def test_every_rule_is_tested() -> None:
    """No rule is there that finds nothing."""
    assert RULES.keys() == {rule for rule, _ in MISTAKES}


def test_selectors() -> None:
    """Series are found with their matchers and the functions around them."""
    expr = 'sum by (x) (rate(a_total{x="1", y!~"$z"}[$__rate_interval])) / on (x) b'
    expected = [Selector("a_total", {"x": "=1", "y": "!~z"}, ("rate",)), Selector("b", {}, ())]
    assert expected == selectors(expr)


def test_what_is_no_promql() -> None:
    """A mistake in PromQL is told."""
    with pytest.raises(ValueError, match="matrix"):
        selectors("rate(a_total)")
