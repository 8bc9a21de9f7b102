"""Panels that several dashboards show; each has its own id there."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Panel

from grafana.source import panels, thresholds
from grafana.source.palette import BAD, CATEGORIES, MUTED, STATUSES
from grafana.source.panels import Column, PanelFrame
from grafana.source.queries import (
    ATTEMPTS,
    FAILED_ATTEMPTS,
    Query,
    age,
    cannot_post,
    failing_accounts,
    increase,
    or_zero,
    per_minute,
    per_minute_nonzero,
    published_late,
    selector,
    success_ratio,
)
from grafana.source.thresholds import Steps
from late_exporter.thresholds import CONSECUTIVE_FAILURES, SUCCESS_OBJECTIVE

OBJECTIVE = f"{100 * SUCCESS_OBJECTIVE:g} %"
UNKNOWN = ("Unknown", MUTED)
STAT_HEIGHT = 4
LAST_POLL = selector("late_exporter_last_successful_poll_timestamp_seconds")


def success_stats(first_id: int, steps: Steps) -> tuple[Panel, Panel]:
    """Return the success ratios of an hour and of a day."""
    stats = (
        panels.stat_panel(
            PanelFrame(
                first_id + offset,
                f"Success, {hours} h",
                f"Share of publish attempts that succeeded. Objective: {OBJECTIVE}.",
                3,
                STAT_HEIGHT,
            ),
            success_ratio(f"{hours}h"),
            unit=unit,
            steps=steps,
            no_value=("No posts", MUTED),
        )
        for offset, (hours, unit) in enumerate(((1, panels.PERCENT_1), (24, panels.PERCENT_2)))
    )
    hour, day = stats
    return hour, day


def late_stat(panel_id: int, width: int) -> Panel:
    """Return the share of posts that were published late."""
    return panels.stat_panel(
        PanelFrame(
            panel_id,
            "Late, 24 h",
            "Share of the scheduled posts of the last 24 hours that were published more than"
            " 5 minutes after their time.",
            width,
            STAT_HEIGHT,
        ),
        published_late("24h"),
        unit=panels.PERCENT_1,
        steps=thresholds.PUBLISHED_LATE,
        no_value=("None scheduled", MUTED),
    )


def oldest_pending_stat(panel_id: int, width: int) -> Panel:
    """Return the age of the oldest pending log."""
    oldest = selector("late_publishing_oldest_pending_timestamp_seconds")
    return panels.stat_panel(
        PanelFrame(
            panel_id,
            "Oldest pending",
            "Age of the oldest pending publishing log. From two hours on, it may be stuck. One"
            " that never reaches a final status stays here until the API deletes it.",
            width,
            STAT_HEIGHT,
        ),
        age(f"min({oldest})"),
        unit=panels.DURATION,
        steps=thresholds.PENDING_AGE,
        no_value=("None", MUTED),
    )


def failing_accounts_stat(panel_id: int, width: int, link: str = "", **matchers: str) -> Panel:
    """Return the number of accounts for which LateAccountFailing would fire."""
    return panels.stat_panel(
        PanelFrame(
            panel_id,
            "Failing accounts",
            f"Accounts whose last {CONSECUTIVE_FAILURES} or more attempts all failed, at least"
            f" one of them in the last {thresholds.ACCOUNT_FAILURE_WINDOW[:-1]} days, as in the"
            " alert LateAccountFailing.",
            width,
            STAT_HEIGHT,
        ),
        or_zero(f"count({failing_accounts(**matchers)})"),
        steps=thresholds.WARNING_ABOVE_ZERO,
        link=link,
    )


def cannot_post_stat(panel_id: int, width: int, link: str = "", **matchers: str) -> Panel:
    """Return the number of accounts to which the API cannot post."""
    return panels.stat_panel(
        PanelFrame(
            panel_id,
            "Cannot post",
            "Accounts to which the API cannot post, among them those that must be connected"
            " again. The command late-exporter accounts says why.",
            width,
            STAT_HEIGHT,
        ),
        cannot_post(**matchers),
        steps=thresholds.WARNING_ABOVE_ZERO,
        no_value=UNKNOWN,
        link=link,
    )


def data_age_stat(panel_id: int, width: int, link: str) -> Panel:
    """Return the age of the most outdated feed."""
    return panels.stat_panel(
        PanelFrame(
            panel_id,
            "Data age",
            "Time since the last successful poll of the most outdated feed. All other panels are"
            " as old as this: while it grows, green means nothing.",
            width,
            STAT_HEIGHT,
        ),
        age(f"min({LAST_POLL})"),
        unit=panels.DURATION,
        steps=thresholds.DATA_AGE,
        no_value=("Never polled", BAD),
        link=link,
    )


def attempts_chart(panel_id: int, width: int, height: int) -> Panel:
    """Return the attempts over time, by status."""
    return panels.bar_chart(
        PanelFrame(
            panel_id,
            "Attempts per minute",
            "Finished attempts to publish. Logs are counted when they are read, so a spike"
            " follows an outage of the exporter or of the Zernio API.",
            width,
            height,
        ),
        Query(per_minute(ATTEMPTS, "status"), "{{status}}"),
        unit=panels.PER_MINUTE,
        colors=STATUSES,
    )


def failures_chart(panel_id: int, width: int, height: int) -> Panel:
    """Return the failures over time, by category."""
    failures = selector("late_publishing_failures_total")
    return panels.bar_chart(
        PanelFrame(
            panel_id,
            "Failures per minute, by category",
            "Failed logs by cause. auth_expired, account_issue: the account; user_content,"
            " user_abuse: the post; platform_rejected, platform_error, platform_rate_limit,"
            " quota_exhausted: the platform or its limits; system_error: the API.",
            width,
            height,
        ),
        Query(per_minute_nonzero(failures, "category"), "{{category}}"),
        unit=panels.PER_MINUTE,
        colors=CATEGORIES,
        no_value="No failures",
    )


def attempt_columns(by: str) -> tuple[Column, ...]:
    """Return columns about the attempts of each platform or workspace."""
    return (
        Column("Attempts, 24 h", expr=increase(ATTEMPTS, "24h", by), width=125),
        Column(
            "Success, 24 h",
            expr=success_ratio("24h", by),
            unit=panels.PERCENT_2,
            steps=thresholds.PLATFORM_SUCCESS,
            width=125,
        ),
        Column(
            "Success, 1 h",
            expr=success_ratio("1h", by),
            unit=panels.PERCENT_1,
            steps=thresholds.PLATFORM_SUCCESS,
            width=115,
        ),
        Column("Failed, 1 h", expr=increase(FAILED_ATTEMPTS, "1h", by), width=105),
    )
