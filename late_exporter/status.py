"""How the exporter and what it watches are doing, for people."""

from __future__ import annotations

import msgspec

__all__ = ["AccountHealth", "FeedHealth", "PlatformHealth", "PollHealth", "Quota", "WorkspaceHealth"]


class Quota(msgspec.Struct, frozen=True):
    """What the API last said of the key's rate limit; ``reset`` is a Unix time in seconds."""

    limit: int
    remaining: int
    reset: float


class PollHealth(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A poll that has ended.

    Args:
        started_at: When it began, a Unix time in seconds.
        outcome: As in ``late_exporter_polls_total``.
        error: What went wrong in words, empty where nothing did.
        requests: How often it asked the API.
        logs: Logs it counted, each in one status.
        duration: How long it took, in seconds.
    """

    started_at: float
    outcome: str
    error: str = ""
    requests: int = 0
    logs: int = 0
    duration: float = 0.0


class FeedHealth(msgspec.Struct, frozen=True, kw_only=True):
    """How a feed is doing, for people; times are Unix seconds, durations seconds.

    Args:
        outcome: Of the last poll, as in ``late_exporter_polls_total``; None before the first one ended.
        error: What went wrong with the last poll in words, empty where nothing did.
        next_poll: When the next poll is due.
        lag: From ``createdAt`` to counted, of the newest log that was counted live.
        logs: How many logs the state holds.
        pending: How many of them are pending now.
        gaps: Stretches of the log list still to be read.
        coverage_start: Since when every log is counted; None before the first sync is complete.
        recent_polls: The last polls, the newest first.
        recent_failures: The last polls that failed, the newest first; they may have been long ago.
    """

    name: str
    is_synced: bool = False
    outcome: str | None = None
    error: str = ""
    last_poll: float | None = None
    last_success: float | None = None
    next_poll: float | None = None
    duration: float | None = None
    lag: float | None = None
    logs: int = 0
    pending: int = 0
    gaps: int = 0
    coverage_start: float | None = None
    recent_polls: tuple[PollHealth, ...] = ()
    recent_failures: tuple[PollHealth, ...] = ()


class PlatformHealth(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the publishing logs say of a platform; times are Unix seconds.

    Args:
        counted_since: When counting began.
        published: Publish and retry logs with status success.
        failed: Publish and retry logs with status failed.
        final: Publish and retry logs in any status but pending.
        pending: Logs that are pending now, whatever their action.
        last_log: When the newest log was created; None where no log says.
    """

    name: str
    counted_since: float
    published: int = 0
    failed: int = 0
    final: int = 0
    pending: int = 0
    last_log: float | None = None


class AccountHealth(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An account whose newest attempts failed; ``username`` is empty where no log says."""

    platform: str
    account_id: str
    username: str
    consecutive_failures: int


class WorkspaceHealth(msgspec.Struct, frozen=True, kw_only=True):
    """How a workspace is doing.

    Args:
        base_url: Its base URL.
        generation: Of the API, as far as is known.
        platforms: Those with publishing logs; none before the first sync is complete.
        failing_accounts: Accounts whose last attempt failed, most failures in a row first.
    """

    name: str
    base_url: str
    generation: str = "late"
    feeds: tuple[FeedHealth, ...]
    quota: Quota | None = None
    platforms: tuple[PlatformHealth, ...] = ()
    failing_accounts: tuple[AccountHealth, ...] = ()
