"""Verdicts about workspaces, and their wording: shared by the status page and the command ``status``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from typing import NamedTuple

import msgspec

from late_exporter.format import human_duration, iso_time, plural
from late_exporter.status import Condition, FeedHealth, PlatformHealth, PollHealth, SyncProgress, WorkspaceHealth
from late_exporter.store.cluster import ClusterHealth

MAX_ERROR_LENGTH = 300
MAX_NAME_LENGTH = 40

MINUTE, HOUR = 60, 3600

MIN_QUOTA_WAIT = 1.0
"""Seconds from which a wait for the quota is shown."""

STUCK_SECONDS = HOUR
"""Seconds after which a pending post is stuck; as in LatePostStuck."""

MIN_FAILURES = 3
FAILED_SHARE = 0.144
"""Failures, and share of an hour's attempts above which a platform is in trouble; as in LateErrorBudgetBurningFast."""

FAILURES_IN_A_ROW = 5
"""Failed attempts of an account in a row; as in LateAccountFailing."""

OUTCOME_TEXTS = {
    "unauthorized": "The API rejected the key.",
    "rate_limited": "The API rate limit was reached.",
    "unavailable": "The API did not return a usable response.",
    "bad_payload": "The API response was not a list of logs.",
    "store_error": "The state could not be read or written.",
}


class StatusDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What the status page shows, as JSON, for ``late-exporter status``; ``now`` is the Unix time in seconds."""

    version: str
    now: float
    workspaces: tuple[WorkspaceHealth, ...]
    cluster: ClusterHealth | None = None


class FeedStatus(Enum):
    """Status of a feed, worst first.

    Attributes:
        tone: Selects its colour and icon.
        label: Its name.
        predicates: What the summary says about one feed, and about several.
    """

    FAILING = ("bad", "Failing", "has a problem", "have a problem")
    SYNCING = ("busy", "First sync")
    CATCHING_UP = ("busy", "Catching up", "is catching up", "are catching up")
    WAITING = ("idle", "Waiting for first poll", "is waiting for the first poll", "are waiting for the first poll")
    OK = ("ok", "OK", "is polled and up to date", "are polled and up to date")

    def __init__(self, tone: str, label: str, *predicates: str) -> None:
        self.tone, self.label, self.predicates = tone, label, predicates


SEVERITY = {status: rank for rank, status in enumerate(FeedStatus)}


def feed_status(feed: FeedHealth) -> FeedStatus:
    if feed.outcome not in {None, "success"}:
        return FeedStatus.FAILING
    if not feed.is_synced and (feed.outcome or feed.logs or (feed.progress and feed.progress.log_count)):
        return FeedStatus.SYNCING
    if feed.outcome is None:
        return FeedStatus.WAITING
    return FeedStatus.CATCHING_UP if feed.gaps else FeedStatus.OK


def problem_text(feed: FeedHealth | PollHealth) -> str:
    """Return the error of a poll, or of the last one of a feed, as one line; empty if it succeeded."""
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
    return worst.tone, f"{subject} {worst.predicates[affected > 1]}"


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
    findings = [
        finding if len(workspaces) == 1 else Verdict(finding.tone, f"{workspace.name}, {finding.text}")
        for workspace in workspaces
        for finding in _publishing_findings(workspace, now)
    ]
    if findings:
        tone, text = min(findings, key=lambda finding: TONES.index(finding.tone))
        more = len(findings) - 1
        return Verdict(tone, text + (f", and {plural(more, 'more problem')}" if more else ""))
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
        if is_stuck(platform, now) and platform.oldest_pending is not None:
            age = human_duration(now - platform.oldest_pending, rough=True)
            yield Verdict("warn", f"{name}: a post has been pending for {age}")
    for notice in status_notices(workspace.status.conditions, now):
        if notice.tone != "ok":
            yield Verdict(notice.tone, notice.text.rstrip(":"))
    failing = [account for account in workspace.failing_accounts if account.consecutive_failures >= FAILURES_IN_A_ROW]
    if failing:
        yield Verdict("warn", f"{plural(len(failing), 'account')} failed {FAILURES_IN_A_ROW} times or more in a row")


def platform_tone(platform: PlatformHealth) -> str:
    """Return ``bad`` if most attempts fail, ``warn`` if many do, or else ``ok``."""
    recent = platform.recent
    if recent.is_failing:
        return "bad"
    return "warn" if recent.failed >= MIN_FAILURES and recent.failed > FAILED_SHARE * recent.final else "ok"


def is_stuck(platform: PlatformHealth, now: float) -> bool:
    return platform.oldest_pending is not None and now - platform.oldest_pending > STUCK_SECONDS


class NoticeKind(NamedTuple):
    """Wording of a kind of conditions that status feeds report.

    Attributes:
        one: Sentence about one of them; ``{when}`` is its time.
        several: Sentence about several.
        suffix: What follows the name of each.
        tone: That of the verdict, as severe as the alert; ``ok`` if it is only of interest.
    """

    one: str
    several: str = ""
    suffix: str = ""
    tone: str = "warn"


COOLDOWN = "in cooldown after failed posts; what was scheduled until its end has failed, schedule it again:"
NOTICE_KINDS = {
    "inactive": NoticeKind("The plan is suspended or gives no access", tone="bad"),
    "balance": NoticeKind("Pay-per-use has stopped:"),
    "limit": NoticeKind("Little or nothing is left of the plan:", "Little or nothing is left of the plan:"),
    "scheduled": NoticeKind("A post that was due {when} is still scheduled:"),
    "publishing": NoticeKind("A post that was due {when} is still publishing:"),
    "pending_approval": NoticeKind("A post that was due {when} is still pending approval:"),
    "reconnect": NoticeKind("1 account must be connected again:", "{count} accounts must be connected again:"),
    "blocked": NoticeKind("1 account cannot post:", "{count} accounts cannot post:"),
    "cooldown": NoticeKind(f"1 account is {COOLDOWN}", f"{{count}} accounts are {COOLDOWN}", ", which ends {when}"),
    "webhook": NoticeKind("1 webhook is switched off:", "{count} webhooks are switched off:"),
    "token": NoticeKind("1 token expires soon:", "{count} tokens expire soon:", ", {when}", tone="ok"),
    "plan": NoticeKind("The plan:", "The plan:", tone="ok"),
}
"""Kinds of conditions, worst first."""


class StatusNotice(NamedTuple):
    """What a status feed reports: a sentence, and the names that it is about."""

    text: str
    names: Sequence[str]
    tone: str


def status_notices(conditions: Sequence[Condition], now: float) -> Iterator[StatusNotice]:
    """Yield what the status feeds of a workspace report, worst first; ``now`` is in Unix seconds."""

    def complete(text: str, condition: Condition) -> str:
        return text.format(count=f"{len(matches):,}", when=relative_time(condition.at, now, coarse=True))

    for kind, wording in NOTICE_KINDS.items():
        matches = [each for each in conditions if each.kind == kind and (kind != "cooldown" or each.at > now)]
        matches.sort(key=lambda each: each.at)
        names = [single_line(f"{it.name}: {it.text}".rstrip(": ")) + complete(wording.suffix, it) for it in matches]
        if matches:
            text = complete(wording.several if len(matches) > 1 else wording.one, matches[0])
            yield StatusNotice(text, [name for name in names if name], wording.tone)


def single_line(text: str, length: int = MAX_ERROR_LENGTH) -> str:
    """Return a text from outside as one line of at most ``length`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def worst_first(platforms: Iterable[PlatformHealth]) -> Sequence[PlatformHealth]:
    def rank(platform: PlatformHealth) -> tuple[object, ...]:
        recent = platform.recent
        recent_share, share = recent.failed / max(recent.final, 1), platform.failed / max(platform.final, 1)
        return not recent.is_failing, -recent_share, -share, -platform.failed, platform.name

    return sorted(platforms, key=rank)


def time_left(seconds: float) -> str:
    """Return an estimate of a time, which is no more exact than it looks."""
    return f"about {human_duration(max(seconds, 1), rough=True)} left"


def progress_text(progress: SyncProgress) -> str:
    """Return how far a first sync or a catch-up has come, as one line."""
    expected = f" of about {progress.expected_count:,}" if progress.expected_count else ""
    text = f"{progress.log_count:,}{expected} logs read"
    if progress.quota_wait >= MIN_QUOTA_WAIT:
        text += f", waiting {human_duration(progress.quota_wait)} for the quota"
    return text if progress.seconds_left is None else f"{text}, {time_left(progress.seconds_left)}"


def window_name(since: float, now: float) -> str:
    """Return what a recent time is called."""
    seconds = now - since
    is_whole = seconds > HOUR - MINUTE
    return "Last hour" if is_whole else f"Last {human_duration(max(seconds, MINUTE), rough=True)}"


def relative_time(time: float, now: float, coarse: bool = False) -> str:  # noqa: FBT001, FBT002 - a filter's argument
    seconds = time - now
    if abs(seconds) < 1:
        return "now"
    duration = human_duration(abs(seconds) // 1, rough=coarse)
    return f"in {duration}" if seconds > 0 else f"{duration} ago"


def utc_text(time: float) -> str:
    return iso_time(time * 1000).replace("T", " ").replace("Z", " UTC") or "unknown"
