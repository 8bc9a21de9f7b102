"""PromQL built from the catalogue, so that only existing metrics and labels can be queried."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from grafana.source.thresholds import (
    ACCOUNT_FAILURE_WINDOW,
    ACCOUNT_RECENT_WINDOW,
    NOTHING_PUBLISHED_ATTEMPTS,
    PUBLISHED_LATE_POSTS,
    PUNCTUAL_DELAY,
    SHARE_ATTEMPTS,
)
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.thresholds import (
    CONSECUTIVE_FAILED_POSTS,
    CONSECUTIVE_FAILURES,
    PLATFORM_ATTEMPTS,
    PLATFORM_FAILED_SHARE,
    SMALL_WORKSPACE_ATTEMPTS,
)

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


def success_ratio(window: str, *by: str) -> str:
    """Return the share of final publish attempts that succeeded."""
    attempts = increase(ATTEMPTS, window, *by)
    return f"{increase(SUCCESSFUL_ATTEMPTS, window, *by)} / ({attempts} > 0)"


def rated_success(window: str, *by: str) -> str:
    """Return the success ratio; empty with few attempts, unless all of at least three failed."""
    attempts = increase(ATTEMPTS, window, *by)
    return (
        f"{success_ratio(window, *by)} and ({attempts} >= {SHARE_ATTEMPTS}"
        f" or {attempts} >= {NOTHING_PUBLISHED_ATTEMPTS}"
        f" unless {increase(SUCCESSFUL_ATTEMPTS, window, *by)} > 0)"
    )


def failed_of_attempts(window: str) -> str:
    """Return a series whose labels ``failed`` and ``attempts`` are the numbers of a window.

    Both are "0" instead of empty, because a panel that shows names has no text for missing data.
    """
    attempts = or_zero(increase(ATTEMPTS, window))
    failed = or_zero(increase(FAILED_ATTEMPTS, window))
    return (
        f'count_values("attempts", round({attempts}))'
        f' * on () group_left (failed) count_values("failed", round({failed}))'
    )


def published_late(window: str, *by: str) -> str:
    """Return the share of the scheduled posts that were published late, as in LatePublishedLate.

    Like the alert, the result is empty with few posts.
    """
    punctual = selector("late_publishing_delay_seconds_bucket", le=f"~{PUNCTUAL_DELAY}")
    scheduled = increase(selector("late_publishing_delay_seconds_count"), window, *by)
    return f"1 - {increase(punctual, window, *by)} / ({scheduled} >= {PUBLISHED_LATE_POSTS})"


def platform_states() -> str:
    """Return the success ratio of each platform in an hour, or a number for another state.

    PLATFORM_FAILS if LatePlatformFailing would fire, SOME_ATTEMPTS_FAIL if some of few failed.
    """
    labels = ("job", "workspace", "platform")
    streak = f"max by ({', '.join(labels)}) ({selector('late_publishing_consecutive_failures')})"
    failing = (
        f"{success_ratio('30m', *labels)} < {1 - PLATFORM_FAILED_SHARE:g}"
        f" and {increase(ATTEMPTS, '30m', *labels)} >= {PLATFORM_ATTEMPTS}"
        f" or {streak} >= {CONSECUTIVE_FAILED_POSTS}"
        f" and {increase(FAILED_ATTEMPTS, '1d', *labels)} > 0"
    )
    ratio = success_ratio("1h", "platform")
    some = f"{ratio} < 1 and {increase(ATTEMPTS, '1h', 'platform')} < {SHARE_ATTEMPTS}"
    return (
        f"0 * max by (platform) ({failing}) + {PLATFORM_FAILS}"
        f" or 0 * ({some}) + {SOME_ATTEMPTS_FAIL} or {ratio}"
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


def account_states(**matchers: str) -> str:
    """Return the worst of the states in which an account cannot publish, for accounts in one."""
    reconnect = selector("late_account_needs_reconnect", **matchers)
    connected = selector("late_account_connected", **matchers)
    can_post = selector("late_account_can_post", **matchers)
    cooldown = selector("late_account_cooldown_until_timestamp_seconds", **matchers)
    states = (
        f"{TO_RECONNECT} + 0 * ({reconnect} == 1)",
        f"{DISCONNECTED} + 0 * ({connected} == 0)",
        f"{NO_POSTING} + 0 * ({can_post} == 0)",
        f"{COOLING_DOWN} + 0 * ({cooldown} > time())",
    )
    return with_username(f"max by (job, instance, {', '.join(ACCOUNT)}) ({' or '.join(states)})")


def failed_posts(*by: str, of: str = "", **matchers: str) -> str:
    """Return the failed posts of the last 24 hours, by some labels of accounts.

    The result is empty for workspaces whose posts are not read.

    Args:
        by: Labels to keep.
        of: Set operation that selects workspaces: OF_SMALL_WORKSPACES or OF_LARGE_WORKSPACES.
        matchers: Further matchers.
    """
    accounts = ", ".join(("job", *ACCOUNT))
    failed = f"max by ({accounts}) ({selector('late_account_failed_posts', **matchers)})"
    known = (
        f"{selector('late_account_info', **matchers)}"
        f" and on (job, workspace) {selector('late_posts', status='scheduled')}"
    )
    return sum_by(f"({failed} or 0 * max by ({accounts}) ({known})){of}", *by)


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

_DAILY_ATTEMPTS = increase(
    selector("late_publishing_attempts_total", platform="~.+"), "24h", "job", "workspace"
)
OF_SMALL_WORKSPACES = f" unless on (job, workspace) {_DAILY_ATTEMPTS} > {SMALL_WORKSPACE_ATTEMPTS}"
OF_LARGE_WORKSPACES = f" and on (job, workspace) {_DAILY_ATTEMPTS} > {SMALL_WORKSPACE_ATTEMPTS}"
"""Operations that restrict a result to workspaces for which LatePostFailed fires, or the others."""

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
SOME_ATTEMPTS_FAIL = -2
"""Values of ``platform_states`` outside the range of success ratios."""

TO_RECONNECT = 4
DISCONNECTED = 3
NO_POSTING = 2
COOLING_DOWN = 1
"""Values of ``account_states``."""
