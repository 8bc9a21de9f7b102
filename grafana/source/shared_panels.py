"""Panels that several dashboards show; each has its own id there."""

from __future__ import annotations

from grafana_foundation_sdk.models.common import BigValueTextMode
from grafana_foundation_sdk.models.dashboard import Panel

from grafana.source import panels, thresholds
from grafana.source.palette import BAD, CATEGORIES, MUTED, STATUSES
from grafana.source.panels import Column, PanelFrame
from grafana.source.queries import (
    ATTEMPTS,
    FAILED_ATTEMPTS,
    OF_LARGE_WORKSPACES,
    OF_SMALL_WORKSPACES,
    Query,
    age,
    cannot_post,
    failed_of_attempts,
    failed_posts,
    failing_accounts,
    increase,
    or_zero,
    per_minute,
    per_minute_nonzero,
    published_late,
    rated_success,
    selector,
)
from grafana.source.thresholds import Steps
from late_exporter.thresholds import (
    CONSECUTIVE_FAILURES,
    SMALL_WORKSPACE_ATTEMPTS,
    SUCCESS_OBJECTIVE,
)

OBJECTIVE = f"{100 * SUCCESS_OBJECTIVE:g} %"
UNKNOWN = ("Unknown", MUTED)
FEW_POSTS = ("Few posts", MUTED)
NO_POSTS = "No posts"
NO_SUCH_LOG = "No publish attempt has been seen yet"
STAT_HEIGHT = 4
LAST_POLL = selector("late_exporter_last_successful_poll_timestamp_seconds")


def success_stats(first_id: int, steps: Steps) -> tuple[Panel, Panel]:
    """Return the success ratios of an hour and of a day."""
    stats = (
        panels.stat_panel(
            PanelFrame(
                first_id + offset,
                f"Success, {hours} h",
                f"Share of publish attempts that succeeded. Objective: {OBJECTIVE}. Fewer than"
                f" {thresholds.SHARE_ATTEMPTS} attempts are only counted, unless all of at least"
                f" {thresholds.NOTHING_PUBLISHED_ATTEMPTS} failed.",
                3,
                STAT_HEIGHT,
            ),
            rated_success(f"{hours}h"),
            unit=unit,
            steps=steps,
            no_value=FEW_POSTS,
        )
        for offset, (hours, unit) in enumerate(((1, panels.PERCENT_1), (24, panels.PERCENT_2)))
    )
    hour, day = stats
    return hour, day


def failed_attempts_stat(panel_id: int, width: int) -> Panel:
    """Return how many of the attempts of an hour failed."""
    return panels.stat_panel(
        PanelFrame(
            panel_id,
            "Failed, 1 h",
            "Publish attempts that failed in the last hour, of all that ended. A retry may have"
            " published the post since.",
            width,
            STAT_HEIGHT,
        ),
        Query(failed_of_attempts("1h"), "{{failed}} of {{attempts}}"),
        text_mode=BigValueTextMode.NAME,
    )


def failed_posts_stat(panel_id: int, width: int, link: str = "", **matchers: str) -> Panel:
    """Return the posts that failed for good, apart for the workspaces where each is a warning."""
    return panels.stat_panel(
        PanelFrame(
            panel_id,
            "Failed posts, 24 h",
            "Posts due in the last 24 hours that failed on an account and were not published"
            " there since, with or without a log. Small: workspaces with at most"
            f" {SMALL_WORKSPACE_ATTEMPTS} publish attempts in 24 hours, for which"
            " LatePostFailed fires. Large: the others, where shares decide. The command"
            " late-exporter posts --failed lists them.",
            width,
            STAT_HEIGHT,
        ),
        Query(failed_posts(of=OF_SMALL_WORKSPACES, **matchers), "small"),
        Query(failed_posts(of=OF_LARGE_WORKSPACES, **matchers), "large"),
        steps_by_name={"large": thresholds.UNRATED_ABOVE_ZERO},
        steps=thresholds.WARNING_ABOVE_ZERO,
        text_mode=BigValueTextMode.VALUE_AND_NAME,
        no_value=UNKNOWN,
        link=link,
    )


def late_stat(panel_id: int, width: int) -> Panel:
    """Return the share of posts that were published late."""
    return panels.stat_panel(
        PanelFrame(
            panel_id,
            "Late, 24 h",
            "Share of the scheduled posts of the last 24 hours that were published more than"
            f" 5 minutes after their time, of at least {thresholds.PUBLISHED_LATE_POSTS}.",
            width,
            STAT_HEIGHT,
        ),
        published_late("24h"),
        unit=panels.PERCENT_1,
        steps=thresholds.PUBLISHED_LATE,
        no_value=FEW_POSTS,
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
        no_value=NO_SUCH_LOG,
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
            expr=rated_success("24h", by),
            unit=panels.PERCENT_2,
            steps=thresholds.PLATFORM_SUCCESS,
            width=125,
        ),
        Column(
            "Success, 1 h",
            expr=rated_success("1h", by),
            unit=panels.PERCENT_1,
            steps=thresholds.PLATFORM_SUCCESS,
            width=115,
        ),
        Column("Failed, 1 h", expr=increase(FAILED_ATTEMPTS, "1h", by), width=105, empty_text="0"),
        Column("Failed posts, 24 h", expr=failed_posts(by), width=160),
    )
