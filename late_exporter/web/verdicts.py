"""Status of feeds and platforms in words: shared by the status page and the command ``status``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum

from late_exporter import thresholds
from late_exporter.format import human_duration, iso_time
from late_exporter.health import FeedHealth, PlatformHealth, SyncProgress, WorkspaceHealth
from late_exporter.thresholds import HOUR, MINUTE

MAX_ERROR_LENGTH = 300
MAX_NAME_LENGTH = 40

MIN_QUOTA_WAIT = 1.0
"""Seconds from which a wait for the quota is shown."""


class PollingState(Enum):
    """Status of a feed, worst first.

    Attributes:
        tone: Selects its colour and icon.
        label: Its name.
        predicate: What the summary says about feeds.
    """

    FAILING = ("bad", "Failing", "failing")
    SYNCING = ("busy", "First sync", "in the first sync")
    CATCHING_UP = ("busy", "Catching up", "catching up")
    WAITING = ("idle", "Waiting for first poll", "waiting for the first poll")
    OK = ("ok", "OK", "polled and up to date")

    def __init__(self, tone: str, label: str, predicate: str) -> None:
        self.tone = tone
        self.label = label
        self.predicate = predicate


def polling_state(feed: FeedHealth) -> PollingState:
    if feed.outcome not in {None, "success"}:
        return PollingState.FAILING
    if not feed.is_synced and (
        feed.outcome or feed.logs or (feed.progress and feed.progress.log_count)
    ):
        return PollingState.SYNCING
    if feed.outcome is None:
        return PollingState.WAITING
    return PollingState.CATCHING_UP if feed.gaps else PollingState.OK


TONE_NAMES = {
    "bad": "failing",
    "warn": "warning",
    "busy": "busy",
    "idle": "idle",
    "ok": "OK",
}
"""Names of the tones, worst first."""

TONES = tuple(TONE_NAMES)


def is_outdated(workspace: WorkspaceHealth) -> bool:
    """Return whether all feeds of a workspace fail, so that its figures are old."""
    states = [polling_state(feed) for feed in workspace.feeds]
    return bool(states) and all(state is PollingState.FAILING for state in states)


def outdated_since(workspace: WorkspaceHealth) -> float | None:
    """Return the last success of a workspace whose feeds all fail; None if there is none."""
    if not is_outdated(workspace):
        return None
    return max(feed.last_success or 0.0 for feed in workspace.feeds) or None


def platform_tone(platform: PlatformHealth, now: float) -> str:
    """Return ``bad`` if most attempts fail, ``warn`` if all of a few do, or else ``ok``."""
    recent = platform.recent
    if recent.is_failing or is_without_success(platform, now):
        return "bad"
    return "warn" if recent.failed and recent.failed == recent.final else "ok"


def is_without_success(platform: PlatformHealth, now: float) -> bool:
    """Return whether so many posts have failed lately, and none was published since."""
    is_streak = platform.consecutive_failures >= thresholds.CONSECUTIVE_FAILED_POSTS
    return is_streak and (platform.last_failure or 0.0) > now - thresholds.DAY


def is_stuck(platform: PlatformHealth, now: float) -> bool:
    oldest = platform.oldest_pending
    return oldest is not None and now - oldest > thresholds.POST_STUCK_SECONDS


def single_line(text: str, length: int = MAX_ERROR_LENGTH) -> str:
    """Return a text from outside as one line of at most ``length`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def short_name(name: str) -> str:
    return single_line(name, MAX_NAME_LENGTH)


def worst_first(platforms: Iterable[PlatformHealth]) -> Sequence[PlatformHealth]:
    """Return platforms by their failures, of the last hour first."""

    def rank(platform: PlatformHealth) -> tuple[object, ...]:
        recent = platform.recent
        return (not recent.is_failing, -recent.failed, -platform.failed, platform.name)

    return sorted(platforms, key=rank)


def progress_text(progress: SyncProgress) -> str:
    """Return how far a first sync or a catch-up has come, as one line."""
    text = f"{progress.log_count:,} logs read"
    if progress.quota_wait >= MIN_QUOTA_WAIT:
        text += f", waiting {human_duration(progress.quota_wait)} for the quota"
    return text


def waits_for_quota(feed: FeedHealth, quota_wait: float, now: float) -> bool:
    """Return whether the workspace's quota delays a poll that is due."""
    return quota_wait >= MIN_QUOTA_WAIT and (feed.next_poll is None or feed.next_poll <= now)


def window_name(since: float, now: float) -> str:
    """Return what a recent time is called."""
    seconds = now - since
    if seconds > HOUR - MINUTE:
        return "Last hour"
    return f"Last {human_duration(max(seconds, MINUTE), rough=True)}"


def relative_time(time: float, now: float, coarse: bool = False) -> str:  # noqa: FBT001, FBT002 - a filter's argument
    seconds = time - now
    if abs(seconds) < 1:
        return "now"
    duration = human_duration(abs(seconds) // 1, rough=coarse)
    return f"in {duration}" if seconds > 0 else f"{duration} ago"


def clock_difference(offset: float) -> str:
    """Return by how many minutes a clock is wrong, which is the same for all workspaces."""
    duration = human_duration(MINUTE * round(abs(offset) / MINUTE))
    return f"{duration} {'ahead of' if offset > 0 else 'behind'}"


def utc_text(time: float) -> str:
    return iso_time(time * 1000).replace("T", " ").replace("Z", " UTC") or "unknown"
