"""PromQL from the exporter's own catalogue: a metric or label that it does not have cannot be asked for."""

from __future__ import annotations

from typing import NamedTuple

from late_exporter.metrics.catalogue import CATALOGUE

__all__ = [
    "ALERTS_FIRING",
    "ATTEMPTS",
    "FAILED_ATTEMPTS",
    "RATE",
    "RULES_LOADED",
    "SUCCEEDED",
    "TARGET",
    "Query",
    "age",
    "count",
    "firing",
    "happened",
    "increase",
    "named",
    "of_exporters",
    "own",
    "per_minute",
    "quantile",
    "rate",
    "series",
    "share",
    "success_ratio",
    "total",
]

RATE = "$__rate_interval"
TARGET = 'job=~"$job", instance=~"$instance"'
CHOSEN = {"workspace": "$workspace", "platform": "$platform"}
"""Labels that the dashboards' variables choose from, wherever a family has them."""

SAMPLES = ("_bucket", "_count", "_sum")
ACCOUNT = ("workspace", "platform", "account_id")


class Query(NamedTuple):
    """An expression and what its series are called."""

    expr: str
    legend: str = ""
    exemplar: bool = False


def series(name: str, **labels: str) -> str:
    """A selector of a catalogued family, narrowed to what the dashboard's variables choose.

    Args:
        name: The family, with the suffix of a histogram's sample if it is one.
        labels: Value by label; ``~`` in front of it makes it a regular expression, ``!`` excludes it.
    """
    known = (*_labels(name), "le")
    unknown = set(labels) - set(known)
    if unknown:
        raise KeyError(f"{name} has no label {', '.join(sorted(unknown))}")
    wanted = {label: f"~{variable}" for label, variable in CHOSEN.items() if label in known} | labels
    return f"{name}{{{', '.join([TARGET, *(_matcher(label, value) for label, value in wanted.items())])}}}"


def own(name: str) -> str:
    """What is known of any process or scrape, such as ``up``, where it is of an exporter that ran within a day."""
    return of_exporters(f"{name}{{{TARGET}}}")


def of_exporters(expr: str) -> str:
    """Without what other jobs have: the variables match all of them when nothing is chosen."""
    return f"{expr} and on (job, instance) last_over_time({series('late_exporter_build_info')}[1d])"


def count(expr: str) -> str:
    """A number of things that is 0 where there are none, and nothing where no exporter tells of any."""
    return f"{expr} or 0 * count({series('late_up')})"


def _labels(name: str) -> tuple[str, ...]:
    for suffix in SAMPLES:
        family = CATALOGUE.get(name.removesuffix(suffix))
        if family is not None and family.kind == "histogram" and name.endswith(suffix):
            return family.labels
    return CATALOGUE[name].labels


def _matcher(label: str, value: str) -> str:
    operators = {"~": "=~", "!": "!="}
    operator = operators.get(value[0], "=")
    return f'{label}{operator}"{value[1:] if value[0] in operators else value}"'


def total(expr: str, *by: str) -> str:
    """The sum, by some labels."""
    return f"sum by ({', '.join(by)}) ({expr})" if by else f"sum({expr})"


def happened(selector: str, *by: str) -> str:
    """As per_minute, where there was any: what never happens needs no place in a legend."""
    return f"{per_minute(selector, *by)} > 0"


def rate(selector: str) -> str:
    """Of a counter, a second."""
    return f"rate({selector}[{RATE}])"


def per_minute(selector: str, *by: str) -> str:
    """Of a counter, a minute."""
    return f"60 * {total(rate(selector), *by)}"


def increase(selector: str, window: str, *by: str) -> str:
    """Of a counter, within a window."""
    return total(f"increase({selector}[{window}])", *by)


def quantile(number: float, family: str, window: str, *by: str, **labels: str) -> str:
    """Of a histogram within a window; nothing, which is not NaN, where nothing was observed."""
    return f"histogram_quantile({number}, {increase(series(f'{family}_bucket', **labels), window, 'le', *by)}) >= 0"


def firing(severity: str) -> str:
    """The alerts of a severity that are firing."""
    return f'{ALERTS_FIRING.removesuffix("}")}, severity="{severity}"}}'


def age(expr: str) -> str:
    """Since a Unix time; the clocks of two machines may differ a little."""
    return f"clamp_min(time() - {expr}, 0)"


def share(part: str, whole: str) -> str:
    """A ratio; nothing at all where the whole is 0."""
    return f"{part} / ({whole} > 0)"


def success_ratio(window: str, *by: str) -> str:
    """The share of the attempts to publish that succeeded."""
    return share(increase(SUCCEEDED, window, *by), increase(ATTEMPTS, window, *by))


def named(expr: str) -> str:
    """Series of accounts, with the user's name; ``expr`` has the labels of ``late_account_info`` but the name."""
    keys = ", ".join(("job", "instance", *ACCOUNT))
    info = series("late_account_info")
    return f"max by (username, {', '.join(ACCOUNT)}) ({expr} * on ({keys}) group_left (username) {info})"


ATTEMPTS = series("late_publishing_logs_total", action="~publish|retry", status="~success|failed")
SUCCEEDED = series("late_publishing_logs_total", action="~publish|retry", status="success")
FAILED_ATTEMPTS = series("late_publishing_logs_total", action="~publish|retry", status="failed")
"""Attempts to publish that ended. A log is counted in each status it was seen in; these two are final."""

RULES_LOADED = "slo:late_publishing_success:objective"
"""A series that the recording rules shipped with the exporter make, whatever it does."""

ALERTS_FIRING = 'ALERTS{alertname=~"Late.+", alertstate="firing"}'
"""Not narrowed: an alert of the feeds or of the exporter has neither platform nor workspace."""
