"""Status page: the state of every workspace and feed as HTML without scripts, problems first.

The markup is in ``landing.html``; this module prepares its values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from late_exporter.format import human_duration, iso_time, plural
from late_exporter.status import (
    AccountStatus,
    ClusterHealth,
    FeedHealth,
    PlatformHealth,
    PollHealth,
    Quota,
    SyncProgress,
    WorkspaceHealth,
    WorkspaceStatus,
)

if TYPE_CHECKING:
    from jinja2 import Template

REFRESH_SECONDS = 15
MIN_QUOTA_WAIT = 1.0  # seconds from which a wait for the quota is shown
MAX_ERROR_LENGTH = 300
MAX_NAME_LENGTH = 40
MAX_WORKSPACE_NAMES = 50
"""Names of workspaces that are listed for each replica."""

MAX_PLATFORMS = 20
MAX_ACCOUNTS = 5

MIN_INDEXED = 5
"""Number of workspaces from which on the page starts with an index of them."""

LOW_QUOTA = 0.1
"""Remaining share of the quota below which its meter turns red."""

MINUTE, HOUR = 60, 3600

STUCK_SECONDS = HOUR
"""Seconds after which a pending post is stuck; as in LatePostStuck."""

MIN_FAILURES = 3
FAILED_SHARE = 0.144
"""Failures, and share of an hour's attempts above which a platform is in trouble; as in LateErrorBudgetBurningFast."""

FAILURES_IN_A_ROW = 5
"""Failed attempts of an account in a row; as in LateAccountFailing."""

MIN_PERCENT = 0.0005
"""Shares below this would be rounded to zero, so they are shown as an upper limit."""

_RESOURCES = Path(__file__).parent

STYLE = _RESOURCES.joinpath("landing.css").read_text("utf-8")

OUTCOME_TEXTS = {
    "unauthorized": "The API rejected the key.",
    "rate_limited": "The API rate limit was reached.",
    "unavailable": "The API did not return a usable response.",
    "bad_payload": "The API response was not a list of logs.",
    "store_error": "The state could not be read or written.",
}


class FeedStatus(Enum):
    """Status of a feed, worst first: the tone that selects its colour and icon, and its label."""

    FAILING = ("bad", "Failing")
    SYNCING = ("busy", "First sync")
    CATCHING_UP = ("busy", "Catching up")
    WAITING = ("idle", "Waiting for first poll")
    OK = ("ok", "OK")

    def __init__(self, tone: str, label: str) -> None:
        self.tone = tone
        self.label = label


SEVERITY = {status: rank for rank, status in enumerate(FeedStatus)}

PREDICATES = {
    FeedStatus.FAILING: ("has a problem", "have a problem"),
    FeedStatus.CATCHING_UP: ("is catching up", "are catching up"),
    FeedStatus.WAITING: ("is waiting for the first poll", "are waiting for the first poll"),
    FeedStatus.OK: ("is polled and up to date", "are polled and up to date"),
}
"""Predicates of the summary, for one feed and for several."""


def feed_status(feed: FeedHealth) -> FeedStatus:
    if feed.outcome not in {None, "success"}:
        return FeedStatus.FAILING
    if not feed.is_synced and (feed.outcome or feed.logs or (feed.progress and feed.progress.log_count)):
        return FeedStatus.SYNCING
    if feed.outcome is None:
        return FeedStatus.WAITING
    return FeedStatus.CATCHING_UP if feed.gaps else FeedStatus.OK


def problem_text(feed: FeedHealth) -> str:
    """Return the error of the last poll as one line, empty if it succeeded."""
    if feed.error or feed.outcome in {None, "success"}:
        return single_line(feed.error)
    return OUTCOME_TEXTS.get(str(feed.outcome), f"The last poll ended with outcome {feed.outcome}.")


def summarize(statuses: Sequence[FeedStatus]) -> tuple[str, str]:
    """Return the tone and the one sentence that summarize the feeds."""
    if not statuses:
        return FeedStatus.WAITING.tone, "No feed is configured"
    worst = min(statuses, key=SEVERITY.__getitem__)
    affected, total = statuses.count(worst), len(statuses)
    if worst is FeedStatus.SYNCING:
        scope = f" in {affected:,} of {total:,} feeds" if affected < total else ""
        return worst.tone, f"First sync in progress{scope}"
    subject = f"{affected:,} of {total:,} feeds"
    if affected == total:
        subject = {1: "The feed", 2: "Both feeds"}.get(total, f"All {total:,} feeds")
    return worst.tone, f"{subject} {PREDICATES[worst][affected > 1]}"


class Verdict(NamedTuple):
    """One sentence about the polling, the publishing or the whole, and the tone that selects its colour."""

    tone: str
    text: str


TONES = ("bad", "warn", "busy", "idle", "ok")
"""Tones, worst first."""


def verdicts_of(workspaces: Sequence[WorkspaceHealth], now: float) -> Sequence[Verdict]:
    """Return the verdicts about polling and publishing, the worse one first."""
    feeds = [feed for workspace in workspaces for feed in workspace.feeds]
    polling = Verdict(*summarize([feed_status(feed) for feed in feeds]))
    outcomes = {feed.outcome for feed in feeds if feed_status(feed) is FeedStatus.FAILING}
    reason = OUTCOME_TEXTS.get(str(outcomes.pop())) if len(outcomes) == 1 else None
    if reason is not None:
        polling = polling._replace(text=f"{polling.text}: {reason[0].lower()}{reason[1:].rstrip('.')}")
    publishing = publishing_verdict(workspaces, now)
    return sorted((each for each in (polling, publishing) if each), key=lambda each: TONES.index(each.tone))


def publishing_verdict(workspaces: Sequence[WorkspaceHealth], now: float) -> Verdict | None:
    """Return the worst that is known about publishing in the last hour; None if nothing was published in it."""
    findings = sorted(
        (
            finding if len(workspaces) == 1 else Verdict(finding.tone, f"{workspace.name}, {finding.text}")
            for workspace in workspaces
            for finding in _publishing_findings(workspace, now)
        ),
        key=lambda finding: TONES.index(finding.tone),
    )
    if findings:
        more = len(findings) - 1
        return Verdict(findings[0].tone, findings[0].text + (f", and {plural(more, 'more problem')}" if more else ""))
    final = sum(platform.recent.final for workspace in workspaces for platform in workspace.platforms)
    failed = sum(platform.recent.failed for workspace in workspaces for platform in workspace.platforms)
    if not final:
        return None
    failures = f"{failed:,} of {final:,}" if failed else f"none of {final:,}"
    return Verdict("ok", f"Publishing works: {failures} attempts failed")


def _publishing_findings(workspace: WorkspaceHealth, now: float) -> Iterator[Verdict]:
    """Yield what is wrong with the publishing of a workspace."""
    for platform in worst_first(workspace.platforms):
        tone, name = platform_tone(platform), single_line(platform.name, MAX_NAME_LENGTH)
        if tone != "ok":
            recent = platform.recent
            window = window_name(workspace.recent_since or 0.0, now).lower()
            yield Verdict(tone, f"{name}: {recent.failed:,} of {recent.final:,} attempts failed in the {window}")
        if _is_stuck(platform, now) and platform.oldest_pending is not None:
            age = human_duration(now - platform.oldest_pending, rough=True)
            yield Verdict("warn", f"{name}: a post has been pending for {age}")
    for notice in status_notices(workspace.status, now):
        yield Verdict("warn", notice.text.rstrip(":"))
    failing = [account for account in workspace.failing_accounts if account.consecutive_failures >= FAILURES_IN_A_ROW]
    if failing:
        yield Verdict("warn", f"{plural(len(failing), 'account')} failed {FAILURES_IN_A_ROW} times or more in a row")


def platform_tone(platform: PlatformHealth) -> str:
    """Return ``bad`` if most attempts fail, ``warn`` if many do, or else ``ok``."""
    recent = platform.recent
    if recent.is_failing:
        return "bad"
    return "warn" if recent.failed >= MIN_FAILURES and recent.failed > FAILED_SHARE * recent.final else "ok"


def _is_stuck(platform: PlatformHealth, now: float) -> bool:
    return platform.oldest_pending is not None and now - platform.oldest_pending > STUCK_SECONDS


class StatusNotice(NamedTuple):
    """A problem that a status feed reports: a sentence, and the names that it is about."""

    text: str
    names: Sequence[str] = ()


def status_notices(status: WorkspaceStatus, now: float) -> Sequence[StatusNotice]:
    """Return what the status feeds of a workspace report that needs attention; ``now`` is in Unix seconds."""
    notices: list[StatusNotice] = []
    if not status.is_active:
        notices.append(StatusNotice("The plan is suspended or gives no access"))
    if status.oldest_overdue_post is not None:
        age = human_duration(max(now - status.oldest_overdue_post, 1), rough=True)
        notices.append(StatusNotice(f"A post that was scheduled for {age} ago has not been published"))
    groups = {
        ("account must", "accounts must", "be connected again"): [
            _account_name(account) for account in status.disconnected_accounts
        ],
        ("account is", "accounts are", "rate limited by the platform"): [
            f"{_account_name(account)} for {human_duration(account.cooldown_until - now, rough=True)}"
            for account in status.cooldowns
            if account.cooldown_until is not None and account.cooldown_until > now
        ],
        ("webhook is", "webhooks are", "switched off"): list(status.inactive_webhooks),
    }
    for (one, several, predicate), names in groups.items():
        if names:
            subject = f"{len(names):,} {one if len(names) == 1 else several}"
            notices.append(StatusNotice(f"{subject} {predicate}:", names))
    return notices


def _account_name(account: AccountStatus) -> str:
    name = single_line(account.username or account.account_id, MAX_NAME_LENGTH)
    return f"{name} ({single_line(account.platform, MAX_NAME_LENGTH)})"


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


def single_line(text: str, length: int = MAX_ERROR_LENGTH) -> str:
    """Return a text from outside as one line of at most ``length`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


@cache
def load_template() -> Template:
    # Imported here because a server whose page is never requested does not need it.
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    environment.filters |= {
        "duration": human_duration,
        "feed_status": feed_status,
        "host": _host,
        "is_stuck": _is_stuck,
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


def worst_first(platforms: Iterable[PlatformHealth]) -> Sequence[PlatformHealth]:
    def rank(platform: PlatformHealth) -> tuple[object, ...]:
        recent = platform.recent
        recent_share = recent.failed / max(recent.final, 1)
        return (not recent.is_failing, -recent_share, -_failed_share(platform), -platform.failed, platform.name)

    return sorted(platforms, key=rank)


def time_left(seconds: float) -> str:
    """Return an estimate of a time, which is no more exact than it looks."""
    return f"about {human_duration(max(seconds, 1), rough=True)} left"


def progress_text(progress: SyncProgress) -> str:
    """Return how far a first sync or a catch-up has come, as one line."""
    expected = f" of about {progress.expected_count:,}" if progress.expected_count else ""
    parts = [f"{progress.log_count:,}{expected} logs read"]
    if progress.quota_wait >= MIN_QUOTA_WAIT:
        parts.append(f"waiting {human_duration(progress.quota_wait)} for the quota")
    if progress.seconds_left is not None:
        parts.append(time_left(progress.seconds_left))
    return ", ".join(parts)


def window_name(since: float, now: float) -> str:
    """Return what a recent time is called."""
    seconds = now - since
    is_whole = seconds > HOUR - MINUTE
    return "Last hour" if is_whole else f"Last {human_duration(max(seconds, MINUTE), rough=True)}"


def _failed_share(platform: PlatformHealth) -> float:
    return platform.failed / max(platform.final, 1)


def _percent(share: float) -> str:
    return f"<{2 * MIN_PERCENT:.1%}" if share < MIN_PERCENT else f"{share:.1%}"


def relative_time(time: float, now: float, coarse: bool = False) -> str:  # noqa: FBT001, FBT002 - a filter's argument
    seconds = time - now
    if abs(seconds) < 1:
        return "now"
    duration = human_duration(abs(seconds) // 1, rough=coarse)
    return f"in {duration}" if seconds > 0 else f"{duration} ago"


def utc_text(time: float) -> str:
    return iso_time(time * 1000).replace("T", " ").replace("Z", " UTC") or "unknown"
