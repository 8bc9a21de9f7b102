"""What Prometheus records of late-exporter, and when it alerts: the source of the two rule files beside this one.

The numbers stand in thresholds.py. A level ``workspace`` keeps the labels job and workspace, ``platform`` the platform
too, ``feed`` the feed; instance is left out, so that an exporter may move.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from deploy.prometheus.thresholds import (
    ACCOUNT_FAILED_LATELY,
    ACCOUNT_FAILED_WITHIN,
    ACCOUNT_USED_SECONDS,
    ACROSS_RESTART,
    AUDIT_AGE_SECONDS,
    BUDGET_FAILED_LOGS,
    BUDGET_FINAL_LOGS,
    CONNECT_FAILED_SHARE,
    CONNECT_FAILURES,
    CONSECUTIVE_FAILURES,
    COVERAGE_RISK_SECONDS,
    COVERAGE_STEP_SECONDS,
    DATA_AGE_CRITICAL_SECONDS,
    DATA_AGE_WARNING_SECONDS,
    DAY,
    ERROR_BUDGET,
    FAST_BURN,
    HOUR,
    LATE_AFTER,
    LATE_SHARE,
    LONG_TICKET_BURN,
    MINUTE,
    PAUSES,
    PAUSES_PER_LOG,
    PENDING_EXCESS,
    PENDING_SECONDS,
    PERIOD,
    PLATFORM_FAILED_SHARE,
    PLATFORM_FINAL_LOGS,
    QUIET_EXPECTED_LOGS,
    QUIET_SHARE,
    QUOTA_LEFT_WARNING,
    RESTARTS,
    RETENTION,
    SLOW_BURN,
    SLOW_FACTOR,
    SLOW_HISTORY_HOURS,
    SLOW_LOGS,
    SLOW_SECONDS,
    SUCCESS_OBJECTIVE,
    TICKET_BURN,
    TOKEN_LEFT_CRITICAL_SECONDS,
    TOKEN_LEFT_WARNING_SECONDS,
    WEBHOOKS_REFUSED_WITHIN,
)

__all__ = ["ALERT_GROUPS", "RECORDING_GROUPS", "Alert", "Group", "Record"]

REPOSITORY_URL = "https://github.com/late-exporter/late-exporter"
RUNBOOKS_URL = f"{REPOSITORY_URL}/blob/main/deploy/prometheus/runbooks"
GRAFANA_URL = "http://localhost:3000"

JOBS = "late|late-.*"
"""The scrape jobs of late-exporter, for what Prometheus itself knows of a target."""

WINDOWS = ("5m", "30m", "1h", "2h", "6h")
"""Read from the counters."""

LONG_WINDOWS = ("1d", "3d", PERIOD)
"""Added up from the increases of an hour."""


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


OBJECTIVE = _percent(SUCCESS_OBJECTIVE)

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
QUANTILE_WINDOWS = ("5m", "1h")

Severity: TypeAlias = Literal["critical", "warning"]


@dataclass(frozen=True, kw_only=True)
class Burn:
    """A burn rate that is too high: it is so in both windows, and has been for ``hold``."""

    severity: Severity
    factor: float
    long: str
    short: str
    hold: str


BURNS = (
    Burn(severity="critical", factor=FAST_BURN, long="1h", short="5m", hold="2m"),
    Burn(severity="critical", factor=SLOW_BURN, long="6h", short="30m", hold="15m"),
    Burn(severity="warning", factor=TICKET_BURN, long="1d", short="2h", hold="1h"),
    Burn(severity="warning", factor=LONG_TICKET_BURN, long="3d", short="6h", hold="3h"),
)


@dataclass(frozen=True)
class Record:
    """A recording rule."""

    name: str
    expr: str


@dataclass(frozen=True, kw_only=True)
class Alert:
    """An alerting rule; its runbook bears its name. ``when`` says in a table what ``expr`` asks for."""

    name: str
    severity: Severity
    when: str
    expr: str
    hold: str
    summary: str
    description: str
    dashboard: str
    keep: str | None = None
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Rules that are evaluated one after the other; without an interval, as often as Prometheus does by default."""

    name: str
    rules: tuple[Record | Alert, ...]
    interval: str | None = None


PLATFORM = "job, workspace, platform"
ACCOUNT = "job, workspace, platform, account_id"
FEED = "job, workspace, feed"

ATTEMPTS = 'action=~"publish|retry"'
FINAL = f'late_publishing_logs_total{{{ATTEMPTS}, status=~"success|failed"}}'
FAILED = f'late_publishing_logs_total{{{ATTEMPTS}, status="failed"}}'

COVERAGE = "late_exporter_coverage_start_timestamp_seconds"
LAST_POLL = "late_exporter_last_successful_poll_timestamp_seconds"
CATCHING_UP = f"workspace:late_exporter_late_logs:ratio_increase30m > {LATE_SHARE}"
CAUGHT_UP_LATELY = f"workspace:late_exporter_late_logs:ratio_increase1h > {LATE_SHARE}"


def _resets(window: str) -> Record:
    """Counters fall where the state was lost; some may rise instead, as history is counted anew."""
    counters = f"resets(late_publishing_logs_total[{window}])"
    return Record(f"workspace:late_publishing_logs:resets{window}", f"sum by (job, workspace) ({counters})")


def _increase(counter: str, window: str) -> str:
    return f"""\
sum by ({PLATFORM}) (increase({counter}[{window}]))
unless on (job, workspace)
{_resets(window).name} > 0
"""


def _counts(window: str) -> tuple[Record, ...]:
    """The logs of a window. Each log is in twelve of the increases of an hour that are five minutes apart."""
    records = [] if window in LONG_WINDOWS else [_resets(window)]
    for kind, counter in (("final", FINAL), ("failed", FAILED)):
        name = f"late_publishing_{kind}_logs:increase"
        long = f"sum_over_time(platform:{name}1h[{window}:5m]) / 12"
        expr = long if window in LONG_WINDOWS else _increase(counter, window)
        records += [
            Record(f"platform:{name}{window}", expr),
            Record(f"workspace:{name}{window}", f"sum without (platform) (platform:{name}{window})"),
        ]
    return tuple(records)


def _ratios(window: str) -> tuple[Record, ...]:
    records = []
    for level in ("workspace", "platform"):
        ratio = f"{level}:late_publishing_success:ratio_increase{window}"
        failed, final = (f"{level}:late_publishing_{kind}_logs:increase{window}" for kind in ("failed", "final"))
        burn = f"{level}:late_publishing_error_budget:burnrate{window}"
        records += [
            Record(ratio, f"1 - {failed} / ({final} > 0)"),
            Record(burn, f"(1 - {ratio}) / {ERROR_BUDGET}"),
        ]
    return tuple(records)


def _quantiles(window: str) -> tuple[Record, ...]:
    bucket = f'late_publishing_duration_seconds_bucket{{{ATTEMPTS}, status="success"}}'
    return tuple(
        Record(
            f"{level}:late_publishing_duration_seconds:{name}_rate{window}",
            # No traffic is NaN, which is not >= 0.
            f"histogram_quantile({quantile}, sum by ({labels}, le) (rate({bucket}[{window}]))) >= 0",
        )
        for level, labels in (("workspace", "job, workspace"), ("platform", PLATFORM))
        for name, quantile in QUANTILES.items()
    )


def _budget_left() -> tuple[Record, ...]:
    return tuple(
        Record(
            f"{level}:late_publishing_error_budget:remaining{PERIOD}",
            f"1 - {level}:late_publishing_error_budget:burnrate{PERIOD}",
        )
        for level in ("workspace", "platform")
    )


def _late_logs(window: str) -> Record:
    lag = "late_exporter_log_lag_seconds"
    return Record(
        f"workspace:late_exporter_late_logs:ratio_increase{window}",
        f"""\
1
-
sum by (job, workspace) (increase({lag}_bucket{{feed="publishing", le="{LATE_AFTER}"}}[{window}]))
/
(sum by (job, workspace) (increase({lag}_count{{feed="publishing"}}[{window}])) > 0)
""",
    )


FINAL_1H = "workspace:late_publishing_final_logs:increase1h"
_WEEK_AGO = f"{FINAL_1H} offset 1w"
_DAYS_AGO = f"({FINAL_1H} offset 1d + {FINAL_1H} offset 2d + {FINAL_1H} offset 3d) / 3"
EXPECTED = Record(
    # The lesser of the two, so that neither a weekend nor a catch-up of the past raises what is expected now.
    "workspace:late_publishing_final_logs:expected1h",
    f"({_WEEK_AGO} < {_DAYS_AGO})\nor\n({_DAYS_AGO} <= {_WEEK_AGO})\n",
)

P95 = "platform:late_publishing_duration_seconds:p95_rate1h"
USUAL_P95 = Record(
    "platform:late_publishing_duration_seconds:p95_median7d",
    f"""\
quantile_over_time(0.5, {P95}[7d:1h])
and
count_over_time({P95}[7d:1h]) >= {SLOW_HISTORY_HOURS}
""",
)

PENDING = f"max by ({PLATFORM}) (sum without (action) (late_publishing_pending_logs))"
USUAL_PENDING = Record(
    "platform:late_publishing_pending_logs:median7d",
    f"quantile_over_time(0.5, ({PENDING})[7d:15m])",
)

EXPIRY = "late_account_token_expiry_timestamp_seconds"
LAST_SUCCESS = "late_account_last_success_timestamp_seconds"
TOKENS = Record(
    # Known for a day, as Late itself renews those that live shorter; not renewed, and not given up.
    "account:late_account_token_expiry:timestamp_seconds",
    f"""\
max by ({ACCOUNT}) ({EXPIRY})
==
max by ({ACCOUNT}) (last_over_time({EXPIRY}[1d] offset 1d))
unless
max by ({ACCOUNT}) ({LAST_SUCCESS}) > max by ({ACCOUNT}) ({EXPIRY})
unless
max by ({ACCOUNT}) (late_account_connected) == 0
""",
)

OPEN_GAP = Record(
    # While a gap is open, the record is whole only above it: the start of coverage stands where the gap begins.
    "feed:late_exporter_open_gap:bool",
    f"""\
max by ({FEED}) (
    {COVERAGE} - min_over_time({COVERAGE}[7d:10m]) > bool {COVERAGE_STEP_SECONDS}
  and
    time() - {COVERAGE} < {RETENTION - HOUR}
)
""",
)
WHOLE = Record(
    "feed:late_exporter_whole:timestamp_seconds",
    f"max by ({FEED}) ({LAST_POLL}) unless feed:late_exporter_open_gap:bool == 1",
)

WANTED = f"""\
max by ({FEED}) (
    present_over_time(late_up[1h])
  or
    present_over_time(late_up[7d]) unless on (job, instance) up == 1
)"""
"""What an exporter reads, or one read that does not answer: what was taken out of a configuration is neither."""

RECORDING_GROUPS = (
    Group(
        name="late-publishing",
        rules=(
            Record("slo:late_publishing_success:objective", f"vector({SUCCESS_OBJECTIVE})"),
            *(record for window in WINDOWS for record in _counts(window)),
            *(record for window in WINDOWS for record in _ratios(window)),
            *(record for window in QUANTILE_WINDOWS for record in _quantiles(window)),
            _late_logs("30m"),
            _late_logs("1h"),
            EXPECTED,
        ),
    ),
    Group(
        name="late-publishing-long",
        interval="2m",
        rules=(
            *(record for window in LONG_WINDOWS for record in _counts(window)),
            *(record for window in LONG_WINDOWS for record in _ratios(window)),
            *_budget_left(),
            USUAL_P95,
            USUAL_PENDING,
        ),
    ),
    Group(name="late-accounts-tokens", rules=(TOKENS,)),
    Group(name="late-coverage", rules=(OPEN_GAP, WHOLE)),
)


def _labelled(*names: str) -> str:
    return "&".join(f"var-{name}={{{{ $labels.{name} | urlquery }}}}" for name in names)


def _dashboard(uid: str, *names: str) -> str:
    variables = _labelled(*names)
    return f"{GRAFANA_URL}/d/{uid}{'?' if variables else ''}{variables}"


OVERVIEW = _dashboard("late-overview", "job", "workspace")
PLATFORM_DASHBOARD = _dashboard("late-platform", "job", "workspace", "platform")
ACCOUNT_DASHBOARD = _dashboard("late-accounts", "job", "workspace", "platform", "account_id")
EXPORTER = _dashboard("late-exporter", "job", "workspace")
EXPORTER_TARGET = _dashboard("late-exporter", "job", "instance")

_WORKSPACE = "Workspace {{ $labels.workspace }}"
_ACCOUNT = "{{ with $labels.username }}{{ . }}{{ else }}account{{ end }} ({{ $labels.account_id }})"
_ON_PLATFORM = f"{_ACCOUNT} on {{{{ $labels.platform }}}}"
_FEED = "{{ $labels.feed }} feed"


def _burning(burn: Burn) -> Alert:
    fast = burn.severity == "critical"
    rate = "workspace:late_publishing_error_budget:burnrate"
    logs = "workspace:late_publishing_{}_logs:increase" + burn.long
    expr = f"""\
{rate}{burn.long} > {burn.factor}
and
{rate}{burn.short} > {burn.factor}
and
{logs.format("final")} >= {BUDGET_FINAL_LOGS}
and
{logs.format("failed")} >= {BUDGET_FAILED_LOGS}
"""
    return Alert(
        name=f"LateErrorBudgetBurning{'Fast' if fast else 'Slowly'}",
        severity=burn.severity,
        when=f"the error budget burns over {burn.factor:g} times as fast as it may, in {burn.long} and in {burn.short}",
        expr=f"{expr}unless\n{CATCHING_UP}\n" if fast else expr,
        hold=burn.hold,
        labels={"window": burn.long},
        summary="Too many publish attempts fail for the success objective.",
        description=(
            f"{_WORKSPACE}: over {burn.long} the error budget burned {{{{ $value | humanize }}}} times as fast as"
            f" {OBJECTIVE} success in {PERIOD} allows (alert above {burn.factor:g}), and does so still."
        ),
        dashboard=OVERVIEW,
    )


BUDGET_GROUP = Group(name="late-budget", rules=tuple(_burning(burn) for burn in BURNS))

PUBLISHING_GROUP = Group(
    name="late-publishing-alerts",
    rules=(
        Alert(
            name="LatePlatformFailing",
            severity="critical",
            when=(
                f"more than {_percent(PLATFORM_FAILED_SHARE)} of the attempts on a platform failed in 30m,"
                f" of {PLATFORM_FINAL_LOGS} or more"
            ),
            expr=f"""\
1 - platform:late_publishing_success:ratio_increase30m > {PLATFORM_FAILED_SHARE}
and
platform:late_publishing_final_logs:increase30m >= {PLATFORM_FINAL_LOGS}
unless on (job, workspace)
{CATCHING_UP}
""",
            hold="5m",
            summary="Most publish attempts on a platform fail.",
            description=(
                f"{_WORKSPACE}: {{{{ $value | humanizePercentage }}}} of the publish attempts on"
                " {{ $labels.platform }} failed in the last 30 minutes."
            ),
            dashboard=PLATFORM_DASHBOARD,
        ),
        Alert(
            name="LatePublishingQuiet",
            severity="warning",
            when=(
                f"there are less than {_percent(QUIET_SHARE)} of the attempts that this hour has on other days,"
                f" if those are {QUIET_EXPECTED_LOGS} or more"
            ),
            expr=f"""\
{FINAL_1H} < {QUIET_SHARE} * workspace:late_publishing_final_logs:expected1h
and
workspace:late_publishing_final_logs:expected1h >= {QUIET_EXPECTED_LOGS}
and
time() - max by (job, workspace) ({LAST_POLL}{{feed="publishing"}}) < {DATA_AGE_WARNING_SECONDS}
""",
            hold="30m",
            summary="Far fewer posts are published than at this hour on other days.",
            description=(
                f"{_WORKSPACE}: {{{{ $value | humanize }}}} publish attempts ended in the last hour, less than"
                f" {100 * QUIET_SHARE:g} % of what this hour brought a week ago and in the last three days."
            ),
            dashboard=OVERVIEW,
        ),
        Alert(
            name="LatePublishingSlow",
            severity="warning",
            when=f"the 95th percentile of 1h is over {SLOW_FACTOR} times that of the week, and {SLOW_SECONDS} s more",
            expr=f"""\
{P95} > {SLOW_FACTOR} * {USUAL_P95.name}
and
{P95} - {USUAL_P95.name} > {SLOW_SECONDS}
and
sum by ({PLATFORM}) (
  increase(late_publishing_duration_seconds_count{{{ATTEMPTS}, status="success"}}[1h])
) >= {SLOW_LOGS}
unless on (job, workspace)
{CAUGHT_UP_LATELY}
unless on (job, workspace)
{_resets("1h").name} > 0
""",
            hold="15m",
            summary="Publishing takes far longer than usual.",
            description=(
                f"{_WORKSPACE}: the 95th percentile of publishing on {{{{ $labels.platform }}}} was"
                " {{ $value | humanizeDuration }} in the last hour, more than"
                f" {SLOW_FACTOR} times the median of its week."
            ),
            dashboard=PLATFORM_DASHBOARD,
        ),
        Alert(
            name="LateRateLimited",
            severity="warning",
            when=f"there are {PAUSES} or more pauses in 1h, more than one in {1 / PAUSES_PER_LOG:g} attempts",
            expr=f"""\
sum by ({PLATFORM}) (increase(late_publishing_rate_limit_pauses_total[1h])) >= {PAUSES}
and
(
    sum by ({PLATFORM}) (increase(late_publishing_rate_limit_pauses_total[1h]))
  /
    platform:late_publishing_final_logs:increase1h
) > {PAUSES_PER_LOG}
unless on (job, workspace)
{CAUGHT_UP_LATELY}
""",
            hold="15m",
            summary="A platform's rate limit holds posts up.",
            description=(
                f"{_WORKSPACE}: {{{{ $labels.platform }}}} made posts pause {{{{ $value | humanize }}}} times in the"
                f" last hour, more than once in {1 / PAUSES_PER_LOG:g} publish attempts."
            ),
            dashboard=PLATFORM_DASHBOARD,
        ),
        Alert(
            name="LatePendingStuck",
            severity="warning",
            when=f"{PENDING_EXCESS} more logs than usual are pending, the oldest for over {PENDING_SECONDS // HOUR}h",
            expr=f"""\
{PENDING} - {USUAL_PENDING.name} >= {PENDING_EXCESS}
and
time() - min by ({PLATFORM}) (late_publishing_oldest_pending_timestamp_seconds) > {PENDING_SECONDS}
""",
            hold="15m",
            keep=ACROSS_RESTART,
            summary="Posts stay pending.",
            description=(
                f"{_WORKSPACE}: {{{{ $value | humanize }}}} more logs of {{{{ $labels.platform }}}} are pending than"
                f" is usual, the oldest for more than {PENDING_SECONDS // HOUR} hour."
            ),
            dashboard=PLATFORM_DASHBOARD,
        ),
    ),
)


def _named(expr: str) -> str:
    """An expression over accounts, with the user name where it is known."""
    indented = "".join(f"  {line}\n" for line in expr.splitlines())
    names = f"max by ({ACCOUNT}, username) (late_account_info)"
    return f"(\n{indented})\n* on ({ACCOUNT}) group_left (username)\n{names}\n"


def _token(severity: Severity, seconds: int, hold: str) -> Alert:
    expiring = f"{TOKENS.name} - time() < {seconds} > -{DAY}"
    return Alert(
        name="LateTokenExpiring",
        severity=severity,
        when=f"the token of an account expires within {seconds // DAY}d",
        expr=f"{_named(expiring)}or on ({ACCOUNT})\n{expiring}\n",
        hold=hold,
        keep=ACROSS_RESTART,
        summary="The access token of an account is about to expire.",
        description=(
            f"{_WORKSPACE}: the token of {_ON_PLATFORM}"
            " {{ if gt $value 0.0 }}expires in {{ $value | humanizeDuration }}{{ else }}has expired{{ end }}."
        ),
        dashboard=ACCOUNT_DASHBOARD,
    )


_CONNECT_FAILURES = (
    f'sum by ({PLATFORM}) (increase(late_connection_failures_total{{code!="oauth_denied"}}[6h]))'  # people may say no
)


def _failed_within(window: str) -> str:
    """Accounts with new failures; those of a window with a counter that fell may be old ones, counted anew."""
    failed = f'late_account_logs_total{{status="failed"}}[{window}]'
    return f"""\
    sum by ({ACCOUNT}) (increase({failed})) > 0
  unless
    sum by ({ACCOUNT}) (resets({failed})) > 0"""


ACCOUNTS_GROUP = Group(
    name="late-accounts",
    rules=(
        Alert(
            name="LateAccountFailing",
            severity="warning",
            when=f"the last {CONSECUTIVE_FAILURES} or more attempts of an account failed",
            expr=_named(f"""\
max by ({ACCOUNT}) (late_account_consecutive_failures) >= {CONSECUTIVE_FAILURES}
and
(
{_failed_within(ACCOUNT_FAILED_WITHIN)}
  or
{_failed_within(ACCOUNT_FAILED_LATELY)}
)
"""),
            hold="30m",  # by then it is known whether the platform fails, or the account is disconnected
            keep=ACROSS_RESTART,
            summary="Publishing to an account fails again and again.",
            description=(
                f"{_WORKSPACE}: the last {{{{ $value | humanize }}}} publish attempts of {_ON_PLATFORM} all failed."
            ),
            dashboard=ACCOUNT_DASHBOARD,
        ),
        Alert(
            name="LateAccountDisconnected",
            severity="warning",
            when=f"an account published to in the last {ACCOUNT_USED_SECONDS // DAY}d is disconnected",
            expr=_named(f"""\
max by ({ACCOUNT}) (late_account_connected) == 0
and
time() - max by ({ACCOUNT}) ({LAST_SUCCESS}) < {ACCOUNT_USED_SECONDS}
"""),
            hold="15m",
            keep=ACROSS_RESTART,
            summary="An account that was in use is disconnected.",
            description=(
                f"{_WORKSPACE}: {_ON_PLATFORM} is disconnected, and was published to in the last"
                f" {ACCOUNT_USED_SECONDS // DAY} days."
            ),
            dashboard=ACCOUNT_DASHBOARD,
        ),
        _token("warning", TOKEN_LEFT_WARNING_SECONDS, "1h"),
        _token("critical", TOKEN_LEFT_CRITICAL_SECONDS, "15m"),
        Alert(
            name="LateConnectFailing",
            severity="warning",
            when=f"{CONNECT_FAILURES} or more attempts to connect accounts failed in 6h, and most of them",
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
            hold="15m",
            summary="Most attempts to connect accounts fail.",
            description=(
                f"{_WORKSPACE}: {{{{ $value | humanize }}}} attempts to connect an account of"
                " {{ $labels.platform }} failed in the last 6 hours, most of those made."
            ),
            dashboard=_dashboard("late-accounts", "job", "workspace", "platform"),
        ),
    ),
)


def _new(counter: str, labels: str, synced: str) -> str:
    """What a counter gained in an hour, of a workspace whose history is behind it."""
    return f"""\
sum by ({labels}) (increase({counter}[1h])) > 0
unless
sum by ({labels}) (resets({counter}[1h])) > 0
and on ({synced})
last_over_time({COVERAGE}[1d] offset 1h)
"""


EXPORTER_GROUP = Group(
    name="late-exporter",
    rules=(
        Alert(
            name="LateExporterDown",
            severity="critical",
            when="an exporter does not answer Prometheus",
            expr=f'up{{job=~"{JOBS}"}} == 0',
            hold="5m",
            summary="Prometheus cannot scrape an exporter.",
            description="Job {{ $labels.job }}: {{ $labels.instance }} has not answered for 5 minutes.",
            dashboard=EXPORTER_TARGET,
        ),
        Alert(
            name="LateExporterAbsent",
            severity="critical",
            when="Prometheus has no exporter to scrape",
            expr=f'absent(up{{job=~"{JOBS}"}})',
            hold="10m",
            summary="Prometheus knows of no exporter.",
            description=f"There is no target in a job that matches {JOBS}.",
            dashboard=_dashboard("late-exporter"),
        ),
        Alert(
            name="LateExporterRestarting",
            severity="warning",
            when=f"an exporter restarts {RESTARTS} or more times in 1h",
            expr=f'changes(process_start_time_seconds{{job=~"{JOBS}"}}[1h]) >= {RESTARTS}',
            hold="0m",
            summary="An exporter restarts again and again.",
            description=(
                "Job {{ $labels.job }}: {{ $labels.instance }} restarted {{ $value | humanize }} times in an hour."
            ),
            dashboard=EXPORTER_TARGET,
        ),
        Alert(
            name="LateReloadFailed",
            severity="warning",
            when="a changed configuration could not be taken over, for 5m",
            expr="late_exporter_config_last_reload_successful == 0",
            hold="5m",
            summary="An exporter goes on with an old configuration.",
            description=(
                "Job {{ $labels.job }}: {{ $labels.instance }} could not take its changed configuration over; "
                "a restart would fail."
            ),
            dashboard=EXPORTER_TARGET,
        ),
        Alert(
            name="LatePollStale",
            severity="critical",
            when=f"no poll of a feed has succeeded for {DATA_AGE_CRITICAL_SECONDS // MINUTE}m",
            expr=f"""\
time() - {LAST_POLL} > {DATA_AGE_CRITICAL_SECONDS}
or
time() - (
    late_up * 0 + on (job, instance) group_left () process_start_time_seconds
  unless
    {LAST_POLL}
) > {DATA_AGE_CRITICAL_SECONDS}
""",
            hold="10m",
            summary="A feed is no longer read, so its metrics are frozen.",
            description=(
                f"{_WORKSPACE}: the last successful poll of the {_FEED} was {{{{ $value | humanizeDuration }}}} ago."
            ),
            dashboard=EXPORTER,
        ),
        Alert(
            name="LateKeyRefused",
            severity="critical",
            when="polls are answered with 401 or 403",
            expr=f"""\
sum by ({FEED}) (increase(late_exporter_polls_total{{outcome="unauthorized"}}[15m])) > 0
and
max by ({FEED}) (late_up) == 0
""",
            hold="5m",
            summary="Late refuses the API key.",
            description=f"{_WORKSPACE}: polls of the {_FEED} are answered with 401 or 403.",
            dashboard=EXPORTER,
        ),
        Alert(
            name="LateQuotaLow",
            severity="warning",
            when=f"less than {_percent(QUOTA_LEFT_WARNING)} of the key's requests a minute are left, on average of 15m",
            expr=f"""\
avg by (job, workspace) (avg_over_time(late_exporter_api_quota_remaining[15m]))
/
(avg by (job, workspace) (late_exporter_api_quota_limit) > 0)
< {QUOTA_LEFT_WARNING}
""",
            hold="15m",
            summary="Little is left of an API key's rate limit.",
            description=(
                f"{_WORKSPACE}: over 15 minutes {{{{ $value | humanizePercentage }}}} of the requests a minute were"
                " left on average."
            ),
            dashboard=EXPORTER,
        ),
        Alert(
            name="LateCatchUpStuck",
            severity="warning",
            when="a stretch of a feed stays unread after an outage",
            expr=f"{OPEN_GAP.name} == 1",
            hold="1h",
            keep=ACROSS_RESTART,
            summary="Catching up after an outage takes too long.",
            description=f"{_WORKSPACE}: a stretch of the {_FEED} has been unread for an hour.",
            dashboard=EXPORTER,
        ),
        Alert(
            name="LateCoverageAtRisk",
            severity="critical",
            when=(
                f"a feed was last read without a gap {COVERAGE_RISK_SECONDS // DAY}d ago, and logs expire after"
                f" {RETENTION // DAY}d"
            ),
            expr=f"""\
time() - max by ({FEED}) (last_over_time({WHOLE.name}[7d])) > {COVERAGE_RISK_SECONDS}
and
{WANTED}
""",
            hold="15m",
            summary="Logs will soon expire before they are counted.",
            description=(
                f"{_WORKSPACE}: the {_FEED} was last read without a gap {{{{ $value | humanizeDuration }}}} ago."
                f" Late forgets a log after {RETENTION // DAY} days."
            ),
            dashboard=EXPORTER,
        ),
        Alert(
            name="LateCoverageLost",
            severity="warning",
            when="logs expired before they were counted",
            expr=f"""\
max by ({FEED}) ({COVERAGE}) > max by ({FEED}) (last_over_time({COVERAGE}[14d] offset 1d)) + {COVERAGE_STEP_SECONDS}
and
time() - max by ({FEED}) ({COVERAGE}) >= {RETENTION - HOUR}
""",
            hold="15m",
            summary="Logs expired before they were counted.",
            description=(
                f"{_WORKSPACE}: the record of the {_FEED} is whole only since {{{{ $value | humanizeTimestamp }}}}."
            ),
            dashboard=EXPORTER,
        ),
        Alert(
            name="LateLogsRejected",
            severity="warning",
            when="logs came without an id in 1h",
            expr=_new("late_exporter_entries_rejected_total", f"{FEED}, reason", FEED),
            hold="5m",
            summary="Logs cannot be counted because they have no id.",
            description=(
                f"{_WORKSPACE}: {{{{ $value | humanize }}}} logs of the {_FEED} were refused in the last hour"
                " ({{ $labels.reason }})."
            ),
            dashboard=EXPORTER,
        ),
        Alert(
            name="LateApiDrift",
            severity="warning",
            when="logs came with fields in 1h that are not as documented",
            expr=_new("late_exporter_api_fields_drifted_total", f"{FEED}, field, kind", FEED),
            hold="5m",
            summary="The Late API has changed.",
            description=(
                f"{_WORKSPACE}: {{{{ $value | humanize }}}} logs of the {_FEED} came in the last hour with"
                " {{ $labels.field }} not as documented ({{ $labels.kind }})."
            ),
            dashboard=EXPORTER,
        ),
        Alert(
            name="LateLogsReconciled",
            severity="warning",
            when="polls missed logs in 1h that the walk then found",
            expr=_new("late_exporter_reconciled_logs_total", FEED, FEED),
            hold="5m",
            summary="Polls missed logs that the reconcile walk found.",
            description=(
                f"{_WORKSPACE}: {{{{ $value | humanize }}}} logs of the {_FEED} were found by the walk alone in the"
                " last hour. They are counted."
            ),
            dashboard=EXPORTER,
        ),
        Alert(
            name="LateAuditFailed",
            severity="warning",
            when="an audit found logs that are not counted, or counted twice",
            expr=f"""\
max by ({FEED}) (late_exporter_audit_missing_logs)
+
max by ({FEED}) (late_exporter_audit_extra_logs)
> 0
""",
            hold="0m",
            keep=ACROSS_RESTART,
            summary="An audit found the counters wrong.",
            description=(
                f"{_WORKSPACE}: the last audit of the {_FEED} found {{{{ $value | humanize }}}} logs that are not"
                " counted, or counted twice."
            ),
            dashboard=EXPORTER,
        ),
        Alert(
            name="LateAuditOverdue",
            severity="warning",
            when=f"no audit of a feed has come to its end for {AUDIT_AGE_SECONDS // DAY}d",
            expr=f"time() - max by ({FEED}) (late_exporter_audit_last_timestamp_seconds) > {AUDIT_AGE_SECONDS}",
            hold="6h",
            summary="Audits do not come to their end, so nobody checks the counters.",
            description=(f"{_WORKSPACE}: the last audit of the {_FEED} ended {{{{ $value | humanizeDuration }}}} ago."),
            dashboard=EXPORTER,
        ),
        Alert(
            name="LateWebhooksRefused",
            severity="warning",
            when=f"webhooks are refused because of their signature, for {WEBHOOKS_REFUSED_WITHIN}",
            expr=f"""\
sum by (job, workspace) (
  increase(late_exporter_webhooks_refused_total{{reason="signature"}}[{WEBHOOKS_REFUSED_WITHIN}])
) > 0
""",
            hold=WEBHOOKS_REFUSED_WITHIN,
            summary="Webhooks come with a wrong signature.",
            description=(
                f"{_WORKSPACE}: {{{{ $value | humanize }}}} webhooks of the last {WEBHOOKS_REFUSED_WITHIN} were not"
                " signed with the secret of --webhook.secret-file. Polls go on."
            ),
            dashboard=EXPORTER,
        ),
        Alert(
            name="LateLabelOverflow",
            severity="warning",
            when="a label has so many values that some are counted as other",
            expr=_new("late_exporter_label_overflow_total", "job, workspace, family, label", "job, workspace"),
            hold="5m",
            summary="A label has too many values; the rest is counted as other.",
            description=(
                f"{_WORKSPACE}: {{{{ $labels.label }}}} of {{{{ $labels.family }}}} was folded into other"
                " {{ $value | humanize }} times in the last hour."
            ),
            dashboard=EXPORTER,
        ),
    ),
)

ALERT_GROUPS = (BUDGET_GROUP, PUBLISHING_GROUP, ACCOUNTS_GROUP, EXPORTER_GROUP)
