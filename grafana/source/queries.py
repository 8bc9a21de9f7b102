"""PromQL built from the catalogue, so that only existing metrics and labels can be queried."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from grafana.source.thresholds import ACCOUNT_FAILURE_WINDOW, ACCOUNT_RECENT_WINDOW, PUNCTUAL_DELAY
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.thresholds import CONSECUTIVE_FAILURES, PLATFORM_ATTEMPTS, PLATFORM_FAILED_SHARE

ALERT_LABELS = {"exporter": "late"}
RUNBOOKS_URL = "https://github.com/late-exporter/late-exporter/blob/main/deploy/prometheus/runbooks"


RATE = "$__rate_interval"
TARGET = 'job=~"$job", instance=~"$instance"'
WORKSPACE_TARGET = 'job=~"$job", instance=~"$instance|late-exporter"'
"""Matchers of families with a workspace, to which scrapes may give a constant instance."""

VARIABLE_MATCHERS = {"workspace": "$workspace", "platform": "$platform"}
"""Matchers for the dashboard variables, applied if a family has the label."""

HISTOGRAM_SUFFIXES = ("_bucket", "_count", "_sum")
ACCOUNT = ("workspace", "platform", "account_id")


class Query(NamedTuple):
    """An expression and the legend of its series."""

    expr: str
    legend: str = ""
    exemplar: bool = False


def selector(name: str, **labels: str) -> str:
    """Return a selector for a catalogued family, filtered by the dashboard variables.

    Args:
        name: Family name, with the sample suffix of a histogram.
        labels: Value by label; a leading ``~`` makes it a regular expression, a leading ``!``
            excludes it.
    """
    known_labels = (*_labels(name), "le")
    unknown = set(labels) - set(known_labels)
    if unknown:
        raise KeyError(f"{name} has no label {', '.join(sorted(unknown))}")
    matchers = {
        label: f"~{variable}"
        for label, variable in VARIABLE_MATCHERS.items()
        if label in known_labels
    } | labels
    target = WORKSPACE_TARGET if "workspace" in known_labels else TARGET
    conditions = [target, *(_matcher(label, value) for label, value in matchers.items())]
    return f"{name}{{{', '.join(conditions)}}}"


def process_metric(name: str) -> str:
    """Return a metric that every target has, such as ``up``, for exporters seen in the last day."""
    return restrict_to_exporters(f"{name}{{{TARGET}}}")


def restrict_to_exporters(expr: str) -> str:
    """Restrict an expression to exporters, because the variables may match every job."""
    return (
        f"{expr} and on (job, instance) last_over_time({selector('late_exporter_build_info')}[1d])"
    )


def or_zero(expr: str) -> str:
    """Return a count that is 0 instead of empty, as long as an exporter reports data."""
    return f"{expr} or 0 * count({selector('late_up')})"


def _labels(name: str) -> tuple[str, ...]:
    for suffix in HISTOGRAM_SUFFIXES:
        family = CATALOGUE.get(name.removesuffix(suffix))
        if family is not None and family.kind == "histogram" and name.endswith(suffix):
            return family.labels
    return CATALOGUE[name].labels


def _matcher(label: str, value: str) -> str:
    operators = {"~": "=~", "!": "!="}
    operator = operators.get(value[0], "=")
    return f'{label}{operator}"{value[1:] if value[0] in operators else value}"'


def sum_by(expr: str, *by: str) -> str:
    """Sum an expression, by some labels."""
    return f"sum by ({', '.join(by)}) ({expr})" if by else f"sum({expr})"


def per_minute_nonzero(selector: str, *by: str) -> str:
    """Return the rate per minute without zeros, so that legends list only what occurred."""
    return f"{per_minute(selector, *by)} > 0"


def rate(selector: str) -> str:
    """Return the rate of a counter per second."""
    return f"rate({selector}[{RATE}])"


def per_minute(selector: str, *by: str) -> str:
    """Return the rate of a counter per minute."""
    return f"60 * {sum_by(rate(selector), *by)}"


def increase(selector: str, window: str, *by: str) -> str:
    """Return the increase of a counter in a window."""
    return sum_by(f"increase({selector}[{window}])", *by)


def quantile(number: float, family: str, window: str, *by: str, **labels: str) -> str:
    """Return a quantile of a histogram in a window; empty instead of NaN without observations."""
    buckets = increase(selector(f"{family}_bucket", **labels), window, "le", *by)
    return f"histogram_quantile({number}, {buckets}) >= 0"


def firing_alerts(severity: str) -> str:
    """Return the firing alerts of a severity."""
    return f'ALERTS{{{ALERTS}, alertstate="firing", severity="{severity}"}}'


def age(expr: str) -> str:
    """Return the age of a Unix time, at least 0 because clocks may differ."""
    return f"clamp_min(time() - {expr}, 0)"


def safe_ratio(numerator: str, denominator: str) -> str:
    """Return a ratio; empty if the denominator is 0."""
    return f"{numerator} / ({denominator} > 0)"


def success_ratio(window: str, *by: str) -> str:
    """Return the share of final publish attempts that succeeded."""
    return safe_ratio(increase(SUCCESSFUL_ATTEMPTS, window, *by), increase(ATTEMPTS, window, *by))


def published_late(window: str, *by: str) -> str:
    """Return the share of the scheduled posts that were published late, as in LatePublishedLate."""
    punctual = selector("late_publishing_delay_seconds_bucket", le=f"~{PUNCTUAL_DELAY}")
    share = safe_ratio(
        increase(punctual, window, *by),
        increase(selector("late_publishing_delay_seconds_count"), window, *by),
    )
    return f"1 - {share}"


def platform_states() -> str:
    """Return the success ratio of each platform in an hour, or PLATFORM_FAILS.

    The latter if LatePlatformFailing would fire.
    """
    labels = ("job", "workspace", "platform")
    failing = (
        f"{success_ratio('30m', *labels)} < {1 - PLATFORM_FAILED_SHARE:g}"
        f" and {increase(ATTEMPTS, '30m', *labels)} >= {PLATFORM_ATTEMPTS}"
    )
    return (
        f"0 * max by (platform) ({failing}) + {PLATFORM_FAILS} or {success_ratio('1h', 'platform')}"
    )


def failing_accounts(**matchers: str) -> str:
    """Return the failures in a row of the accounts for which LateAccountFailing would fire."""
    labels = ", ".join(("job", *ACCOUNT))
    logs = selector("late_account_logs_total", status="failed", **matchers)
    recent = " or ".join(
        f"sum by ({labels}) (increase({logs}[{window}])) > 0 unless sum by ({labels})"
        f" (resets({logs}[{window}])) > 0"
        for window in (ACCOUNT_FAILURE_WINDOW, ACCOUNT_RECENT_WINDOW)
    )
    failures = selector("late_account_consecutive_failures", **matchers)
    return f"max by ({labels}) ({failures}) >= {CONSECUTIVE_FAILURES} and ({recent})"


def cannot_post(*by: str, **matchers: str) -> str:
    """Return the number of accounts to which the API cannot post, by some labels."""
    can_post = f"max by ({', '.join(ACCOUNT)}) ({selector('late_account_can_post', **matchers)})"
    return sum_by(f"{can_post} == bool 0", *by)


def posts_at_risk(*by: str) -> str:
    """Return the scheduled posts that would fail, by some labels; 0 for the reason "none" if none.

    A post counts per platform; without the status feed of posts the result is empty.
    """
    risks = f"max by (workspace, platform, reason) ({selector('late_posts_at_risk')})"
    read = f"count({selector('late_posts', status='scheduled')})"
    none = f'label_replace(0 * {read}, "reason", "none", "", "")'
    return f"{sum_by(risks, *by)} or on () {none}"


def account_increase(family: str, window: str, **matchers: str) -> str:
    """Return how much a counter has grown, by account."""
    grown = f"increase({selector(family, **matchers)}[{window}])"
    return with_username(f"sum by (job, instance, {', '.join(ACCOUNT)}) ({grown})")


def with_username(expr: str) -> str:
    """Add the username label to an expression by account."""
    keys = ("job", "instance", *ACCOUNT)
    joined = add_labels(expr, "late_account_info", keys, "username")
    return f"max by (username, {', '.join(ACCOUNT)}) ({joined})"


def add_labels(expr: str, info: str, keys: Sequence[str], *labels: str) -> str:
    """Add labels of an info metric to an expression.

    There may be several with the same keys, of exporters in other clusters.
    """
    on = ", ".join(keys)
    return (
        f"{expr} * on ({on}) group_left ({', '.join(labels)}) topk by ({on}) (1, {selector(info)})"
    )


ATTEMPTS = selector("late_publishing_attempts_total")
SUCCESSFUL_ATTEMPTS = selector("late_publishing_attempts_total", status="success")
FAILED_ATTEMPTS = selector("late_publishing_attempts_total", status="failed")

RULES_MARKER = "slo:late_publishing_success:objective"
"""A series that exists whenever the shipped recording rules are loaded."""

ALERTS = ", ".join(
    [
        *(f'{name}="{value}"' for name, value in ALERT_LABELS.items()),
        *(f'{name}=~"${name}|"' for name in ("job", "workspace")),
    ]
)
"""Matchers for the alerts of late-exporter; not all have a workspace."""

_PENDING_SINCE = (
    f'ALERTS{{{ALERTS}, alertstate="firing"}} * ignoring (alertstate) group_left ()'
    f" ALERTS_FOR_STATE{{{ALERTS}}}"
)
SUBJECTS = ("instance", "webhook", "feed", "account_id", "username")
"""Labels for what an alert is about; the last one that it has says it best."""


def _with_subject(expr: str) -> str:
    for label in SUBJECTS:
        expr = f'label_replace({expr}, "subject", "$1", "{label}", "(.+)")'
    return expr


ALERTS_SINCE = (
    f"min by (alertname, severity, workspace, platform, subject) ({_with_subject(_PENDING_SINCE)})"
)
"""Unix times at which the firing alerts became pending."""

RUNBOOK_LINK = f"{RUNBOOKS_URL}/${{__data.fields.alertname:percentencode}}.md"

PLATFORM_FAILS = -1
"""Value of a failing platform, outside the range of success ratios."""
