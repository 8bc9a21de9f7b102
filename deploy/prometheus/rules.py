"""Recording and alerting rules of late-exporter, the source of the three rule files in this folder.

Thresholds are in thresholds.py. A recorded ``workspace`` series keeps the labels job and workspace, a ``platform``
series also platform, and a ``feed`` series also feed. The label of the cluster is added in files.py wherever job is
kept. The instance label is dropped so that series continue when an exporter moves to another host. A rule that
joins a family that has a workspace with one of the process has to expect a constant instance of the former.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Literal, TypeAlias

from deploy.prometheus.thresholds import (
    ACCOUNT_ACTIVE_SECONDS,
    ACCOUNT_FAILURE_WINDOW,
    ACCOUNT_RECENT_WINDOW,
    API_ERROR_REQUESTS,
    API_ERROR_SHARE,
    API_THROTTLED,
    AUDIT_AGE_SECONDS,
    BUDGET_FAILED_LOGS,
    BUDGET_FINAL_LOGS,
    CATCH_UP_RATIO,
    CONNECT_FAILED_SHARE,
    CONNECT_FAILURES,
    CONSECUTIVE_FAILURES,
    COOLDOWN_STARTS,
    COVERAGE_AGE_WARNING_SECONDS,
    COVERAGE_LEFT_CRITICAL_SECONDS,
    COVERAGE_STEP_SECONDS,
    DATA_AGE_CRITICAL_SECONDS,
    DATA_AGE_WARNING_SECONDS,
    DAY,
    ERROR_BUDGET,
    EVENT_DELAY_SECONDS,
    FAST_BURN,
    HOUR,
    LATE_LOG_LAG,
    LONG_TICKET_BURN,
    MIN_PAUSES,
    MINUTE,
    NO_ATTEMPT_LOGS,
    PAUSES_PER_LOG,
    PENDING_EXCESS,
    PENDING_SECONDS,
    PERIOD,
    PLATFORM_FAILED_SHARE,
    PLATFORM_FINAL_LOGS,
    PLATFORM_RECOVERED_SHARE,
    POST_STUCK_FACTOR,
    POST_STUCK_SECONDS,
    POSTS_OVERDUE_SECONDS,
    POSTS_STUCK_SECONDS,
    PUBLISHED_LATE_POSTS,
    PUBLISHED_LATE_SHARE,
    PUNCTUAL_DELAY,
    QUIET_EXPECTED_LOGS,
    QUIET_SHARE,
    QUOTA_LEFT_WARNING,
    RESTART_GRACE,
    RESTARTS,
    SCAN_AGE_SECONDS,
    SHARE_GRACE,
    SILENCE_EXPECTED_LOGS,
    SILENCE_WINDOW,
    SLOW_BURN,
    SLOW_FACTOR,
    SLOW_HISTORY_HOURS,
    SLOW_LOGS,
    SLOW_SECONDS,
    SPEND_RATIO,
    SUCCESS_OBJECTIVE,
    TICKET_BURN,
    TOKEN_LEFT_CRITICAL_SECONDS,
    TOKEN_LEFT_WARNING_SECONDS,
    USAGE_RATIO,
    USUAL_WEEKS_SHARE,
)

__all__ = ["ALERT_GROUPS", "ALERT_LABELS", "RECORDING_GROUPS", "AlertingRule", "RecordingRule", "RuleGroup"]

REPOSITORY_URL = "https://github.com/late-exporter/late-exporter"
RUNBOOKS_URL = f"{REPOSITORY_URL}/blob/main/deploy/prometheus/runbooks"

ALERT_LABELS = {"exporter": "late"}
"""Labels of every alert, by which dashboards and routes select them among the alerts of others."""

EXPORTER_JOBS = "late|late-.*"
"""Regular expression for the scrape jobs of late-exporter, of use only until the first successful scrape."""

SCRAPED_EXPORTERS = "late_exporter_build_info"
EXPORTER_TARGETS = f"""\
  up{{job=~"{EXPORTER_JOBS}"}}
or
  up and on (job, instance) last_over_time({SCRAPED_EXPORTERS}[7d])
"""
"""Whether the last scrape succeeded, of every target that is an exporter by the name of its job or by its metrics."""

WINDOWS = ("5m", "30m", "1h", "2h", "6h")
"""Windows computed from the raw counters."""

LONG_WINDOWS = ("1d", "3d", PERIOD)
"""Windows computed from the recorded hourly increases."""


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


OBJECTIVE = _percent(SUCCESS_OBJECTIVE)

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
QUANTILE_WINDOWS = ("5m", "1h")

Severity: TypeAlias = Literal["critical", "warning", "info"]


@dataclass(frozen=True, kw_only=True)
class BurnRate:
    """Windows of a burn-rate alert: it fires if the rate exceeds ``factor`` in both."""

    factor: float
    long_window: str
    short_window: str


FAST_BURN_RATES = (
    BurnRate(factor=FAST_BURN, long_window="1h", short_window="5m"),
    BurnRate(factor=SLOW_BURN, long_window="6h", short_window="30m"),
)
SLOW_BURN_RATES = (
    BurnRate(factor=TICKET_BURN, long_window="1d", short_window="2h"),
    BurnRate(factor=LONG_TICKET_BURN, long_window="3d", short_window="6h"),
)


@dataclass(frozen=True)
class RecordingRule:
    """A recording rule: the name of the new series and its expression."""

    name: str
    expr: str


@dataclass(frozen=True, kw_only=True)
class AlertingRule:
    """An alerting rule; its runbook has the same name.

    Args:
        condition: Description of ``expr`` in the table of alerts.
        title: Short text with platform and number for the title of a message. It also fits once the alert is resolved.
        command: Command line of the program to start with, also in the runbook.
    """

    name: str
    severity: Severity
    condition: str
    expr: str
    for_: str
    summary: str
    title: str
    description: str
    command: str
    dashboard_path: str
    keep_firing_for: str | None = None
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RuleGroup:
    """A rule group; ``interval`` defaults to the evaluation interval of Prometheus."""

    name: str
    rules: tuple[RecordingRule | AlertingRule, ...]
    interval: str | None = None


WORKSPACE = "job, workspace"
PLATFORM = "job, workspace, platform"
LEVELS = {"workspace": WORKSPACE, "platform": PLATFORM}
ACCOUNT = "job, workspace, platform, account_id"
FEED = "job, workspace, feed"

ATTEMPT_ACTIONS = 'action=~"publish|retry"'
FINAL_LOGS = f'late_publishing_logs_total{{{ATTEMPT_ACTIONS}, status=~"success|failed"}}'
FAILED_LOGS = f'late_publishing_logs_total{{{ATTEMPT_ACTIONS}, status="failed"}}'
OTHER_LOGS = (
    'late_publishing_logs_total{action!~"publish|retry|token_refresh|cancelled"}',
    f'late_publishing_logs_total{{{ATTEMPT_ACTIONS}, status!~"success|failed|pending|skipped"}}',
)
"""Logs that come with finished attempts, or are attempts in a status that the exporter does not know. Tokens are
refreshed and posts are cancelled without any attempt."""

COVERAGE = "late_exporter_coverage_start_timestamp_seconds"
LAST_POLL = "late_exporter_last_successful_poll_timestamp_seconds"
CATCHING_UP = f"workspace:late_exporter_late_logs:ratio_increase30m > {CATCH_UP_RATIO}"
RECENT_CATCH_UP = f"workspace:late_exporter_late_logs:ratio_increase1h > {CATCH_UP_RATIO}"


def _counter_resets(window: str) -> RecordingRule:
    """Return the rule that counts counter resets.

    Counters reset if the state is lost. Some may rise instead, because history is counted again.
    """
    counters = f"resets(late_publishing_logs_total[{window}])"
    return RecordingRule(f"workspace:late_publishing_logs:resets{window}", f"sum by (job, workspace) ({counters})")


def _increase_expr(counter: str, window: str) -> str:
    return f"""\
sum by ({PLATFORM}) (increase({counter}[{window}]))
unless on (job, workspace)
{_counter_resets(window).name} > 0
"""


def _log_counts(window: str) -> tuple[RecordingRule, ...]:
    """Return the rules that count final and failed logs in a window.

    The sum of the hourly increases, sampled every five minutes, counts each log twelve times. Over the whole period
    they are sampled every half hour: Prometheus loads all samples at once, and limits their number.
    """
    records = [] if window in LONG_WINDOWS else [_counter_resets(window)]
    step, samples_per_hour = ("30m", 2) if window == PERIOD else ("5m", 12)
    for kind, counter in (("final", FINAL_LOGS), ("failed", FAILED_LOGS)):
        name = f"late_publishing_{kind}_logs:increase"
        long = f"sum_over_time(platform:{name}1h[{window}:{step}]) / {samples_per_hour}"
        expr = long if window in LONG_WINDOWS else _increase_expr(counter, window)
        records += [
            RecordingRule(f"platform:{name}{window}", expr),
            RecordingRule(f"workspace:{name}{window}", f"sum without (platform) (platform:{name}{window})"),
        ]
    return tuple(records)


def _success_ratios(window: str) -> tuple[RecordingRule, ...]:
    records = []
    for level in ("workspace", "platform"):
        ratio = f"{level}:late_publishing_success:ratio_increase{window}"
        failed, final = (f"{level}:late_publishing_{kind}_logs:increase{window}" for kind in ("failed", "final"))
        burn = f"{level}:late_publishing_error_budget:burnrate{window}"
        records += [
            RecordingRule(ratio, f"1 - {failed} / ({final} > 0)"),
            RecordingRule(burn, f"(1 - {ratio}) / {ERROR_BUDGET}"),
        ]
    return tuple(records)


def _quantiles(family: str, matchers: str, window: str, *names: str) -> tuple[RecordingRule, ...]:
    """Return the rules of some quantiles of a histogram, by workspace and by platform."""
    return tuple(
        RecordingRule(
            f"{level}:{family}:{name}_rate{window}",
            # NaN without traffic, which is not >= 0.
            f"histogram_quantile({QUANTILES[name]},"
            f" sum by ({labels}, le) (rate({family}_bucket{matchers}[{window}]))) >= 0",
        )
        for level, labels in LEVELS.items()
        for name in names
    )


def _remaining_budget() -> tuple[RecordingRule, ...]:
    return tuple(
        RecordingRule(
            f"{level}:late_publishing_error_budget:remaining{PERIOD}",
            f"1 - {level}:late_publishing_error_budget:burnrate{PERIOD}",
        )
        for level in ("workspace", "platform")
    )


def _ratio_above(
    bound: str, name: str, family: str, window: str, *, level: str = "workspace", matcher: str = ""
) -> RecordingRule:
    """Return the rule of the share of the observations of a histogram that exceed the bound of a bucket."""
    labels, and_bound = LEVELS[level], f'{matcher}{", " if matcher else ""}le=~"{bound}"'
    return RecordingRule(
        f"{level}:{name}:ratio_increase{window}",
        f"""\
1
-
sum by ({labels}) (increase({family}_bucket{{{and_bound}}}[{window}]))
/
(sum by ({labels}) (increase({family}_count{f"{{{matcher}}}" if matcher else ""}[{window}])) > 0)
""",
    )


def _late_log_ratio(window: str) -> RecordingRule:
    family, matcher = "late_exporter_log_lag_seconds", 'feed="publishing"'
    return _ratio_above(LATE_LOG_LAG, "late_exporter_late_logs", family, window, matcher=matcher)


FINAL_1H = "workspace:late_publishing_final_logs:increase1h"


def _expected_logs(window: str) -> RecordingRule:
    """Return the rule for the final logs expected in a window.

    Uses the smaller of two values so that neither a quiet weekend nor a past catch-up raises the expectation.
    """
    final = f"workspace:late_publishing_final_logs:increase{window}"
    week_ago = f"{final} offset 1w"
    days_ago = f"({final} offset 1d + {final} offset 2d + {final} offset 3d) / 3"
    return RecordingRule(
        f"workspace:late_publishing_final_logs:expected{window}",
        f"({week_ago} < {days_ago})\nor\n({days_ago} <= {week_ago})\n",
    )


P95 = "platform:late_publishing_duration_seconds:p95_rate1h"
MEDIAN_P95 = RecordingRule(
    "platform:late_publishing_duration_seconds:p95_median7d",
    f"""\
quantile_over_time(0.5, {P95}[7d:1h])
and
count_over_time({P95}[7d:1h]) >= {SLOW_HISTORY_HOURS}
""",
)

P99 = "platform:late_publishing_duration_seconds:p99_rate1h"
MEDIAN_P99 = RecordingRule(
    "platform:late_publishing_duration_seconds:p99_median7d",
    f"""\
quantile_over_time(0.5, {P99}[7d:1h])
and
count_over_time({P99}[7d:1h]) >= {SLOW_HISTORY_HOURS}
""",
)

DELAY = "late_publishing_delay_seconds"
PUBLISHED_LATE = "late_publishing_published_late:ratio_increase30m"

PENDING = f"max by ({PLATFORM}) (sum without (action) (late_publishing_pending_logs))"
OLDEST_PENDING = f"min by ({PLATFORM}) (late_publishing_oldest_pending_timestamp_seconds)"
MEDIAN_PENDING = RecordingRule(
    "platform:late_publishing_pending_logs:median7d",
    f"quantile_over_time(0.5, ({PENDING})[7d:15m])",
)

ONE_LOG = 0.5
"""What an increase exceeds if there was one, because it is an estimate."""


def _scheduled(offset: str = "") -> str:
    return f'max by ({WORKSPACE}) (late_posts{{status="scheduled"}}{offset})'


SCHEDULED = _scheduled()
USUALLY_SCHEDULED = RecordingRule(
    # Of the weeks for which there are samples: most Prometheus servers keep two.
    "workspace:late_posts_scheduled:share_of_weeks",
    "avg by (job, workspace) (\n"
    + "or\n".join(
        f'  label_replace({_scheduled(f" offset {week}w")} > bool 0, "week", "{week}", "", "")\n'
        for week in range(1, 5)
    )
    + ")\n",
)

EXPIRY_METRIC = "late_account_token_expiry_timestamp_seconds"
LAST_SUCCESS = "late_account_last_success_timestamp_seconds"
LONG_LIVED_TOKENS = RecordingRule(
    # Skip tokens known for less than a day (Late renews short-lived ones itself), renewed tokens, and disconnected
    # accounts.
    "account:late_account_token_expiry:timestamp_seconds",
    f"""\
max by ({ACCOUNT}) ({EXPIRY_METRIC})
==
max by ({ACCOUNT}) (last_over_time({EXPIRY_METRIC}[1d] offset 1d))
unless
max by ({ACCOUNT}) ({LAST_SUCCESS}) > max by ({ACCOUNT}) ({EXPIRY_METRIC})
unless
max by ({ACCOUNT}) (late_account_connected) == 0
""",
)

COOLDOWN_UNTIL = "late_account_cooldown_until_timestamp_seconds"
COOLDOWN_STARTS_1D = RecordingRule(
    # Each start sets another end; the one of a day ago began before.
    "account:late_account_cooldown:starts1d",
    f"""\
max by ({ACCOUNT}) (changes({COOLDOWN_UNTIL}[1d])) + 1
unless
max by ({ACCOUNT}) ({COOLDOWN_UNTIL} offset 1d)
or
max by ({ACCOUNT}) (changes({COOLDOWN_UNTIL}[1d]))
""",
)

API_REQUESTS = "workspace:late_api_requests"


def _api_requests(matcher: str = "") -> str:
    selector = f'late_activity_logs_total{{type="api_request"{matcher}}}'
    return f"sum by ({WORKSPACE}) (increase({selector}[5m]))"


API_REQUEST_RULES = (
    # Of all programs that use the API, as its own logs report them; only with the feed api_request.
    RecordingRule(f"{API_REQUESTS}:increase5m", _api_requests()),
    RecordingRule("workspace:late_api_throttled_requests:increase5m", _api_requests(', status_code="429"')),
    RecordingRule(
        "workspace:late_api_failed_requests:ratio_increase5m",
        f"""\
(
    {_api_requests(', status_code=~"5.."')}
  or
    0 * {API_REQUESTS}:increase5m
)
/
({API_REQUESTS}:increase5m > 0)
""",
    ),
    RecordingRule(
        "workspace:late_api_request_duration_seconds:p95_rate5m",
        f"histogram_quantile(0.95, sum by ({WORKSPACE}, le)"
        ' (rate(late_activity_duration_seconds_bucket{type="api_request"}[5m]))) >= 0',
    ),
)

RETENTION = RecordingRule(
    # A restarted exporter shows its coverage just before the retention.
    "feed:late_exporter_retention:seconds",
    f"max by ({FEED}) (last_over_time(late_exporter_retention_seconds[1h]))",
)
EXPIRY_AGE = f"on ({FEED}) group_left () ({RETENTION.name} - {HOUR})"
"""Right side of a comparison with the age of a feed's coverage, from which older logs have expired."""

OPEN_GAP = RecordingRule(
    # While a gap is open, coverage starts where the gap begins. If it starts before older polls instead, there is no
    # gap: the state was lost, and its first sync has read again what they had read.
    "feed:late_exporter_open_gap:bool",
    f"""\
max by ({FEED}) (
    {COVERAGE} - min_over_time({COVERAGE}[7d:10m]) > bool {COVERAGE_STEP_SECONDS}
  and
    time() - {COVERAGE} < {EXPIRY_AGE}
  unless
    {COVERAGE} < min_over_time({LAST_POLL}[7d:10m]) - {COVERAGE_STEP_SECONDS}
)
""",
)
LAST_GAPLESS_POLL = RecordingRule(
    "feed:late_exporter_last_gapless_poll:timestamp_seconds",
    f"max by ({FEED}) ({LAST_POLL}) unless feed:late_exporter_open_gap:bool == 1",
)


def _under_constant_instance(expr: str) -> str:
    """Return a series of a job with the instance that scrapes may give to all families with a workspace.

    With it these families can be joined to the processes of their job, because they no longer name one of them.
    """
    return f'label_replace({expr}, "instance", "late-exporter", "", "")'


POLL_AGE = RecordingRule(
    # Since the start of the process if no poll has succeeded.
    "feed:late_exporter_poll_age:seconds",
    f"""\
max by ({FEED}) (
    time() - {LAST_POLL}
  or
    time() - (
        late_up * 0
        + on (job, instance) group_left () (
            max by (job, instance) (process_start_time_seconds)
          or
            {_under_constant_instance("max by (job) (process_start_time_seconds)")}
        )
      unless
        {LAST_POLL}
    )
)
""",
)

EXPECTED_FEEDS = f"""\
max by ({FEED}) (
    present_over_time(late_up[1h])
  or
    present_over_time(late_up[7d])
    unless on (job, instance) up == 1
    unless on (job, instance) {_under_constant_instance("min by (job) (up) == 1")}
)"""
"""Feeds of running exporters, and of exporters that are down. Excludes feeds removed from the configuration."""

RECORDING_GROUPS = (
    RuleGroup(
        name="late-publishing",
        rules=(
            RecordingRule("slo:late_publishing_success:objective", f"vector({SUCCESS_OBJECTIVE})"),
            *(record for window in WINDOWS for record in _log_counts(window)),
            *(record for window in WINDOWS for record in _success_ratios(window)),
            *(
                record
                for window in QUANTILE_WINDOWS
                for record in _quantiles(
                    "late_publishing_duration_seconds", f'{{{ATTEMPT_ACTIONS}, status="success"}}', window, *QUANTILES
                )
            ),
            *_quantiles(DELAY, "", "1h", "p50", "p95"),
            *(
                _ratio_above(PUNCTUAL_DELAY, "late_publishing_published_late", DELAY, "30m", level=level)
                for level in LEVELS
            ),
            _late_log_ratio("30m"),
            _late_log_ratio("1h"),
            _expected_logs("1h"),
            _expected_logs(SILENCE_WINDOW),
        ),
    ),
    RuleGroup(
        name="late-publishing-long",
        interval="2m",
        rules=(
            *(record for window in LONG_WINDOWS for record in _log_counts(window)),
            *(record for window in LONG_WINDOWS for record in _success_ratios(window)),
            *_remaining_budget(),
            MEDIAN_P95,
            MEDIAN_P99,
            MEDIAN_PENDING,
            USUALLY_SCHEDULED,
        ),
    ),
    RuleGroup(name="late-accounts-tokens", rules=(LONG_LIVED_TOKENS, COOLDOWN_STARTS_1D)),
    RuleGroup(name="late-api-requests", rules=API_REQUEST_RULES),
    RuleGroup(name="late-coverage", rules=(RETENTION, OPEN_GAP, LAST_GAPLESS_POLL, POLL_AGE)),
)


def _dashboard_variables(*names: str) -> str:
    return "&".join(f"var-{name}={{{{ $labels.{name} | urlquery }}}}" for name in names)


def _dashboard_path(uid: str, *names: str) -> str:
    variables = _dashboard_variables(*names)
    return f"/d/{uid}{'?' if variables else ''}{variables}"


OVERVIEW_DASHBOARD = _dashboard_path("late-overview", "job", "workspace")
PLATFORM_DASHBOARD_OF_WORKSPACE = _dashboard_path("late-platform", "job", "workspace")
PLATFORM_DASHBOARD = _dashboard_path("late-platform", "job", "workspace", "platform")
ACCOUNT_DASHBOARD = _dashboard_path("late-accounts", "job", "workspace", "platform", "account_id")
EXPORTER_DASHBOARD = _dashboard_path("late-exporter", "job", "workspace")
TARGET_DASHBOARD = _dashboard_path("late-exporter", "job", "instance")

_WORKSPACE = "Workspace {{ $labels.workspace }}"
_ACCOUNT = "{{ with $labels.username }}{{ . }}{{ else }}account{{ end }} ({{ $labels.account_id }})"
_ON_PLATFORM = f"{_ACCOUNT} on {{{{ $labels.platform }}}}"
_FEED = "{{ $labels.feed }} feed"
_NAME = "{{ with $labels.username }}{{ . }}{{ else }}account {{ $labels.account_id }}{{ end }}"
_ON = "{{ $labels.platform }}: "
_COUNT = '{{ $value | printf "%.0f" }}'
_SHARE = "{{ $value | humanizePercentage }}"
_DURATION = '{{ $value | humanizeDuration | reReplaceAll "^([^ ]+ [^ ]+) .*" "$1" }}'
"""The value as a duration in its two largest units."""

# Commands are pasted into shells, so names from the API are only filled in if they are plain words.
_WORKSPACE_FLAG = " --workspace {{ $labels.workspace }}"
_PLATFORM_FLAG = '{{ if match "^[a-z0-9_-]+$" $labels.platform }} --platform {{ $labels.platform }}{{ end }}'
_ACCOUNT_FLAG = '{{ if match "^[A-Za-z0-9_-]+$" $labels.account_id }} --account {{ $labels.account_id }}{{ end }}'
_CHECK = "late-exporter check"


def _query(expr: str, *labels: str) -> str:
    """Return a template pipeline that queries an expression, with the labels of the alert for each %q in it."""
    arguments = "".join(f" $labels.{label}" for label in labels)
    return f"query (printf {json.dumps(expr, ensure_ascii=False)}{arguments})"


def _number(expr: str, *labels: str) -> str:
    """Return a template of the rounded value of an expression."""
    return f'{{{{ with {_query(expr, *labels)} }}}}{{{{ . | first | value | printf "%.0f" }}}}{{{{ end }}}}'


def _top_label(label: str, before: str, expr: str, *labels: str) -> str:
    """Return a template of a label of the largest series of an expression, if there is one."""
    query = _query(f"topk(1, {expr} > 0)", *labels)
    return f'{{{{ with {query} }}}}{before}{{{{ . | first | label "{label}" }}}}{{{{ end }}}}'


_OF_WORKSPACE = "{cluster=%q, job=%q, workspace=%q}"
_OF_PLATFORM = "{cluster=%q, job=%q, workspace=%q, platform=%q}"
_WORKSPACE_LABELS = ("cluster", "job", "workspace")
_PLATFORM_LABELS = ("cluster", "job", "workspace", "platform")

PLATFORM_ALERT = "LatePlatformFailing"


def _reported_platforms(window: str) -> str:
    """Return an expression for the platforms that LatePlatformFailing reported in a window."""
    return f'last_over_time(ALERTS{{alertname="{PLATFORM_ALERT}", alertstate="firing"}}[{window}])'


def _unreported_counts(window: str) -> tuple[RecordingRule, ...]:
    """Return the rules that count logs of the platforms that LatePlatformFailing did not report in a window."""
    return tuple(
        RecordingRule(
            f"workspace:late_publishing_unreported_{kind}_logs:increase{window}",
            f"""\
sum without (platform) (
    platform:late_publishing_{kind}_logs:increase{window}
  unless on ({PLATFORM})
    {_reported_platforms(window)}
)
""",
        )
        for kind in ("final", "failed")
    )


def _burn(window: str, prefix: str) -> str:
    """Return the burn rate in a window, of all platforms or of the unreported ones.

    The latter is the former times the ratio of their failed shares, because the objective is in the former only.
    """
    burn = f"workspace:late_publishing_error_budget:burnrate{window}"
    if not prefix:
        return burn
    final, failed = (f"workspace:late_publishing_{prefix}{kind}_logs:increase{window}" for kind in ("final", "failed"))
    return f"{burn} * {failed} / ({final} > 0) / (1 - workspace:late_publishing_success:ratio_increase{window})"


def _exceeds_burn_rate(burn_rate: BurnRate, prefix: str) -> str:
    """Return a condition over the series of a workspace; ``prefix`` selects all platforms or the unreported ones."""
    final, failed = (f"workspace:late_publishing_{prefix}{kind}_logs:increase" for kind in ("final", "failed"))
    return f"""\
    {_burn(burn_rate.long_window, prefix)} > {burn_rate.factor}
  and
    {_burn(burn_rate.short_window, prefix)} > {burn_rate.factor}
  and
    {final}{burn_rate.long_window} >= {BUDGET_FINAL_LOGS}
  and
    {failed}{burn_rate.long_window} >= {BUDGET_FAILED_LOGS}
"""


def _burns(burn_rates: Sequence[BurnRate], prefix: str = "") -> str:
    return "or\n".join(_exceeds_burn_rate(burn_rate, prefix) for burn_rate in burn_rates)


def _burn_rate_alert(
    name: str,
    severity: Severity,
    burn_rates: Sequence[BurnRate],
    for_: str,
    *,
    window: str,
    since: str,
    extra: str = "",
) -> AlertingRule:
    """Return an alert on the error budget, whose value is the share of failed attempts in ``window``.

    It counts the platforms that LatePlatformFailing did not report in each window.
    """
    final, failed = (
        f"workspace:late_publishing_unreported_{kind}_logs:increase{window}" for kind in ("final", "failed")
    )
    failed_by_platform = (
        f"(platform:late_publishing_failed_logs:increase{window}{_OF_WORKSPACE}"
        f" unless on (cluster, {PLATFORM}) {_reported_platforms(window)})"
    )
    share = f"100 * {failed}{_OF_WORKSPACE} / {final}{_OF_WORKSPACE}"
    percent = f"{_number(share, *_WORKSPACE_LABELS, *_WORKSPACE_LABELS)} %"
    attempts = _number(f"{final}{_OF_WORKSPACE}", *_WORKSPACE_LABELS)
    worst = _top_label("platform", ", most on ", failed_by_platform, *_WORKSPACE_LABELS)
    days = int(PERIOD[:-1]) / min(each.factor for each in burn_rates)
    return AlertingRule(
        name=name,
        severity=severity,
        condition="the error budget burns at more than "
        + ", or ".join(
            f"{each.factor:g}x the allowed rate over {each.long_window} and {each.short_window}" for each in burn_rates
        )
        + f", without platforms that {PLATFORM_ALERT} has reported",
        expr=f"""\
({failed} / ({final} > 0))
and
(
{_burns(burn_rates, "unreported_")})
{extra}""",
        for_=for_,
        keep_firing_for=SHARE_GRACE,
        summary="Too many publish attempts fail for the success objective.",
        title=f"{percent} of {attempts} attempts failed in {window}{worst}",
        description=(
            f"{_WORKSPACE}: {percent} of {attempts} publish attempts failed in the last {since}{worst}. At this rate,"
            f" the error budget of {PERIOD[:-1]} days for {OBJECTIVE} success is used up in less than {days:g} days."
        ),
        command=f"late-exporter logs{_WORKSPACE_FLAG} --status failed --since {window}",
        dashboard_path=OVERVIEW_DASHBOARD,
    )


_SHARE_30M = "(1 - platform:late_publishing_success:ratio_increase30m)"


def _failed_attempts(window: str) -> str:
    """Return a template like ``66 % of 121`` of the failed attempts of a platform."""
    percent = f"100 * (1 - platform:late_publishing_success:ratio_increase{window}{_OF_PLATFORM})"
    final = f"platform:late_publishing_final_logs:increase{window}{_OF_PLATFORM}"
    return f"{_number(percent, *_PLATFORM_LABELS)} % of {_number(final, *_PLATFORM_LABELS)}"


_FAILURES = (
    "sum by (category, status_code) ("
    'increase(late_publishing_failures_total{cluster=%q, job=%q, workspace=%q, platform=%q, action=~"publish|retry"}'
    "[30m]))"
)
_TOP_FAILURE = (
    f"{{{{ with {_query(f'topk(1, {_FAILURES} > 0)', *_PLATFORM_LABELS)} }}}}, most of them with"
    ' {{ . | first | label "category" }} ({{ . | first | label "status_code" }}){{ end }}'
)

PLATFORM_FAILING = AlertingRule(
    name=PLATFORM_ALERT,
    severity="critical",
    condition=(
        f"more than {_percent(PLATFORM_FAILED_SHARE)} of at least {PLATFORM_FINAL_LOGS} attempts on a platform failed"
        " within 30m, or as many within 5m cause most of a fast burn of the error budget"
    ),
    expr=f"""\
{_SHARE_30M}
and
(
    {_SHARE_30M} > {PLATFORM_FAILED_SHARE}
  and
    platform:late_publishing_final_logs:increase30m >= {PLATFORM_FINAL_LOGS}
  unless
    platform:late_publishing_success:ratio_increase5m > {PLATFORM_RECOVERED_SHARE}
or
    1 - platform:late_publishing_success:ratio_increase5m > {PLATFORM_FAILED_SHARE}
  and
    platform:late_publishing_failed_logs:increase1h
    > on ({WORKSPACE}) group_left ()
    (0.5 * workspace:late_publishing_failed_logs:increase1h)
  and on ({WORKSPACE})
(
{_burns(FAST_BURN_RATES)})
)
unless on ({WORKSPACE})
{CATCHING_UP}
""",
    for_="2m",
    keep_firing_for=SHARE_GRACE,
    summary="Most publish attempts on a platform fail.",
    title=(
        f"{_ON}{{{{ if gt $value {PLATFORM_FAILED_SHARE} }}}}{_failed_attempts('30m')} attempts failed in 30m"
        f"{{{{ else }}}}{_failed_attempts('5m')} attempts failed in 5m{{{{ end }}}}"
    ),
    description=(
        f"{_WORKSPACE}: {_failed_attempts('30m')} publish attempts on {{{{ $labels.platform }}}} failed in the last 30"
        f" minutes{{{{ if le $value {PLATFORM_FAILED_SHARE} }}}}, {_failed_attempts('5m')} in the last 5 minutes"
        f"{{{{ end }}}}{_TOP_FAILURE}."
    ),
    command=f"late-exporter posts{_WORKSPACE_FLAG}{_PLATFORM_FLAG} --failed --since 30m",
    dashboard_path=PLATFORM_DASHBOARD,
)

BUDGET_GROUP = RuleGroup(
    # Prometheus evaluates the rules of a group in this order, so the burn rates know the platforms that are reported.
    name="late-budget",
    rules=(
        PLATFORM_FAILING,
        *(
            record
            for window in dict.fromkeys(
                window
                for each in (*FAST_BURN_RATES, *SLOW_BURN_RATES)
                for window in (each.long_window, each.short_window)
            )
            for record in _unreported_counts(window)
        ),
        _burn_rate_alert(
            "LateErrorBudgetBurningFast",
            "critical",
            FAST_BURN_RATES,
            "5m",  # longer than LatePlatformFailing takes, which reports the cause
            window="1h",
            since="hour",
            extra=f"unless\n{CATCHING_UP}\n",
        ),
        _burn_rate_alert(
            "LateErrorBudgetBurningSlowly", "warning", SLOW_BURN_RATES, "1h", window="1d", since="24 hours"
        ),
    ),
)

_EXPECTED = "workspace:late_publishing_final_logs:expected"
_EXPECTED_1H = _number(f"{_EXPECTED}1h{_OF_WORKSPACE}", *_WORKSPACE_LABELS)
_EXPECTED_6H = _number(f"{_EXPECTED}{SILENCE_WINDOW}{_OF_WORKSPACE}", *_WORKSPACE_LABELS)
_PUBLISHING_IS_POLLED = f'time() - max by ({WORKSPACE}) ({LAST_POLL}{{feed="publishing"}}) < {DATA_AGE_WARNING_SECONDS}'

_LATEST = _top_label("platform", ", worst on ", f"platform:{PUBLISHED_LATE}{_OF_WORKSPACE}", *_WORKSPACE_LABELS)

PUBLISHING_GROUP = RuleGroup(
    name="late-publishing-alerts",
    rules=(
        AlertingRule(
            name="LatePublishingQuiet",
            severity="warning",
            condition=(
                f"fewer than {_percent(QUIET_SHARE)} of at least {QUIET_EXPECTED_LOGS} attempts expected for this hour"
                " ended"
            ),
            expr=f"""\
{FINAL_1H} < {QUIET_SHARE} * workspace:late_publishing_final_logs:expected1h
and
workspace:late_publishing_final_logs:expected1h >= {QUIET_EXPECTED_LOGS}
and
{_PUBLISHING_IS_POLLED}
""",
            for_="30m",
            labels={"window": "1h"},
            summary="Far fewer posts are published than at this hour on other days.",
            title=f"{_COUNT} attempts in 1h, {_EXPECTED_1H} expected",
            description=(
                f"{_WORKSPACE}: {{{{ $value | humanize }}}} publish attempts ended in the last hour, less than"
                f" {100 * QUIET_SHARE:g} % of the same hour a week ago and of its average over the last three days."
            ),
            command=f"late-exporter logs{_WORKSPACE_FLAG} --since 6h",
            dashboard_path=OVERVIEW_DASHBOARD,
        ),
        AlertingRule(
            name="LatePublishingQuiet",
            severity="warning",
            condition=(f"none of at least {SILENCE_EXPECTED_LOGS} attempts expected within {SILENCE_WINDOW} ended"),
            expr=f"""\
workspace:late_publishing_final_logs:increase{SILENCE_WINDOW} == 0
and
workspace:late_publishing_final_logs:expected{SILENCE_WINDOW} >= {SILENCE_EXPECTED_LOGS}
and
{_PUBLISHING_IS_POLLED}
""",
            for_="30m",
            labels={"window": SILENCE_WINDOW},
            summary="Far fewer posts are published than at this hour on other days.",
            title=f"no attempts in {SILENCE_WINDOW}, {_EXPECTED_6H} expected",
            description=(
                f"{_WORKSPACE}: no publish attempt ended in the last {SILENCE_WINDOW[:-1]} hours, unlike in the same"
                " hours a week ago and on the last three days."
            ),
            command=f"late-exporter logs{_WORKSPACE_FLAG} --since 1d",
            dashboard_path=OVERVIEW_DASHBOARD,
        ),
        AlertingRule(
            name="LatePublishingQuiet",
            severity="warning",
            condition="posts are scheduled, but none was published for a day, unlike a week ago",
            expr=f"""\
workspace:late_publishing_final_logs:increase1d - workspace:late_publishing_failed_logs:increase1d < {ONE_LOG}
and
workspace:late_publishing_final_logs:increase1d offset 1w > {ONE_LOG}
and
{SCHEDULED} > 0
and
{_PUBLISHING_IS_POLLED}
""",
            for_="2h",  # Posts of a day may be some hours later than those of the day before.
            labels={"window": "1d"},
            summary="Posts are scheduled, but none is published.",
            title="no post published in 1d, although some are scheduled",
            description=(
                f"{_WORKSPACE}: no post was published in the last day, unlike on the same day a week ago, although"
                " posts are scheduled."
            ),
            command=f"late-exporter logs{_WORKSPACE_FLAG} --since 2d",
            dashboard_path=OVERVIEW_DASHBOARD,
        ),
        AlertingRule(
            name="LateNoAttempts",
            severity="warning",
            condition=(
                f"{NO_ATTEMPT_LOGS} or more publishing logs within {SILENCE_WINDOW}, none of them a finished attempt,"
                " unlike on other days"
            ),
            expr=f"""\
sum by ({WORKSPACE}) (
    increase({OTHER_LOGS[0]}[{SILENCE_WINDOW}])
  or
    increase({OTHER_LOGS[1]}[{SILENCE_WINDOW}])
) >= {NO_ATTEMPT_LOGS}
unless
workspace:late_publishing_final_logs:increase{SILENCE_WINDOW} > 0
unless
(
    workspace:late_publishing_final_logs:increase3d > 0
  unless
    workspace:late_publishing_final_logs:expected{SILENCE_WINDOW} > 0
)
unless
{_counter_resets(SILENCE_WINDOW).name} > 0
""",
            for_="30m",
            summary="Publishing logs are read, but none of them is a publish attempt.",
            title=f"{_COUNT} publishing logs in {SILENCE_WINDOW}, none of them an attempt",
            description=(
                f"{_WORKSPACE}: {{{{ $value | humanize }}}} publishing logs were counted in the last"
                f" {SILENCE_WINDOW[:-1]} hours, none of them as a publish attempt that succeeded or failed. Alerts on"
                " failures cannot fire."
            ),
            command=f"late-exporter logs{_WORKSPACE_FLAG} --since {SILENCE_WINDOW} --format json",
            dashboard_path=PLATFORM_DASHBOARD_OF_WORKSPACE,
        ),
        AlertingRule(
            name="LatePublishingSlow",
            severity="warning",
            condition=(
                f"the 95th percentile over 1h is more than {SLOW_FACTOR} times its weekly median and more than"
                f" {SLOW_SECONDS} s above it"
            ),
            expr=f"""\
{P95} > {SLOW_FACTOR} * {MEDIAN_P95.name}
and
{P95} - {MEDIAN_P95.name} > {SLOW_SECONDS}
and
sum by ({PLATFORM}) (
  increase(late_publishing_duration_seconds_count{{{ATTEMPT_ACTIONS}, status="success"}}[1h])
) >= {SLOW_LOGS}
unless on (job, workspace)
{RECENT_CATCH_UP}
unless on (job, workspace)
{_counter_resets("1h").name} > 0
""",
            for_="15m",
            summary="Publishing takes far longer than usual.",
            title=f"{_ON}publishing took {_DURATION} (95th percentile)",
            description=(
                f"{_WORKSPACE}: the 95th percentile of the publishing duration on {{{{ $labels.platform }}}} was"
                f" {_DURATION} in the last hour, more than"
                f" {SLOW_FACTOR} times its weekly median."
            ),
            command=f"late-exporter logs{_WORKSPACE_FLAG}{_PLATFORM_FLAG} --since 1h",
            dashboard_path=PLATFORM_DASHBOARD,
        ),
        AlertingRule(
            name="LatePublishedLate",
            severity="warning",
            condition=(
                f"more than {_percent(PUBLISHED_LATE_SHARE)} of at least {PUBLISHED_LATE_POSTS} scheduled posts within"
                " 30m were published more than 5m late"
            ),
            expr=f"""\
workspace:{PUBLISHED_LATE} > {PUBLISHED_LATE_SHARE}
and
sum by ({WORKSPACE}) (increase({DELAY}_count[30m])) >= {PUBLISHED_LATE_POSTS}
unless
{CATCHING_UP}
unless
{_counter_resets("30m").name} > 0
""",
            for_="5m",
            keep_firing_for=SHARE_GRACE,
            summary="Scheduled posts are published late.",
            title=f"{_SHARE} of the scheduled posts late{_LATEST}",
            description=(
                f"{_WORKSPACE}: {_SHARE} of the scheduled posts of the last 30 minutes were published more than 5"
                f" minutes after their time{_LATEST}."
            ),
            command=f"late-exporter logs{_WORKSPACE_FLAG} --status success --since 30m",
            dashboard_path=OVERVIEW_DASHBOARD,
        ),
        AlertingRule(
            name="LateRateLimited",
            severity="warning",
            condition=(
                f"{MIN_PAUSES} or more rate-limit pauses within 1h, more than one per {1 / PAUSES_PER_LOG:g} attempts"
            ),
            expr=f"""\
sum by ({PLATFORM}) (increase(late_publishing_rate_limit_pauses_total[1h])) >= {MIN_PAUSES}
and
(
    sum by ({PLATFORM}) (increase(late_publishing_rate_limit_pauses_total[1h]))
  /
    platform:late_publishing_final_logs:increase1h
) > {PAUSES_PER_LOG}
unless on (job, workspace)
{RECENT_CATCH_UP}
""",
            for_="5m",
            keep_firing_for=SHARE_GRACE,
            summary="A platform's rate limit delays posts.",
            title=f"{_ON}{_COUNT} rate-limit pauses in 1h",
            description=(
                f"{_WORKSPACE}: the rate limit of {{{{ $labels.platform }}}} paused posts {_COUNT} times in the last"
                f" hour, more than once per {1 / PAUSES_PER_LOG:g} publish attempts."
            ),
            command=f"late-exporter logs{_WORKSPACE_FLAG}{_PLATFORM_FLAG} --action rate_limit_pause --since 1h",
            dashboard_path=PLATFORM_DASHBOARD,
        ),
        AlertingRule(
            name="LatePendingStuck",
            severity="warning",
            condition=(
                f"{PENDING_EXCESS} or more pending logs above the weekly median, the oldest pending for over"
                f" {PENDING_SECONDS // HOUR}h"
            ),
            expr=f"""\
{PENDING} - {MEDIAN_PENDING.name} >= {PENDING_EXCESS}
and
time() - {OLDEST_PENDING} > {PENDING_SECONDS}
""",
            for_="15m",
            keep_firing_for=RESTART_GRACE,
            summary="Posts stay pending.",
            title=f"{_ON}{_COUNT} more pending logs than usual",
            description=(
                f"{_WORKSPACE}: {{{{ $value | humanize }}}} more logs on {{{{ $labels.platform }}}} are pending than"
                f" usual, the oldest for more than {PENDING_SECONDS // HOUR} hour."
            ),
            command=f"late-exporter logs{_WORKSPACE_FLAG}{_PLATFORM_FLAG} --status pending --since 7d",
            dashboard_path=PLATFORM_DASHBOARD,
        ),
        AlertingRule(
            name="LatePostStuck",
            severity="warning",
            condition=(
                f"a log is pending for more than {POST_STUCK_FACTOR} times the usual 99th percentile of the duration on"
                f" its platform, and for over {POST_STUCK_SECONDS // HOUR}h"
            ),
            expr=f"""\
time() - {OLDEST_PENDING}
>
(
  clamp_min({POST_STUCK_FACTOR} * {MEDIAN_P99.name}, {POST_STUCK_SECONDS})
or
  {POST_STUCK_SECONDS} + 0 * {OLDEST_PENDING}
)
and on ({WORKSPACE})
{_PUBLISHING_IS_POLLED}
""",
            for_="15m",  # long enough to settle what ended during an outage of the exporter
            keep_firing_for=RESTART_GRACE,
            summary="A post has been pending for far longer than publishing takes.",
            title=f"{_ON}post pending for {_DURATION}",
            description=(
                f"{_WORKSPACE}: the oldest pending log on {{{{ $labels.platform }}}} was created"
                f" {_DURATION} ago. That is far longer than posts usually take there."
            ),
            command=f"late-exporter logs{_WORKSPACE_FLAG}{_PLATFORM_FLAG} --status pending --since 7d",
            dashboard_path=PLATFORM_DASHBOARD,
        ),
    ),
)


RECONNECT_ALERTS = "LateAccountNeedsReconnect|LateAccountDisconnected"
"""Regular expression for the alerts that report why all posts to an account fail."""

NEEDS_RECONNECT = f"max by ({ACCOUNT}) (late_account_needs_reconnect) == 1"


def _with_username(expr: str) -> str:
    """Return an expression over accounts with the username label added."""
    indented_expr = "".join(f"  {line}\n" for line in expr.splitlines())
    # If two exporters disagree about a name, take one of them instead of failing for all accounts.
    names = f"topk by ({ACCOUNT}) (1, max by ({ACCOUNT}, username) (late_account_info))"
    return f"(\n{indented_expr})\n* on ({ACCOUNT}) group_left (username)\n{names}\n"


def _with_username_if_known(expr: str) -> str:
    """Return an expression over accounts with the username label added to accounts that have a name."""
    return f"{_with_username(expr)}or on ({ACCOUNT})\n{expr.rstrip()}\n"


def _token_expiry_alert(severity: Severity, seconds: int, for_: str) -> AlertingRule:
    expiring_tokens = f"{LONG_LIVED_TOKENS.name} - time() < {seconds} > -{DAY}"
    return AlertingRule(
        name="LateTokenExpiring",
        severity=severity,
        condition=f"an access token expires within {seconds // DAY}d",
        expr=_with_username_if_known(expiring_tokens),
        for_=for_,
        keep_firing_for=RESTART_GRACE,
        summary="The access token of an account is about to expire.",
        title=(
            f"{_ON}token of {_NAME}"
            f" {{{{ if gt $value 0.0 }}}}expires in {_DURATION}{{{{ else }}}}has expired{{{{ end }}}}"
        ),
        description=(
            f"{_WORKSPACE}: the token of {_ON_PLATFORM}"
            f" {{{{ if gt $value 0.0 }}}}expires in {_DURATION}{{{{ else }}}}has expired{{{{ end }}}}."
        ),
        command=f"late-exporter accounts{_PLATFORM_FLAG}{_WORKSPACE_FLAG}",
        dashboard_path=ACCOUNT_DASHBOARD,
    )


def _cooldown_alert(severity: Severity, comparison: str, condition: str, state: str) -> AlertingRule:
    return AlertingRule(
        name="LateAccountCoolingDown",
        severity=severity,
        condition=condition,
        expr=_with_username_if_known(f"""\
max by ({ACCOUNT}) ({COOLDOWN_UNTIL}) - time() > 0
and
{COOLDOWN_STARTS_1D.name} {comparison} {COOLDOWN_STARTS}
"""),
        for_="0m",
        summary="The API holds back an account after failed posts; posts scheduled for that time have failed.",
        title=f"{_ON}{_NAME} {state} for another {_DURATION}",
        description=(
            f"{_WORKSPACE}: {_ON_PLATFORM} is {state} for another {_DURATION}, a penalty of the"
            " API for failed posts. Posts that were scheduled before its end failed when it started, without a log:"
            " find them in Zernio, and schedule them again for later. New posts and retries are refused until then."
        ),
        command=f"late-exporter logs{_WORKSPACE_FLAG}{_ACCOUNT_FLAG} --status failed --since 1d",
        dashboard_path=ACCOUNT_DASHBOARD,
    )


_CONNECT_FAILURES = (
    f'sum by ({PLATFORM}) (increase(late_connection_failures_total{{code!="oauth_denied"}}[6h]))'  # denied by the user
)


def _new_account_failures(window: str) -> str:
    """Return an expression for accounts with new failures.

    Skips windows with a counter reset, because their failures may be old ones counted again, and windows in which
    another alert reported the cause.
    """
    failures = f'late_account_logs_total{{status="failed"}}[{window}]'
    return f"""\
    sum by ({ACCOUNT}) (increase({failures})) > 0
  unless
    sum by ({ACCOUNT}) (resets({failures})) > 0
  unless on ({PLATFORM})
    {_reported_platforms(window)}
  unless on ({ACCOUNT})
    last_over_time(ALERTS{{alertname=~"{RECONNECT_ALERTS}", alertstate="firing"}}[{window}])"""


ACCOUNTS_GROUP = RuleGroup(
    name="late-accounts",
    rules=(
        AlertingRule(
            name="LateAccountFailing",
            severity="warning",
            condition=f"the last {CONSECUTIVE_FAILURES} or more attempts of an account failed",
            expr=_with_username(f"""\
max by ({ACCOUNT}) (late_account_consecutive_failures) >= {CONSECUTIVE_FAILURES}
and
(
{_new_account_failures(ACCOUNT_FAILURE_WINDOW)}
  or
{_new_account_failures(ACCOUNT_RECENT_WINDOW)}
)
"""),
            for_="30m",  # long enough for LatePlatformFailing or LateAccountDisconnected to inhibit it
            keep_firing_for=RESTART_GRACE,
            summary="Publishing to an account keeps failing.",
            title=f"{_ON}last {_COUNT} attempts of {_NAME} failed",
            description=(
                f"{_WORKSPACE}: the last {{{{ $value | humanize }}}} publish attempts of {_ON_PLATFORM} all failed."
            ),
            command=f"late-exporter logs{_WORKSPACE_FLAG}{_ACCOUNT_FLAG} --status failed --since 3d",
            dashboard_path=ACCOUNT_DASHBOARD,
        ),
        AlertingRule(
            name="LateAccountDisconnected",
            severity="warning",
            condition=(f"an account published to in the last {ACCOUNT_ACTIVE_SECONDS // DAY}d is disconnected"),
            expr=_with_username(f"""\
max by ({ACCOUNT}) (late_account_connected) == 0
and
time() - max by ({ACCOUNT}) ({LAST_SUCCESS}) < {ACCOUNT_ACTIVE_SECONDS}
unless
{NEEDS_RECONNECT}
"""),
            for_="15m",
            keep_firing_for=RESTART_GRACE,
            summary="An account in use was disconnected.",
            title=f"{_ON}{_NAME} disconnected",
            description=(
                f"{_WORKSPACE}: {_ON_PLATFORM} is disconnected but had posts published in the last"
                f" {ACCOUNT_ACTIVE_SECONDS // DAY} days."
            ),
            command=f"late-exporter logs{_WORKSPACE_FLAG} --feed connections{_ACCOUNT_FLAG} --since 7d",
            dashboard_path=ACCOUNT_DASHBOARD,
        ),
        AlertingRule(
            name="LateAccountNeedsReconnect",
            severity="warning",
            condition="the API says that an account must be connected again",
            expr=_with_username_if_known(NEEDS_RECONNECT),
            for_="15m",
            keep_firing_for=RESTART_GRACE,
            summary="An account must be connected again.",
            title=f"{_ON}connection of {_NAME} lost",
            description=f"{_WORKSPACE}: the API says that {_ON_PLATFORM} must be connected again. Its posts will fail.",
            command=f"late-exporter logs{_WORKSPACE_FLAG} --feed connections{_ACCOUNT_FLAG} --since 7d",
            dashboard_path=ACCOUNT_DASHBOARD,
        ),
        AlertingRule(
            name="LateAccountCannotPost",
            severity="warning",
            condition="the API cannot post to an account that is connected",
            expr=_with_username_if_known(f"""\
max by ({ACCOUNT}) (late_account_can_post) == 0
unless
{NEEDS_RECONNECT}
unless
max by ({ACCOUNT}) (late_account_connected) == 0
"""),
            for_="15m",
            keep_firing_for=RESTART_GRACE,
            summary="An account is connected, but nothing can be posted to it.",
            title=f"{_ON}nothing can be posted to {_NAME}",
            description=(
                f"{_WORKSPACE}: the API cannot post to {_ON_PLATFORM}, although it is connected. The command and the"
                " status page say why."
            ),
            command=f"late-exporter accounts{_PLATFORM_FLAG}{_WORKSPACE_FLAG}",
            dashboard_path=ACCOUNT_DASHBOARD,
        ),
        _cooldown_alert(
            "info",
            "<",
            f"an account is in cooldown, fewer than {COOLDOWN_STARTS} times within a day",
            "in cooldown",
        ),
        _cooldown_alert(
            "warning",
            ">=",
            f"an account is in cooldown, {COOLDOWN_STARTS} times or more within a day",
            "in cooldown again",
        ),
        _token_expiry_alert("warning", TOKEN_LEFT_WARNING_SECONDS, "1h"),
        _token_expiry_alert("critical", TOKEN_LEFT_CRITICAL_SECONDS, "15m"),
        AlertingRule(
            name="LateConnectFailing",
            severity="warning",
            condition=(
                f"{CONNECT_FAILURES} or more attempts to connect accounts failed within 6h, more than half of them"
            ),
            expr=f"""\
{_CONNECT_FAILURES} >= {CONNECT_FAILURES}
and
(
    {_CONNECT_FAILURES}
  /
    sum by ({PLATFORM}) (increase(late_connection_events_total{{event=~"(re)?connect_(success|failed)"}}[6h]))
) > {CONNECT_FAILED_SHARE}
unless on (job, workspace)
sum by (job, workspace) (resets(late_connection_events_total[6h])) > 0
""",
            for_="15m",
            summary="Most attempts to connect accounts fail.",
            title=f"{_ON}{_COUNT} attempts to connect accounts failed in 6h",
            description=(
                f"{_WORKSPACE}: {{{{ $value | humanize }}}} attempts to connect an account on"
                " {{ $labels.platform }} failed in the last 6 hours, more than half of all attempts."
            ),
            command=(
                f"late-exporter logs{_WORKSPACE_FLAG} --feed connections{_PLATFORM_FLAG} --status failed --since 6h"
            ),
            dashboard_path=_dashboard_path("late-accounts", "job", "workspace", "platform"),
        ),
    ),
)


PENDING_STEPS = {"scheduled": "not started", "publishing": "not finished", "pending_approval": "not approved"}


def _posts_overdue_alert(
    status: Literal["scheduled", "publishing", "pending_approval"],
    severity: Severity,
    seconds: int,
    condition: str,
    description: str,
    *,
    name: str = "LatePostsOverdue",
    extra: str = "",
    for_: str,
) -> AlertingRule:
    """Return an alert on the earliest post in a status, which ``late-exporter posts`` names.

    Ignores a time left over from when there was such a post, and a post that was not overdue when it was last seen: it
    may have been published since.
    """
    oldest = f"min by ({WORKSPACE}) (late_posts_oldest_{status}_timestamp_seconds)"
    last_refresh = f'max by ({WORKSPACE}) (late_exporter_status_feed_last_refresh_timestamp_seconds{{feed="posts"}})'
    return AlertingRule(
        name=name,
        severity=severity,
        condition=condition,
        expr=f"""\
time() - {oldest} > {seconds}
unless
max by ({WORKSPACE}) (late_posts{{status="{status}"}}) == 0
unless
{last_refresh} - {oldest} <= {seconds}
{extra}""",
        for_=for_,
        keep_firing_for=RESTART_GRACE,
        labels={"status": status},
        summary="Posts are not published at the time for which they are scheduled.",
        title=f"post due {_DURATION} ago {PENDING_STEPS[status]}",
        description=f"{_WORKSPACE}: {description}",
        command=f"late-exporter posts{_WORKSPACE_FLAG} --overdue",
        dashboard_path=OVERVIEW_DASHBOARD,
    )


WEBHOOK_FAILURES = "late_webhook_consecutive_failures"


def _plan_limit_alert(severity: Severity, condition: str, expr: str, consequence: str) -> AlertingRule:
    return AlertingRule(
        name="LatePlanLimitNear",
        severity=severity,
        condition=condition,
        expr=expr,
        for_="5m",
        keep_firing_for=RESTART_GRACE,
        summary="Little or nothing is left of the plan.",
        title=f"{_SHARE} of the {{{{ $labels.kind }}}} of the plan used",
        description=(
            f"{_WORKSPACE}: {{{{ $value | humanizePercentage }}}} of the {{{{ $labels.kind }}}} of the plan are used."
            f" {consequence}"
        ),
        command="late-exporter status",
        dashboard_path=OVERVIEW_DASHBOARD,
    )


STATUS_GROUP = RuleGroup(
    name="late-status",
    rules=(
        _posts_overdue_alert(
            "scheduled",
            "warning",
            POSTS_OVERDUE_SECONDS,
            f"a scheduled post has not been started {POSTS_OVERDUE_SECONDS // MINUTE}m after its time",
            f"the earliest scheduled post was due {_DURATION} ago and has not been started.",
            for_="5m",
        ),
        _posts_overdue_alert(
            "scheduled",
            "critical",
            POSTS_STUCK_SECONDS,
            f"a scheduled post has not been started {POSTS_STUCK_SECONDS // HOUR}h after its time, and no attempt ended"
            " within that time",
            f"the earliest scheduled post was due {_DURATION} ago, and no publish attempt ended in the last hour.",
            extra=f"and\n{FINAL_1H} == 0\n",
            for_="5m",
        ),
        _posts_overdue_alert(
            "publishing",
            "warning",
            POSTS_STUCK_SECONDS,
            f"a post is still being published {POSTS_STUCK_SECONDS // HOUR}h after its time",
            f"the earliest post that is being published was due {_DURATION} ago and has not ended.",
            for_="15m",
        ),
        _posts_overdue_alert(
            "pending_approval",
            "warning",
            0,
            "the time of a post has passed before it was approved",
            f"the earliest post that waits for approval was due {_DURATION} ago. It will never be"
            " published unless it is approved.",
            name="LateApprovalOverdue",
            for_="5m",
        ),
        AlertingRule(
            name="LateScheduleEmpty",
            severity="warning",
            condition=(f"no post is scheduled, unlike in {_percent(USUAL_WEEKS_SHARE)} or more of the last four weeks"),
            expr=f"{SCHEDULED} == 0\nand\n{USUALLY_SCHEDULED.name} >= {USUAL_WEEKS_SHARE}\n",
            for_="1h",
            summary="No post is scheduled, so none will be published.",
            title="no post scheduled, unlike in other weeks",
            description=(
                f"{_WORKSPACE}: no post is scheduled. At this time of the week there usually is one, in the last four"
                " weeks."
            ),
            command="late-exporter status",
            dashboard_path=OVERVIEW_DASHBOARD,
        ),
        AlertingRule(
            name="LateWorkspaceSuspended",
            severity="critical",
            condition="the plan of a workspace is suspended or has no access",
            expr=f"max by ({WORKSPACE}) (late_workspace_active) == 0",
            for_="5m",
            keep_firing_for=RESTART_GRACE,
            summary="The plan of a workspace is suspended, so nothing is published.",
            title="plan suspended",
            description=f"{_WORKSPACE}: the API says that its plan is suspended or has no access.",
            command="late-exporter status",
            dashboard_path=OVERVIEW_DASHBOARD,
        ),
        AlertingRule(
            name="LateSpendCapNear",
            severity="warning",
            condition=f"more than {_percent(SPEND_RATIO)} of a spending limit is used",
            expr=f"max by ({WORKSPACE}, kind) (late_workspace_spend_ratio) > {SPEND_RATIO}",
            for_="15m",
            keep_firing_for=RESTART_GRACE,
            summary="A spending limit is almost reached.",
            title=f"{_SHARE} of the spending limit for {{{{ $labels.kind }}}} used",
            description=(
                f"{_WORKSPACE}: {{{{ $value | humanizePercentage }}}} of the spending limit for {{{{ $labels.kind }}}}"
                " is used in this billing period."
            ),
            command=_CHECK,
            dashboard_path=OVERVIEW_DASHBOARD,
        ),
        _plan_limit_alert(
            "warning",
            f"{_percent(USAGE_RATIO)} or more of the uploads or profiles of the plan are used",
            f"max by ({WORKSPACE}, kind) (late_workspace_usage_ratio) >= {USAGE_RATIO}\n",
            "When no upload is left, posts are refused and write no log.",
        ),
        _plan_limit_alert(
            "critical",
            "all uploads of the plan are used",
            f'max by ({WORKSPACE}, kind) (late_workspace_usage_ratio{{kind="uploads"}}) >= 1',
            "Posts are refused and write no log.",
        ),
        AlertingRule(
            name="LateBalanceEmpty",
            severity="warning",
            condition="nothing is left to spend on pay-per-use",
            expr=f"max by ({WORKSPACE}) (late_workspace_balance_cents) <= 0",
            for_="5m",
            keep_firing_for=RESTART_GRACE,
            summary="The balance is empty, so pay-per-use stops.",
            title="balance empty",
            description=f"{_WORKSPACE}: nothing is left to spend. What costs money is not published any more.",
            command="late-exporter status",
            dashboard_path=OVERVIEW_DASHBOARD,
        ),
        AlertingRule(
            name="LateWebhookFailing",
            severity="warning",
            condition="the failed deliveries of an active webhook have been rising for 1h",
            expr=f"""\
max by ({WORKSPACE}, webhook) ({WEBHOOK_FAILURES})
> (max by ({WORKSPACE}, webhook) (min_over_time({WEBHOOK_FAILURES}[1h])) > 0)
and
max by ({WORKSPACE}, webhook) ({WEBHOOK_FAILURES} offset 1h) > 0
unless
max by ({WORKSPACE}, webhook) (late_webhook_active) == 0
""",
            for_="0m",
            keep_firing_for="1h",
            summary="A webhook keeps failing, and will be switched off.",
            title=f"webhook {{{{ $labels.webhook }}}} failed {_COUNT} times in a row",
            description=(
                f"{_WORKSPACE}: {{{{ $value | humanize }}}} deliveries of the webhook {{{{ $labels.webhook }}}} in a"
                " row have failed. The API switches it off after three days."
            ),
            command=f"late-exporter logs{_WORKSPACE_FLAG} --feed webhooks --status failed --since 1d",
            dashboard_path=EXPORTER_DASHBOARD,
        ),
        AlertingRule(
            name="LateWebhookDisabled",
            severity="warning",
            condition="a webhook is switched off at the API",
            expr=f"max by ({WORKSPACE}, webhook) (late_webhook_active) == 0",
            for_="15m",
            keep_firing_for=RESTART_GRACE,
            summary="A webhook is switched off, so nothing is delivered to it.",
            title="webhook {{ $labels.webhook }} switched off",
            description=f"{_WORKSPACE}: the webhook {{{{ $labels.webhook }}}} is switched off.",
            command=f"late-exporter logs{_WORKSPACE_FLAG} --feed webhooks --status failed --since 7d",
            dashboard_path=EXPORTER_DASHBOARD,
        ),
        AlertingRule(
            name="LateStatusFeedFailing",
            severity="warning",
            condition="a status feed fails, although the API has and allows it",
            expr=f"""\
max by ({FEED}) (late_exporter_status_feed_up) == 0
unless
max by ({FEED}) (late_exporter_status_feed_disabled) == 1
""",
            for_="3h",
            keep_firing_for=RESTART_GRACE,
            summary="A status feed is no longer refreshed, so its metrics are missing.",
            title="status feed {{ $labels.feed }} not refreshed for 3h",
            description=f"{_WORKSPACE}: refreshes of the status feed {{{{ $labels.feed }}}} have failed for 3 hours.",
            command=_CHECK,
            dashboard_path=EXPORTER_DASHBOARD,
        ),
    ),
)


def _increase_after_sync(counter: str, labels: str, feed_labels: str) -> str:
    """Return the hourly increase of a counter in workspaces that have finished their first sync."""
    return f"""\
sum by ({labels}) (increase({counter}[1h])) > 0
unless
sum by ({labels}) (resets({counter}[1h])) > 0
and on ({feed_labels})
last_over_time({COVERAGE}[1d] offset 1h)
"""


_LAST_GAPLESS_POLL = f"max by ({FEED}) (last_over_time({LAST_GAPLESS_POLL.name}[7d]))"
_TIME_TO_EXPIRY = f"{_LAST_GAPLESS_POLL} + max by ({FEED}) (last_over_time({RETENTION.name}[7d])) - time()"
"""Seconds until the API deletes the first log that has not been read."""


def _coverage_risk_alert(
    severity: Severity, *, condition: str, expr: str, title: str, description: str
) -> AlertingRule:
    return AlertingRule(
        name="LateCoverageAtRisk",
        severity=severity,
        condition=condition,
        expr=expr,
        for_="15m",
        summary="Logs may expire before they are counted.",
        title=title,
        description=f"{_WORKSPACE}: {description}",
        command=_CHECK,
        dashboard_path=EXPORTER_DASHBOARD,
    )


COVERAGE_RISK_ALERTS = (
    _coverage_risk_alert(
        "critical",
        condition=(f"the API deletes the first unread logs of a feed within {COVERAGE_LEFT_CRITICAL_SECONDS // DAY}d"),
        expr=f"""\
{_TIME_TO_EXPIRY} < {COVERAGE_LEFT_CRITICAL_SECONDS}
and
{EXPECTED_FEEDS}
""",
        title=f"unread logs of the {_FEED} expire{{{{ if gt $value 0.0 }}}} in {_DURATION}{{{{ end }}}}",
        description=(
            f"the API {{{{ if gt $value 0.0 }}}}deletes the first unread logs of the {_FEED} in"
            f" {_DURATION}{{{{ else }}}}has begun to delete unread logs of the"
            f" {_FEED}{{{{ end }}}}."
        ),
    ),
    _coverage_risk_alert(
        "warning",
        condition=(f"a feed has not been read without a gap for {COVERAGE_AGE_WARNING_SECONDS // DAY}d"),
        expr=f"""\
time() - {_LAST_GAPLESS_POLL} > {COVERAGE_AGE_WARNING_SECONDS}
and
{EXPECTED_FEEDS}
unless
{_TIME_TO_EXPIRY} < {COVERAGE_LEFT_CRITICAL_SECONDS}
""",
        title=f"{_FEED} not read without a gap for {_DURATION}",
        description=f"the {_FEED} was last read without a gap {_DURATION} ago.",
    ),
)


_STALE_POLLS = f"{POLL_AGE.name}{_OF_WORKSPACE} > {DATA_AGE_CRITICAL_SECONDS}"
_OLDEST_POLL = _top_label("feed", "", f"{POLL_AGE.name}{_OF_WORKSPACE}", *_WORKSPACE_LABELS)
_STALE_FEED = f"{{{{ with $labels.feed }}}}{{{{ . }}}}{{{{ else }}}}{_OLDEST_POLL}{{{{ end }}}}"
_POLL_OUTCOME = _top_label(
    "outcome",
    ": ",
    'sum by (outcome) (increase(late_exporter_polls_total{cluster=%q, job=%q, workspace=%q, outcome!="success"}[15m]))',
    *_WORKSPACE_LABELS,
)

EXPORTER_GROUP = RuleGroup(
    name="late-exporter",
    rules=(
        AlertingRule(
            name="LateExporterDown",
            severity="critical",
            condition="Prometheus cannot scrape an exporter",
            expr=f"(\n{EXPORTER_TARGETS}) == 0\n",
            for_="5m",
            summary="Prometheus cannot scrape an exporter.",
            title="no scrape of {{ $labels.instance }} for 5m",
            description="Job {{ $labels.job }}: {{ $labels.instance }} has not answered for 5 minutes.",
            command="late-exporter healthcheck",
            dashboard_path=TARGET_DASHBOARD,
        ),
        AlertingRule(
            name="LateExporterAbsent",
            severity="critical",
            condition="Prometheus has no exporter to scrape, or none of a job that had one within the last day",
            # A user who may see some workspaces sees no build info.
            expr=f"""\
absent(
{EXPORTER_TARGETS}or
  late_up
)
or
group by (job) (last_over_time({SCRAPED_EXPORTERS}[1d]))
unless on (job)
up
""",
            for_="10m",
            summary="Prometheus has no exporter target.",
            title="no exporter to scrape",
            description=(
                "{{ with $labels.job }}Job {{ . }} has no target any more, but an exporter was scraped in the last day"
                f"{{{{ else }}}}No target has a job that matches {EXPORTER_JOBS}, and none was scraped as an exporter"
                " in the last 7 days{{ end }}."
            ),
            command="late-exporter healthcheck",
            dashboard_path=_dashboard_path("late-exporter"),
        ),
        AlertingRule(
            name="LateExporterRestarting",
            severity="warning",
            condition=f"an exporter restarts {RESTARTS} or more times in 1h",
            expr=f"""\
changes(process_start_time_seconds[1h]) >= {RESTARTS}
and on (job, instance)
last_over_time({SCRAPED_EXPORTERS}[1h])
""",
            for_="0m",
            summary="An exporter keeps restarting.",
            title=f"{{{{ $labels.instance }}}} restarted {_COUNT} times in 1h",
            description=(
                "Job {{ $labels.job }}: {{ $labels.instance }} restarted {{ $value | humanize }} times in an hour."
            ),
            command=_CHECK,
            dashboard_path=TARGET_DASHBOARD,
        ),
        AlertingRule(
            name="LateReloadFailed",
            severity="warning",
            condition="the last reload of the configuration failed",
            expr="late_exporter_config_last_reload_successful == 0",
            for_="5m",
            summary="An exporter runs with an outdated configuration.",
            title="reload of {{ $labels.instance }} failed",
            description=(
                "Job {{ $labels.job }}: {{ $labels.instance }} could not reload its configuration;"
                " it may fail to restart."
            ),
            command=_CHECK,
            dashboard_path=TARGET_DASHBOARD,
        ),
        AlertingRule(
            name="LateWorkspacesUnowned",
            severity="critical",
            condition="no replica polls some workspaces, or any, for 5m",
            # A replica with another configuration does not miss the workspace. Without the database, none shows any.
            expr="""\
max by (job) (late_exporter_cluster_unowned_workspaces) > 0
or
max by (job) (late_exporter_cluster_members)
unless on (job)
late_up
""",
            for_="5m",
            summary="Workspaces are polled by no replica, so their metrics are missing.",
            title="workspaces without a replica for 5m",
            description="Job {{ $labels.job }}: some workspaces have no owner, or no replica can reach the database.",
            command=_CHECK,
            dashboard_path=_dashboard_path("late-exporter", "job"),
        ),
        AlertingRule(
            name="LatePollStale",
            severity="critical",
            condition=f"a feed of a workspace could not be read for {DATA_AGE_CRITICAL_SECONDS // MINUTE}m",
            expr=f"""\
{POLL_AGE.name} > {DATA_AGE_CRITICAL_SECONDS}
and on ({FEED})
late_up{{feed="publishing"}}
or on ({WORKSPACE})
max by ({WORKSPACE}) ({POLL_AGE.name}) > {DATA_AGE_CRITICAL_SECONDS}
""",
            for_="10m",
            summary="The API cannot be read, so metrics are frozen.",
            title=f"{_STALE_FEED} feed cannot be read for {_DURATION}{_POLL_OUTCOME}",
            description=(
                f"{_WORKSPACE}: no poll of the {_STALE_FEED} feed has succeeded for {_DURATION}{_POLL_OUTCOME}."
                f" {_number(f'count({_STALE_POLLS})', *_WORKSPACE_LABELS)} of"
                f" {_number(f'count({POLL_AGE.name}{_OF_WORKSPACE})', *_WORKSPACE_LABELS)} feeds cannot be read."
            ),
            command=_CHECK,
            dashboard_path=EXPORTER_DASHBOARD,
        ),
        AlertingRule(
            name="LateKeyRefused",
            severity="critical",
            condition="polls fail with 401 or 403",
            expr=f"""\
sum by ({FEED}) (increase(late_exporter_polls_total{{outcome="unauthorized"}}[15m])) > 0
and
max by ({FEED}) (late_up) == 0
""",
            for_="5m",
            summary="The API rejects the key.",
            title=f"API key rejected for the {_FEED}",
            description=f"{_WORKSPACE}: polls of the {_FEED} fail with 401 or 403.",
            command=_CHECK,
            dashboard_path=EXPORTER_DASHBOARD,
        ),
        AlertingRule(
            name="LateGenerationUnread",
            severity="critical",
            condition="the generation of the API that is not in use has newer logs",
            expr=f"max by ({WORKSPACE}, generation) (late_exporter_api_generation_unread) == 1",
            for_="10m",
            keep_firing_for=RESTART_GRACE,
            summary="The API has logs that are not read.",
            title="logs of generation {{ $labels.generation }} not read",
            description=(
                f"{_WORKSPACE}: the logs of generation {{{{ $labels.generation }}}} of the API are newer than those of"
                " the generation in use, and are not counted."
            ),
            command=_CHECK,
            dashboard_path=EXPORTER_DASHBOARD,
        ),
        AlertingRule(
            name="LateQuotaLow",
            severity="warning",
            condition=(
                f"less than {_percent(QUOTA_LEFT_WARNING)} of the key's requests per minute are left, averaged over 15m"
            ),
            expr=f"""\
avg by (job, workspace) (avg_over_time(late_exporter_api_quota_remaining[15m]))
/
(avg by (job, workspace) (late_exporter_api_quota_limit) > 0)
< {QUOTA_LEFT_WARNING}
""",
            for_="15m",
            summary="The rate limit of an API key is almost used up.",
            title=f"{_SHARE} of the API quota left",
            description=(
                f"{_WORKSPACE}: on average, {{{{ $value | humanizePercentage }}}} of the requests per minute were left"
                " over the last 15 minutes."
            ),
            command=_CHECK,
            dashboard_path=EXPORTER_DASHBOARD,
        ),
        AlertingRule(
            name="LateCatchUpStuck",
            severity="warning",
            condition="a gap in a feed stays open after an outage",
            expr=f"{OPEN_GAP.name} == 1",
            for_="1h",
            keep_firing_for=RESTART_GRACE,
            summary="Catching up after an outage takes too long.",
            title=f"gap in the {_FEED} for 1h",
            description=f"{_WORKSPACE}: a gap in the {_FEED} has been open for an hour.",
            command="late-exporter state info",
            dashboard_path=EXPORTER_DASHBOARD,
        ),
        *COVERAGE_RISK_ALERTS,
        AlertingRule(
            name="LateCoverageLost",
            severity="warning",
            condition="logs expired before they were counted",
            expr=f"""\
max by ({FEED}) ({COVERAGE}) > max by ({FEED}) (last_over_time({COVERAGE}[14d] offset 1d)) + {COVERAGE_STEP_SECONDS}
and
time() - max by ({FEED}) ({COVERAGE}) >= {EXPIRY_AGE}
""",
            for_="15m",
            summary="Logs expired before they were counted.",
            title=f"logs of the {_FEED} expired before they were counted",
            description=(
                f"{_WORKSPACE}: counts of the {_FEED} are complete only since {{{{ $value | humanizeTimestamp }}}}."
            ),
            command="late-exporter state info",
            dashboard_path=EXPORTER_DASHBOARD,
        ),
        AlertingRule(
            name="LateLogsRejected",
            severity="warning",
            condition="logs without a usable id were received within 1h",
            expr=_increase_after_sync("late_exporter_entries_rejected_total", f"{FEED}, reason", FEED),
            for_="5m",
            summary="Logs cannot be counted because they have no usable id.",
            title=f"{_COUNT} logs of the {_FEED} rejected in 1h",
            description=(
                f"{_WORKSPACE}: {{{{ $value | humanize }}}} logs of the {_FEED} were rejected in the last hour"
                " ({{ $labels.reason }})."
            ),
            command=_CHECK,
            dashboard_path=EXPORTER_DASHBOARD,
        ),
        AlertingRule(
            name="LateApiDrift",
            severity="warning",
            condition="log fields or their values differed from the API documentation within 1h",
            expr=_increase_after_sync("late_exporter_api_schema_drift_total", f"{FEED}, field, kind", FEED),
            for_="5m",
            summary="The API returns logs that differ from its documentation.",
            title=f"{{{{ $labels.field }}}} not as documented in {_COUNT} logs of the {_FEED}",
            description=(
                f"{_WORKSPACE}: in {{{{ $value | humanize }}}} logs of the {_FEED} in the last hour,"
                ' {{ $labels.field }} {{ if eq $labels.kind "value" }}had an unknown value'
                "{{ else }}was not as documented{{ end }} ({{ $labels.kind }})."
            ),
            command=_CHECK,
            dashboard_path=EXPORTER_DASHBOARD,
        ),
        AlertingRule(
            name="LateRequestsFailing",
            severity="warning",
            condition="requests of one kind have failed for 3h, although polls succeed",
            expr=f"sum by ({FEED}, request) (increase(late_exporter_failed_requests_total[2h])) > 0",
            for_="3h",
            summary="Some API requests keep failing although polls succeed.",
            title=f"{{{{ $labels.request }}}} requests for the {_FEED} failed {_COUNT} times in 2h",
            description=(
                f"{_WORKSPACE}: requests of the kind {{{{ $labels.request }}}} for the {_FEED} failed"
                " {{ $value | humanize }} times in the last 2 hours. New logs are counted."
            ),
            command=_CHECK,
            dashboard_path=EXPORTER_DASHBOARD,
        ),
        AlertingRule(
            name="LateRowsUnreadable",
            severity="warning",
            condition="rows were skipped within 1h because the API cannot deliver them",
            expr=_increase_after_sync("late_exporter_unreadable_rows_total", FEED, FEED),
            for_="5m",
            summary="Logs are not counted because the API cannot deliver them.",
            title=f"{_COUNT} rows of the {_FEED} skipped in 1h",
            description=(
                f"{_WORKSPACE}: {{{{ $value | humanize }}}} rows of the {_FEED} were skipped in the last hour, because"
                " every request that includes them fails."
            ),
            command=_CHECK,
            dashboard_path=EXPORTER_DASHBOARD,
        ),
        AlertingRule(
            name="LateLogsReconciled",
            severity="warning",
            condition="the reconciliation scan found logs within 1h that polls had missed",
            expr=_increase_after_sync("late_exporter_reconciled_logs_total", FEED, FEED),
            for_="5m",
            summary="The reconciliation scan found logs that polls had missed.",
            title=f"polls missed {_COUNT} logs of the {_FEED} in 1h",
            description=(
                f"{_WORKSPACE}: only the reconciliation scan found {{{{ $value | humanize }}}} logs of the {_FEED} in"
                " the last hour. They have been counted."
            ),
            command=f"late-exporter audit{_WORKSPACE_FLAG}",
            dashboard_path=EXPORTER_DASHBOARD,
        ),
        AlertingRule(
            name="LateReconcileOverdue",
            severity="warning",
            condition=f"no reconciliation scan of a feed has completed for {SCAN_AGE_SECONDS // DAY}d",
            expr=(
                f"time() - max by ({FEED}) (late_exporter_reconcile_last_completed_timestamp_seconds)"
                f" > {SCAN_AGE_SECONDS}"
            ),
            for_="1h",
            summary="Reconciliation scans do not complete, so logs that polls miss are not counted.",
            title=f"no scan of the {_FEED} completed for {_DURATION}",
            description=(f"{_WORKSPACE}: the last completed scan of the {_FEED} started {_DURATION} ago."),
            command=_CHECK,
            dashboard_path=EXPORTER_DASHBOARD,
        ),
        AlertingRule(
            name="LateAuditFailed",
            severity="warning",
            condition="an audit found logs that were not counted or were counted twice",
            expr=f"""\
max by ({FEED}) (late_exporter_audit_missing_logs)
+
max by ({FEED}) (late_exporter_audit_extra_logs)
> 0
""",
            for_="0m",
            keep_firing_for=RESTART_GRACE,
            summary="An audit found wrong counters.",
            title=f"audit found {_COUNT} wrong logs in the {_FEED}",
            description=(
                f"{_WORKSPACE}: the last audit of the {_FEED} found {{{{ $value | humanize }}}} logs that were not"
                " counted or were counted twice."
            ),
            command=f"late-exporter audit{_WORKSPACE_FLAG}",
            dashboard_path=EXPORTER_DASHBOARD,
        ),
        AlertingRule(
            name="LateAuditOverdue",
            severity="warning",
            condition=f"no audit of a feed has completed for {AUDIT_AGE_SECONDS // DAY}d",
            expr=(
                f"time() - max by ({FEED}) (late_exporter_audit_last_completed_timestamp_seconds) > {AUDIT_AGE_SECONDS}"
            ),
            for_="6h",
            summary="Audits do not complete, so the counters are not verified.",
            title=f"no audit of the {_FEED} completed for {_DURATION}",
            description=(f"{_WORKSPACE}: the last audit of the {_FEED} completed {_DURATION} ago."),
            command=f"late-exporter audit{_WORKSPACE_FLAG}",
            dashboard_path=EXPORTER_DASHBOARD,
        ),
        AlertingRule(
            name="LateEventsDelayed",
            severity="warning",
            condition=f"log events have been waiting for their delivery for {EVENT_DELAY_SECONDS // MINUTE}m",
            expr=f"""\
time() - min by (job, workspace) (late_exporter_events_oldest_pending_timestamp_seconds) > {EVENT_DELAY_SECONDS}
""",
            for_="5m",
            keep_firing_for=RESTART_GRACE,
            summary="Log events cannot be delivered.",
            title=f"log events not delivered for {_DURATION}",
            description=(
                f"{_WORKSPACE}: the oldest log event has been waiting for its delivery for"
                f" {_DURATION}. Metrics are not affected."
            ),
            command=_CHECK,
            dashboard_path=EXPORTER_DASHBOARD,
        ),
        AlertingRule(
            name="LateEventsDropped",
            severity="warning",
            condition="log events were dropped within 1h",
            expr="""\
sum by (job, workspace) (increase(late_exporter_events_dropped_total[1h])) > 0
""",
            for_="0m",
            summary="Log events were dropped.",
            title=f"{_COUNT} log events dropped in 1h",
            description=(
                f"{_WORKSPACE}: {{{{ $value | humanize }}}} log events of the last hour will never be delivered,"
                " because too many were waiting. Metrics are not affected."
            ),
            command=_CHECK,
            dashboard_path=EXPORTER_DASHBOARD,
        ),
        AlertingRule(
            name="LateLabelOverflow",
            severity="warning",
            condition="a label has so many values that some are counted as other",
            expr=_increase_after_sync(
                "late_exporter_label_overflow_total", "job, workspace, family, label", "job, workspace"
            ),
            for_="5m",
            summary="A label has too many values; new ones are counted as other.",
            title="too many values of the label {{ $labels.label }}",
            description=(
                f"{_WORKSPACE}: values of the label {{{{ $labels.label }}}} of {{{{ $labels.family }}}} were counted as"
                " other {{ $value | humanize }} times in the last hour."
            ),
            command=_CHECK,
            dashboard_path=EXPORTER_DASHBOARD,
        ),
    ),
)

API_GROUP = RuleGroup(
    name="late-api",
    rules=(
        AlertingRule(
            name="LateApiFailing",
            severity="warning",
            condition=(
                f"more than {_percent(API_ERROR_SHARE)} of {API_ERROR_REQUESTS} or more requests of all programs to the"
                " API failed with 5xx within 5m; off by default in the mixin and the chart"
            ),
            expr=f"""\
workspace:late_api_failed_requests:ratio_increase5m > {API_ERROR_SHARE}
and
{API_REQUESTS}:increase5m >= {API_ERROR_REQUESTS}
""",
            for_="5m",
            keep_firing_for=SHARE_GRACE,
            summary="The API fails requests of your programs.",
            title=f"{_SHARE} of the API requests failed in 5m",
            description=(
                f"{_WORKSPACE}: {{{{ $value | humanizePercentage }}}} of the requests of your programs failed with 5xx"
                " in the last 5 minutes."
            ),
            command=f"late-exporter logs{_WORKSPACE_FLAG} --feed api_request --status failed --since 1h",
            dashboard_path=EXPORTER_DASHBOARD,
        ),
        AlertingRule(
            name="LateApiThrottled",
            severity="warning",
            condition=(
                f"more than {API_THROTTLED} requests of all programs to the API were throttled within 5m; off by"
                " default in the mixin and the chart"
            ),
            expr=f"workspace:late_api_throttled_requests:increase5m > {API_THROTTLED}",
            for_="0m",
            keep_firing_for=SHARE_GRACE,
            summary="The API throttles your programs.",
            title=f"{_COUNT} API requests throttled in 5m",
            description=(
                f"{_WORKSPACE}: {{{{ $value | humanize }}}} requests of your programs were answered with 429 in the"
                " last 5 minutes. All programs with the key share its limit."
            ),
            command=f"late-exporter logs{_WORKSPACE_FLAG} --feed api_request --status failed --since 1h",
            dashboard_path=EXPORTER_DASHBOARD,
        ),
    ),
)

ESSENTIAL_ALERTS = frozenset(
    {
        PLATFORM_ALERT,
        "LateErrorBudgetBurningFast",
        "LateTokenExpiring",
        "LateExporterDown",
        "LateExporterAbsent",
        "LatePollStale",
        "LateCoverageAtRisk",
    }
)
"""Alerts of the profile ``essential``, which notice a failure of what others report in detail."""

_GROUPS = (BUDGET_GROUP, PUBLISHING_GROUP, STATUS_GROUP, ACCOUNTS_GROUP, EXPORTER_GROUP, API_GROUP)


def _select(
    rules: Iterable[RecordingRule | AlertingRule], *, essential: bool
) -> tuple[RecordingRule | AlertingRule, ...]:
    """Return the essential rules in their order, which include what they record, or all others."""
    return tuple(
        rule for rule in rules if essential == (isinstance(rule, RecordingRule) or rule.name in ESSENTIAL_ALERTS)
    )


ALERT_GROUPS = (
    RuleGroup(name="late-essential", rules=_select(chain.from_iterable(g.rules for g in _GROUPS), essential=True)),
    *(replace(group, rules=_select(group.rules, essential=False)) for group in _GROUPS),
)
"""All alerts; the first group has those of the profile ``essential``."""
