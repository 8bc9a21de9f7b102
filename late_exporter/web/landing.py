"""Status page: the state of every workspace and feed as HTML without scripts, problems first.

The markup is in ``landing.html``; this module prepares its values.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from late_exporter.format import human_duration, plural
from late_exporter.status import MIN_QUOTA_WAIT, ClusterHealth, PollHealth, Quota, WorkspaceHealth
from late_exporter.web.verdicts import (
    MAX_NAME_LENGTH,
    OUTCOME_TEXTS,
    SEVERITY,
    FeedStatus,
    feed_status,
    is_stuck,
    platform_tone,
    problem_text,
    relative_time,
    single_line,
    status_notices,
    time_left,
    utc_text,
    verdicts_of,
    window_name,
    worst_first,
)

if TYPE_CHECKING:
    from jinja2 import Template

REFRESH_SECONDS = 15
MAX_WORKSPACE_NAMES = 50
"""Names of workspaces that are listed for each replica."""

MAX_PLATFORMS = 20
MAX_ACCOUNTS = 5

MIN_INDEXED = 5
"""Number of workspaces from which the page starts with an index of them."""

LOW_QUOTA = 0.1
"""Remaining share of the quota below which its meter turns red."""

MIN_PERCENT = 0.0005
"""Shares below this would be rounded to zero, so they are shown as an upper limit."""

_RESOURCES = Path(__file__).parent

STYLE = _RESOURCES.joinpath("landing.css").read_text("utf-8")


def render_page(
    workspaces: Sequence[WorkspaceHealth],
    *,
    now: float,
    version: str,
    telemetry_path: str,
    documentation: str,
    is_bound: bool = False,
    cluster: ClusterHealth | None = None,
) -> str:
    """Render the page.

    The current time ``now`` is in Unix seconds. The page links to the URL ``documentation``, if there is one, and to
    the configuration unless its reader is bound to workspaces and may not see it. It lists the replicas in ``cluster``.
    """
    paths = (telemetry_path, *(() if is_bound else ("/config",)), "/-/healthy", "/-/ready")
    rows = [(number, workspace, _worst_status(workspace)) for number, workspace in enumerate(workspaces)]
    return load_template().render(
        workspaces=sorted(rows, key=lambda row: SEVERITY[row[2]]),
        verdicts=verdicts_of(workspaces, now),
        totals=_totals(workspaces, now),
        now=now,
        version=version,
        paths=paths,
        documentation=documentation,
        cluster=cluster,
    )


@cache
def load_template() -> Template:
    # Imported here because a server whose page is never requested does not need it.
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    environment.filters |= {
        "duration": human_duration,
        "feed_status": feed_status,
        "host": _host,
        "is_stuck": is_stuck,
        "number": "{:,}".format,
        "percent": _percent,
        "platform_tone": platform_tone,
        "plural": plural,
        "poll_error": _poll_error,
        "problem": problem_text,
        "quota_share": _quota_share,
        "relative_time": relative_time,
        "round_percent": "{:.0%}".format,
        "single_line": single_line,
        "status_notices": status_notices,
        "utc": utc_text,
        "time_left": time_left,
        "window": window_name,
        "width": "{:.1%}".format,
        "worst_first": worst_first,
    }
    environment.globals |= {
        "low_quota": LOW_QUOTA,
        "max_accounts": MAX_ACCOUNTS,
        "max_platforms": MAX_PLATFORMS,
        "max_workspace_names": MAX_WORKSPACE_NAMES,
        "min_quota_wait": MIN_QUOTA_WAIT,
        "min_indexed": MIN_INDEXED,
        "name_length": MAX_NAME_LENGTH,
        "refresh_seconds": REFRESH_SECONDS,
        "style": STYLE,
    }
    return environment.from_string(_RESOURCES.joinpath("landing.html").read_text("utf-8"))


def _worst_status(workspace: WorkspaceHealth) -> FeedStatus:
    return min(map(feed_status, workspace.feeds), key=SEVERITY.__getitem__, default=FeedStatus.WAITING)


def _totals(workspaces: Sequence[WorkspaceHealth], now: float) -> Sequence[str]:
    feeds = [feed for workspace in workspaces for feed in workspace.feeds]
    return (
        plural(len(workspaces), "workspace"),
        plural(len(feeds), "feed"),
        plural(sum(feed.logs for feed in feeds), "log") + " stored",
        f"{sum(feed.pending for feed in feeds):,} pending",
        f"as of {utc_text(now)[11:]}",
    )


def _host(base_url: str) -> str:
    return base_url.partition("://")[2].partition("/")[0].rpartition("@")[2] or base_url


def _quota_share(quota: Quota) -> float:
    return min(max(quota.remaining / max(quota.limit, 1), 0), 1)


def _poll_error(poll: PollHealth) -> str:
    return single_line(poll.error) or OUTCOME_TEXTS.get(poll.outcome, poll.outcome)


def _percent(share: float) -> str:
    return f"<{2 * MIN_PERCENT:.1%}" if share < MIN_PERCENT else f"{share:.1%}"
