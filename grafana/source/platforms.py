"""late-platform: one platform, or those chosen, through everything its logs tell."""

from __future__ import annotations

from grafana.source import panels, thresholds
from grafana.source.layout import ACCOUNTS, PLATFORM, Page, Row, link
from grafana.source.palette import ACTIONS, CATEGORIES, CODES, MUTED, QUANTILES, STATUSES
from grafana.source.panels import PER_MINUTE, Column, Frame
from grafana.source.queries import (
    ATTEMPTS,
    FAILED_ATTEMPTS,
    RATE,
    Query,
    age,
    count,
    happened,
    increase,
    named,
    per_minute,
    quantile,
    rate,
    series,
    success_ratio,
    total,
)

__all__ = ["PAGE"]

OBJECTIVE = f"{100 * thresholds.SUCCESS_OBJECTIVE:g} %"
DURATION = "late_publishing_duration_seconds"
ENDED = {"action": "~publish|retry", "status": "~success|failed"}
LOGS = series("late_publishing_logs_total")
FAILURES = series("late_publishing_failures_total")
PENDING = series("late_publishing_pending_logs")
OLDEST = series("late_publishing_oldest_pending_timestamp_seconds")
KIND = ("category", "action", "status_code")
ACCOUNT = ("workspace", "platform", "account_id")


def _upto(bound: int) -> str:
    """Attempts up to a number; ``le`` is written with and without decimals."""
    return total(f"60 * {rate(series('late_publishing_attempts_bucket', le=f'~{bound}([.]0)?'))}")


def _accounts(status: str) -> str:
    counted = f"increase({series('late_account_logs_total', status=status)}[24h])"
    return named(f"sum by (job, instance, {', '.join(ACCOUNT)}) ({counted})")


NOW = Row(
    100,
    "Now: $platform",
    (
        panels.number(
            Frame(101, "Success, 1 h", f"Of the attempts that ended in the last hour. Objective: {OBJECTIVE}.", 3, 4),
            success_ratio("1h"),
            unit="percentunit",
            decimals=1,
            steps=thresholds.SUCCESS,
            no_value=("No posts", MUTED),
        ),
        panels.number(
            Frame(102, "Success, 24 h", f"Of the attempts of the last 24 hours. Objective: {OBJECTIVE}.", 3, 4),
            success_ratio("24h"),
            unit="percentunit",
            decimals=2,
            steps=thresholds.SUCCESS,
            no_value=("No posts", MUTED),
        ),
        panels.number(
            Frame(103, "Attempts, 24 h", "Attempts to publish that ended in the last 24 hours.", 3, 4),
            increase(ATTEMPTS, "24h"),
            decimals=0,
        ),
        panels.number(
            Frame(104, "Failed, 1 h", "Attempts to publish that failed in the last hour.", 3, 4),
            increase(FAILED_ATTEMPTS, "1h"),
            decimals=0,
        ),
        panels.number(
            Frame(105, "Duration, p95", "95 of 100 attempts of the last hour ended within this time.", 3, 4),
            quantile(0.95, DURATION, "1h", **ENDED),
            unit="s",
            decimals=1,
            no_value=("No posts", MUTED),
        ),
        panels.number(
            Frame(106, "Pending", "Logs that are pending now.", 3, 4),
            count(total(PENDING)),
            decimals=0,
        ),
        panels.number(
            Frame(107, "Oldest pending", "Age of the oldest log that is pending now.", 3, 4),
            age(f"min({OLDEST})"),
            unit="s",
            decimals=0,
            no_value=("None", MUTED),
        ),
        panels.number(
            Frame(108, "Last log", "Time since the newest log, of any action and status, was created.", 3, 4),
            age(f"max({series('late_publishing_last_log_timestamp_seconds')})"),
            unit="s",
            decimals=0,
            no_value=("Never", MUTED),
        ),
    ),
)

FLOW = Row(
    200,
    "What happens",
    (
        panels.bars(
            Frame(
                201,
                "Logs by status",
                "Sightings of logs a minute, of all actions. A log is counted once in each status it was seen in:"
                " one that was seen pending and then succeeded is in both.",
                8,
                8,
            ),
            Query(per_minute(LOGS, "status"), "{{status}}"),
            unit=PER_MINUTE,
            colors=STATUSES,
        ),
        panels.bars(
            Frame(202, "Logs by action", "Logs a minute that are no longer pending, by action.", 8, 8),
            Query(per_minute(series("late_publishing_logs_total", status="!pending"), "action"), "{{action}}"),
            unit=PER_MINUTE,
            colors=ACTIONS,
        ),
        panels.lines(
            Frame(
                203,
                "Success",
                "Share of the attempts of the hour before that succeeded, and of the ten minutes before, which tells"
                f" sooner when it is over. Dashed: the objective, {OBJECTIVE}.",
                8,
                8,
            ),
            Query(success_ratio("10m"), "10 min"),
            Query(success_ratio("1h"), "1 h"),
            unit="percentunit",
            colors={"10 min": "#94A3B8", "1 h": "#3B82F6"},
            limits=((None, "transparent"), (thresholds.SUCCESS_OBJECTIVE, "green")),
            axis=panels.RATIO,
        ),
    ),
)

FAILING = Row(
    300,
    "Why attempts fail",
    (
        panels.bars(
            Frame(
                301,
                "Failures by category",
                "Failed logs a minute, by what went wrong. auth_expired: the account has to be connected again;"
                " user_content, media_error: the post is at fault; rate_limited, platform_rejected, system: the"
                " platform is.",
                8,
                8,
            ),
            Query(happened(FAILURES, "category"), "{{category}}"),
            unit=PER_MINUTE,
            colors=CATEGORIES,
            no_value="No failures",
        ),
        panels.bars(
            Frame(
                302,
                "Failures by status code",
                "Failed logs a minute, by the HTTP status that the platform answered with; none: without an answer.",
                8,
                8,
            ),
            Query(happened(FAILURES, "status_code"), "{{status_code}}"),
            unit=PER_MINUTE,
            colors=CODES,
            no_value="No failures",
        ),
        panels.cells(
            Frame(303, "Failures, in figures", "Failed logs of the last 24 hours and of the last hour.", 8, 8),
            Column(title="Category", label="category"),
            Column(title="Action", label="action", width=110),
            Column(title="Code", label="status_code", width=60),
            Column(
                title="24 h",
                expr=f"{increase(FAILURES, '24h', *KIND)} > 0.5",
                decimals=0,
                width=60,
            ),
            Column(
                title="1 h",
                expr=f"{increase(FAILURES, '1h', *KIND)} and {increase(FAILURES, '24h', *KIND)} > 0.5",
                decimals=0,
                width=60,
            ),
            sort="24 h",
            no_value="No failures",
        ),
    ),
)

LATENCY = Row(
    400,
    "How long it takes",
    (
        panels.lines(
            Frame(
                401,
                "Duration",
                "50, 95 and 99 of 100 attempts of the ten minutes before ended within this time. The dots are single"
                " logs, with their log and post ids, where Prometheus keeps exemplars.",
                8,
                8,
            ),
            Query(quantile(0.5, DURATION, "10m", **ENDED), "p50"),
            Query(quantile(0.95, DURATION, "10m", **ENDED), "p95"),
            Query(quantile(0.99, DURATION, "10m", **ENDED), "p99", exemplar=True),
            unit="s",
            colors=QUANTILES,
        ),
        panels.heat_map(
            Frame(402, "Durations", "How many attempts took how long; the dots are single logs.", 8, 8),
            Query(increase(series(f"{DURATION}_bucket", **ENDED), RATE, "le"), "{{le}}", exemplar=True),
            unit="s",
        ),
        panels.lines(
            Frame(
                403,
                "Duration by action, p95",
                "Of the logs of each action that ended in the hour before: is the upload slow, or the platform?",
                8,
                8,
            ),
            Query(quantile(0.95, DURATION, "1h", "action", status="~success|failed"), "{{action}}"),
            unit="s",
            colors=ACTIONS,
        ),
    ),
)

AGAIN = Row(
    500,
    "Attempts, retries, what is pending",
    (
        panels.bars(
            Frame(
                501,
                "Attempts by number",
                "Attempts a minute, by whether they were the first of their post on an account, the second or a later"
                " one.",
                8,
                8,
            ),
            Query(_upto(1), "first"),
            Query(f"{_upto(2)} - {_upto(1)}", "second"),
            Query(f"{_upto(3)} - {_upto(2)}", "third"),
            Query(f"60 * {total(rate(series('late_publishing_attempts_count')))} - {_upto(3)}", "later"),
            unit=PER_MINUTE,
            colors={"first": "#7DD3FC", "second": "#EAB308", "third": "#F97316", "later": "#BE185D"},
        ),
        panels.bars(
            Frame(
                502,
                "Retries and pauses",
                "Retries that ended, and pauses that the platform's rate limit forced on posts, a minute.",
                8,
                8,
            ),
            Query(
                happened(series("late_publishing_retries_total", status="~success|failed"), "status"),
                "retry: {{status}}",
            ),
            Query(happened(series("late_publishing_rate_limit_pauses_total")), "pause"),
            unit=PER_MINUTE,
            colors={"retry: success": "green", "retry: failed": "red", "pause": ACTIONS["rate_limit_pause"]},
            no_value="No retries",
        ),
        panels.lines(
            Frame(503, "Pending", "Logs that are pending, by action.", 8, 8),
            Query(total(PENDING, "action"), "{{action}}"),
            unit="short",
            colors=ACTIONS,
            held=True,
            stacked=True,
            no_value="Nothing is pending",
        ),
    ),
)

ACCOUNTS_ROW = Row(
    600,
    "Accounts",
    (
        panels.cells(
            Frame(
                601,
                "Accounts that fail",
                "Accounts with failures in the last 24 hours, or whose last attempt failed. A click on one leads to its"
                " detail.",
                24,
                9,
            ),
            Column(
                title="Account",
                label="username",
                link=link(
                    ACCOUNTS,
                    platform="${__data.fields.platform:percentencode}",
                    account_id="${__data.fields.account_id:percentencode}",
                ),
            ),
            Column(title="Platform", label="platform"),
            Column(title="Workspace", label="workspace"),
            Column(title="Failed, 24 h", expr=f"{_accounts('failed')} > 0.5", decimals=0),
            Column(
                title="Failures in a row",
                expr=f"{named(series('late_account_consecutive_failures'))} > 0",
                decimals=0,
                steps=thresholds.FAILURES_IN_A_ROW,
                empty="0",
            ),
            Column(title="Account id", label="account_id"),
            sort="Failures in a row",
            no_value="No account fails",
        ),
    ),
)

PAGE = Page(
    uid=PLATFORM,
    title="Late / Platform",
    description="The platforms chosen above through everything their publishing logs tell. Choose one.",
    rows=(NOW, FLOW, FAILING, LATENCY, AGAIN, ACCOUNTS_ROW),
)
