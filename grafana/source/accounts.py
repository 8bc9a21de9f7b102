"""late-accounts: which accounts are in trouble, and who has to connect one again."""

from __future__ import annotations

from grafana.source import panels, thresholds
from grafana.source.layout import ACCOUNTS, PLATFORM, Page, Row, link
from grafana.source.palette import CONNECTION_CODES, EVENTS, MUTED
from grafana.source.panels import Column, Frame
from grafana.source.queries import Query, age, count, increase, named, quantile, series

__all__ = ["PAGE"]

ACCOUNT = ("workspace", "platform", "account_id")
CHOSEN = {"account_id": "~$account_id"}
STREAK = series("late_account_consecutive_failures", **CHOSEN)
CONNECTED = series("late_account_connected", **CHOSEN)
LAST_SUCCESS = series("late_account_last_success_timestamp_seconds", **CHOSEN)
EXPIRY = f"({series('late_account_token_expiry_timestamp_seconds', **CHOSEN)} unless {CONNECTED} == 0)"
"""Of accounts that are connected: a token that was taken back is worth nothing, however long it was to last."""

EVENTS_TOTAL = series("late_connection_events_total")
FAILURES = series("late_connection_failures_total")
BAR = "10m"
NAME = "{{username}} ({{platform}})"


def _each(selector: str) -> str:
    return f"max by ({', '.join(ACCOUNT)}) ({selector})"


def _logs(window: str, status: str) -> str:
    counted = series("late_account_logs_total", status=status, **CHOSEN)
    return named(f"sum by (job, instance, {', '.join(ACCOUNT)}) (increase({counted}[{window}]))")


NOW = Row(
    100,
    "Now",
    (
        panels.number(
            Frame(
                101,
                "Accounts",
                "Accounts seen in a log. With --metrics.max-accounts 0 the exporter tells of none.",
                4,
                4,
            ),
            count(f"count({_each(series('late_account_info', **CHOSEN))})"),
        ),
        panels.number(
            Frame(
                102,
                "Failing",
                f"Accounts whose last {thresholds.CONSECUTIVE_FAILURES} attempts or more all failed.",
                4,
                4,
            ),
            f"sum({_each(STREAK)} >= bool {thresholds.CONSECUTIVE_FAILURES})",
            steps=thresholds.AT_ALL,
        ),
        panels.number(
            Frame(103, "Disconnected", "Accounts whose newest connection log left them disconnected.", 4, 4),
            f"sum({_each(CONNECTED)} == bool 0)",
            steps=thresholds.AT_ALL,
        ),
        panels.number(
            Frame(
                104,
                "Next token expiry",
                "Until the first access token of a connected account expires, of those that are known. Late renews many"
                " tokens itself: the tokens that matter are those of the table below that stay close to 0.",
                4,
                4,
            ),
            f"min({EXPIRY} - time()) / {thresholds.DAY}",
            unit=panels.DAYS,
            decimals=1,
            steps=thresholds.TOKEN_DAYS_LEFT,
            no_value=("Unknown", MUTED),
        ),
        panels.number(
            Frame(105, "Connect failures, 24 h", "Connection logs of the last 24 hours that are failures.", 4, 4),
            count(increase(FAILURES, "24h")),
            decimals=0,
        ),
        panels.number(
            Frame(106, "Last connection log", "Time since the newest connection log was created.", 4, 4),
            age(f"max({series('late_connection_last_event_timestamp_seconds')})"),
            unit="s",
            decimals=0,
            no_value=("Never", MUTED),
        ),
    ),
)

FIGURES = Row(
    200,
    "Accounts",
    (
        panels.cells(
            Frame(
                201,
                "Accounts",
                "Each account now. A click on a platform leads to it. A dash under connected: no connection log of the"
                " account was seen, as Late keeps them for seven days; under token: that, or it is disconnected.",
                24,
                13,
            ),
            Column(title="Account", label="username"),
            Column(
                title="Platform",
                label="platform",
                link=link(PLATFORM, platform="${__value.raw:percentencode}"),
                width=130,
            ),
            Column(title="Workspace", label="workspace", width=120),
            Column(
                title="Failures in a row",
                expr=named(STREAK),
                decimals=0,
                steps=thresholds.FAILURES_IN_A_ROW,
                width=140,
            ),
            Column(
                title="Last success",
                expr=f"1000 * {named(LAST_SUCCESS)}",
                unit="dateTimeFromNow",
                empty="never seen",
                width=140,
            ),
            Column(title="Succeeded, 24 h", expr=_logs("24h", "success"), decimals=0, width=140),
            Column(title="Failed, 24 h", expr=_logs("24h", "failed"), decimals=0, width=120),
            Column(title="Connected", expr=named(CONNECTED), words=panels.CONNECTED_WORDS, width=130),
            Column(
                title="Token left",
                expr=f"({named(EXPIRY)} - time()) / {thresholds.DAY}",
                unit=panels.DAYS,
                decimals=1,
                steps=thresholds.TOKEN_DAYS_LEFT,
                width=130,
            ),
            Column(title="Account id", label="account_id", width=230),
            sort="Failures in a row",
            no_value="No accounts",
        ),
    ),
)

TIME = Row(
    300,
    "Over time",
    (
        panels.lines(
            Frame(
                301,
                "Failures in a row",
                "The attempts of an account that failed since its last success, of accounts that had any in the time"
                f" shown. Dashed: {thresholds.CONSECUTIVE_FAILURES}, from which on it is an alert.",
                12,
                9,
            ),
            Query(
                f"{named(STREAK)} and on ({', '.join(ACCOUNT)}) {_each(f'max_over_time({STREAK}[$__range])')} > 1",
                NAME,
            ),
            unit="short",
            colors={},
            limits=((None, "transparent"), (thresholds.CONSECUTIVE_FAILURES, "orange")),
            held=True,
            axis=panels.Axis(high=thresholds.CONSECUTIVE_FAILURES + 1),
            no_value="No account failed twice in a row",
        ),
        panels.timeline(
            Frame(
                302,
                "Connections that broke",
                "Accounts that were disconnected at some time shown. All others stayed connected.",
                12,
                9,
            ),
            Query(
                f"{named(CONNECTED)} and on ({', '.join(ACCOUNT)})"
                f" {_each(f'min_over_time({CONNECTED}[$__range])').replace('max by', 'min by')} == 0",
                NAME,
            ),
            panels.CONNECTED_WORDS,
            no_value="No account was disconnected",
        ),
    ),
)

CONNECTING = Row(
    400,
    "Connecting",
    (
        panels.bars(
            Frame(
                401,
                "Connection events",
                "Connection logs within each bar, by event. Not narrowed to the accounts chosen.",
                8,
                8,
            ),
            Query(f"{increase(EVENTS_TOTAL, '$__interval', 'event')} > 0", "{{event}}"),
            unit="short",
            interval=BAR,
            colors=EVENTS,
            no_value="No connection logs",
        ),
        panels.bars(
            Frame(
                402,
                "Connection failures",
                "Failed connection logs within each bar, by the API's error code. oauth_denied: somebody said no.",
                8,
                8,
            ),
            Query(f"{increase(FAILURES, '$__interval', 'code')} > 0", "{{code}}"),
            unit="short",
            interval=BAR,
            colors=CONNECTION_CODES,
            no_value="No failures",
        ),
        panels.lines(
            Frame(403, "Duration, p95", "95 of 100 connection events of the six hours before took no longer.", 8, 8),
            Query(quantile(0.95, "late_connection_duration_seconds", "6h", "event"), "{{event}}"),
            unit="s",
            colors=EVENTS,
            no_value="No connection logs",
        ),
    ),
)

PAGE = Page(
    uid=ACCOUNTS,
    title="Late / Accounts",
    description="Which accounts are in trouble, and which have to be connected again.",
    rows=(NOW, FIGURES, TIME, CONNECTING),
    accounts=True,
)
