"""Status of feeds and platforms in words: shared by the status page and the command ``status``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import NamedTuple

import msgspec

from late_exporter.format import human_duration, iso_time
from late_exporter.status import FeedHealth, PlatformHealth, PollHealth, SyncProgress, WorkspaceHealth
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

    FAILING = ("bad", "Failing")
    SYNCING = ("busy", "First sync")
    CATCHING_UP = ("busy", "Catching up", "is catching up", "are catching up")
    WAITING = ("idle", "Waiting for first poll", "is waiting for the first poll", "are waiting for the first poll")
    OK = ("ok", "OK", "is polled and up to date", "are polled and up to date")

    def __init__(self, tone: str, label: str, *predicates: str) -> None:
        self.tone, self.label, self.predicates = tone, label, predicates


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
    return f"the last poll ended with outcome {single_line(feed.outcome, MAX_NAME_LENGTH)}"


def summarize(statuses: Sequence[FeedStatus]) -> tuple[str, str]:
    """Return the tone and the one sentence that summarize feeds of which none fails."""
    if not statuses:
        return FeedStatus.WAITING.tone, "No feed is configured"
    worst = min(statuses, key=list(FeedStatus).index)
    affected, total = statuses.count(worst), len(statuses)
    if worst is FeedStatus.SYNCING:
        scope = f" in {affected:,} of {total:,} feeds" if affected < total else ""
        return worst.tone, f"First sync in progress{scope}"
    subject = f"{affected:,} of {total:,} feeds"
    if affected == total:
        subject = {1: "The feed", 2: "Both feeds"}.get(total, f"All {total:,} feeds")
    return worst.tone, f"{subject} {worst.predicates[affected > 1]}"


class Verdict(NamedTuple):
    """One sentence about the polling, the publishing or the whole.

    Attributes:
        tone: Selects its colour.
        others: Numbers of further problems by kind.
    """

    tone: str
    text: str
    others: str = ""


TONES = ("bad", "warn", "busy", "idle", "ok")
"""Tones, worst first."""


def platform_tone(platform: PlatformHealth) -> str:
    """Return ``bad`` if most attempts fail, ``warn`` if many do, or else ``ok``."""
    recent = platform.recent
    if recent.is_failing:
        return "bad"
    return "warn" if recent.failed >= MIN_FAILURES and recent.failed > FAILED_SHARE * recent.final else "ok"


def is_stuck(platform: PlatformHealth, now: float) -> bool:
    return platform.oldest_pending is not None and now - platform.oldest_pending > STUCK_SECONDS


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


def waits_for_quota(feed: FeedHealth, quota_wait: float, now: float) -> bool:
    """Return whether the quota delays a poll that is due; ``quota_wait`` is that of the workspace."""
    return quota_wait >= MIN_QUOTA_WAIT and (feed.next_poll is None or feed.next_poll <= now)


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
