"""Every lint rule finds the mistakes it is meant for."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import TypeAlias

import pytest

from tests.dashboards.dashboard_files import DashboardFile, Json, load_dashboards, selectors
from tests.dashboards.lint import RULES
from tests.rules.promql import Matcher, Selector

Change: TypeAlias = Callable[[Json], object]

COUNTER = (
    'late_publishing_logs_total{job=~"$job", instance=~"$instance", workspace=~"$workspace", platform=~"$platform"}'
)


def change_variable(name: str, **fields: object) -> Change:
    """Return a change to a variable."""
    return lambda document: next(one for one in document["templating"]["list"] if one["name"] == name).update(fields)


def change_panel(number: int, **fields: object) -> Change:
    """Return a change to a panel."""
    return lambda document: find_panel(document, number).update(fields)


def change_query(number: int, **fields: object) -> Change:
    """Return a change to the first query of a panel."""
    return lambda document: find_panel(document, number)["targets"][0].update(fields)


def find_panel(document: Json, number: int) -> Json:
    """Return a panel by id."""
    panel: Json = next(panel for panel in document["panels"] if panel["id"] == number)
    return panel


def remove_panel(number: int) -> Change:
    """Return a change that removes a panel."""
    return lambda document: document["panels"].remove(find_panel(document, number))


MISTAKES: tuple[tuple[str, Change], ...] = (
    ("datasource_variable", change_variable("datasource", label="Prometheus")),
    ("datasource_variable", change_variable("job", datasource={"type": "prometheus", "uid": "P1809F7CD0C75ACF3"})),
    ("datasource_variable", change_panel(301, datasource={"type": "prometheus", "uid": "P1809F7CD0C75ACF3"})),
    ("datasource_variable", change_query(301, datasource={"type": "prometheus", "uid": "P1809F7CD0C75ACF3"})),
    ("variables", lambda document: document["templating"]["list"].pop(1)),
    ("variables", change_variable("job", multi=False)),
    ("variables", change_variable("platform", allValue=".*")),
    ("variables", change_variable("platform", query="label_values(late_publishing_logs_total, platform)")),
    ("variables", change_variable("platform", refresh=1)),
    ("variables", change_variable("job", label="job")),
    ("identity", lambda document: document.update(uid="")),
    ("identity", lambda document: document.update(id=7)),
    ("identity", lambda document: document.update(editable=True)),
    ("identity", lambda document: document.update(refresh="5s")),
    ("identity", lambda document: document.update(schemaVersion=42)),
    ("ids", change_panel(301, id=302)),
    ("ids", change_panel(301, id=499)),
    ("grid", change_panel(301, gridPos={"x": 4, "y": 20, "w": 8, "h": 9})),
    ("grid", change_panel(303, gridPos={"x": 20, "y": 20, "w": 8, "h": 9})),
    ("grid", remove_panel(303)),
    ("fold", lambda document: document["panels"][0].update(collapsed=True)),
    ("fold", lambda document: document["panels"].extend([find_panel(document, 101)] * 10)),
    ("descriptions", change_panel(301, description="")),
    ("descriptions", change_panel(301, fieldConfig={"defaults": {"noValue": "None"}})),
    ("descriptions", change_panel(301, fieldConfig={"defaults": {"unit": "s"}})),
    ("descriptions", change_panel(301, targets=[])),
    ("legends", change_query(301, legendFormat="")),
    ("legends", change_query(301, legendFormat="{{region}}")),
    ("legends", change_panel(301, options={"legend": {"showLegend": False}})),
    ("instant_queries", change_query(101, instant=False, range=True)),
    ("instant_queries", change_query(301, instant=True, range=False)),
    ("intervals", change_panel(301, interval="10s")),
    ("intervals", change_query(301, interval=None)),
    ("promql", change_query(301, expr=f"sum(rate({COUNTER}[5m])")),
    ("promql", change_query(301, expr=f"rate({COUNTER})")),
    ("promql", change_query(301, expr="late_publishing_posts_total")),
    ("promql", change_query(301, expr='late_up{platform="x"}')),
    ("promql", change_query(301, expr=f"sum by (region) (increase({COUNTER}[1h]))")),
    ("variable_matchers", change_query(301, expr='late_up{job=~"$job", workspace=~"$workspace"}')),
    (
        "variable_matchers",
        change_query(301, expr='late_up{job="$job", instance=~"$instance", workspace=~"$workspace"}'),
    ),
    ("variable_matchers", change_query(301, expr=f"sum(increase({COUNTER.replace('platform=~', 'status=~')}[1h]))")),
    ("variable_matchers", change_query(301, expr='count(ALERTS{alertname=~"Late.+", alertstate="firing"})')),
    ("variable_matchers", change_query(301, expr='ALERTS{exporter="late", job=~"$job", workspace=~"$workspace|"}')),
    ("counters", change_query(301, expr=COUNTER)),
    ("counters", change_query(301, expr=f"rate({COUNTER}[5m])")),
    ("counters", change_query(301, expr='increase(late_up{job=~"$job"}[1h])')),
    ("process_series", change_query(301, expr='up{job=~"$job", instance=~"$instance"}')),
    ("navigation", lambda document: document["links"][0].update(includeVars=False)),
    ("navigation", lambda document: document["links"][0].update(placement="inControlsMenu")),
    ("navigation", change_panel(301, links=[{"url": "/d/late-platform"}])),
    ("event_annotations", lambda document: document["annotations"]["list"].pop()),
    ("event_annotations", lambda document: document["annotations"]["list"][0].update(hide=True)),
    ("event_annotations", lambda document: document["annotations"]["list"][0].update(enable=False)),
)


@pytest.mark.parametrize(("rule", "change"), MISTAKES, ids=[f"{n}-{rule}" for n, (rule, _) in enumerate(MISTAKES)])
def test_rule_finds_the_mistake(rule: str, change: Change) -> None:
    """A dashboard with a mistake violates the rule."""
    document = deepcopy(next(dashboard for dashboard in load_dashboards() if dashboard.uid == "late-overview").document)
    assert [] == list(RULES[rule](DashboardFile(document)))
    change(document)
    assert list(RULES[rule](DashboardFile(document)))


def test_every_rule_has_a_mistake() -> None:
    """Every rule has at least one mistake that it finds."""
    assert RULES.keys() == {rule for rule, _ in MISTAKES}


def test_variables_are_expanded_in_queries() -> None:
    """Dashboard variables and macros are replaced before a query is parsed."""
    expr = 'sum by (x) (rate(a_total{x="1", y!~"$z"}[$__rate_interval])) / on (x) b'
    matchers = {"x": Matcher("=", "1"), "y": Matcher("!~", "z")}
    assert [Selector("a_total", matchers, "rate", is_range=True), Selector("b", {})] == selectors(expr)


def test_invalid_promql_raises() -> None:
    """Invalid PromQL raises ValueError."""
    with pytest.raises(ValueError, match="matrix"):
        selectors("rate(a_total)")
