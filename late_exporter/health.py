"""Health of workspaces, feeds, accounts and replicas, for the status page and ``/-/ready``."""

from __future__ import annotations

import msgspec

from late_exporter.model import LATE


class Quota(msgspec.Struct, frozen=True):
    """Rate limit of an API key as last reported by the API.

    Args:
        limit: Requests per minute that all users of the key may send together.
        remaining: Requests that are left now.
        reset: Unix time in seconds before which no more requests become free; None if the API does
            not report it.
        customer_requests: Estimated requests per minute by other users of the key.
    """

    limit: int
    remaining: int
    reset: float | None
    customer_requests: int = 0


class SyncProgress(msgspec.Struct, frozen=True, gc=False):
    """How far a first sync or a catch-up has come.

    Args:
        log_count: Logs read so far.
        quota_wait: Seconds until the quota allows the next request; 0 if it does now.
    """

    log_count: int
    quota_wait: float = 0.0


class FeedHealth(msgspec.Struct, frozen=True, kw_only=True):
    """Health of a feed; times are Unix times in seconds, durations are in seconds.

    Args:
        outcome: Outcome of the last poll, as in ``late_exporter_polls_total``; None before the
            first one.
        last_poll: Start of the last poll.
        last_success: Start of the last successful poll.
        lag: Time from creation to recording of the last live log.
        gaps: Number of stretches of the log list still to be read.
        coverage_start: Time since which every log is recorded; None before the first sync is
            complete.
        progress: Progress of a first sync or a catch-up; None if the feed is up to date.
        is_outdated: Whether the list that is read gets no new logs any more, but that of another
            API generation does.
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
    progress: SyncProgress | None = None
    is_outdated: bool = False


class RecentCounts(msgspec.Struct, frozen=True, gc=False):
    """Publish and retry logs of a platform in a final status, created within the last hour.

    Args:
        failed: Number of those with status failed.
        final: Number of all of them.
        is_failing: Whether most of many attempts failed lately.
    """

    failed: int = 0
    final: int = 0
    is_failing: bool = False


class PlatformHealth(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Publishing logs of a platform; times are Unix times in seconds.

    Args:
        failed: Number of publish and retry logs with status failed.
        final: Number of those with status failed or success.
        consecutive_failures: Number of posts that failed since the last one was published, of which
            retries are no posts of their own.
        last_failure: Creation time of the last failed attempt.
        pending: Number of pending logs with any action.
        oldest_pending: Creation time of the oldest of them.
        oldest_post: Id of the post of the oldest; empty if unknown.
        recent: Counts of the last hour.
    """

    name: str
    counted_since: float
    failed: int = 0
    final: int = 0
    consecutive_failures: int = 0
    last_failure: float | None = None
    pending: int = 0
    last_log: float | None = None
    oldest_pending: float | None = None
    oldest_post: str = ""
    recent: RecentCounts = RecentCounts()


class AccountHealth(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An account that needs attention.

    Args:
        username: Its name; empty if unknown.
        consecutive_failures: Number of its last attempts that failed, as far as logs show.
    """

    platform: str
    account_id: str
    username: str = ""
    consecutive_failures: int = 0


class Failure(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A failed attempt to publish at a Unix time in seconds; what is unknown is empty.

    Args:
        key: Key of its log.
        error: Error code, HTTP status code and error message.
    """

    key: str
    time: float
    platform: str
    account_id: str = ""
    username: str = ""
    post_id: str = ""
    error: str = ""


class StatusFeedHealth(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Health of a status feed.

    Args:
        is_up: Whether its last refresh succeeded; None before the first one.
        disabled_reason: Reason for which it is switched off; empty if it is not.
        error: Error of the last refresh.
        last_success: Unix time in seconds of the last refresh that succeeded.
    """

    name: str
    is_up: bool | None = None
    disabled_reason: str = ""
    error: str = ""
    last_success: float | None = None


class Condition(msgspec.Struct, frozen=True, gc=False):
    """Something that a status feed reports about an account, a post, a webhook or the plan.

    Args:
        kind: What it is, as in ``web.findings``.
        name: What people call its subject.
        at: Unix time in seconds at which it has begun or will end, 0 if that does not matter.
        subject: Id of the account or post.
        text: What the API says about it.
    """

    kind: str
    name: str = ""
    at: float = 0.0
    subject: str = ""
    text: str = ""


class WorkspaceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The state of accounts, queue and plan by the status feeds."""

    feeds: tuple[StatusFeedHealth, ...] = ()
    conditions: tuple[Condition, ...] = ()


class WorkspaceHealth(msgspec.Struct, frozen=True, kw_only=True):
    """Health of a workspace; times are those of the API's clock.

    Args:
        quota: Rate limit of its key, if the API reported one.
        quota_wait: Seconds until the quota allows the next request; 0 if it does now.
        platforms: Platforms with publishing logs; empty before the first sync is complete.
        failing_accounts: Accounts that failed again and again, most consecutive failures first.
        unhealed_failures: Last failure of each account that has failed within the last day and
            published nothing since, newest first.
        daily_attempts: Number of publish and retry logs in a final status of the last day, or of an
            average day if that is not known.
        other_attempts: Counts of the platforms on which not most attempts fail; whether they fail
            so often that the error budget is soon used up.
        status: State of accounts, queue and plan.
        recent_since: Start of the time of which all recent logs are known, an hour ago or later;
            None if no publishing logs are read.
        clock_offset: Seconds by which the host's clock is ahead of the API's.
    """

    name: str
    base_url: str
    generation: str = LATE
    feeds: tuple[FeedHealth, ...]
    quota: Quota | None = None
    quota_wait: float = 0.0
    platforms: tuple[PlatformHealth, ...] = ()
    failing_accounts: tuple[AccountHealth, ...] = ()
    unhealed_failures: tuple[Failure, ...] = ()
    daily_attempts: float = 0.0
    other_attempts: RecentCounts = RecentCounts()
    status: WorkspaceStatus = WorkspaceStatus()
    recent_since: float | None = None
    clock_offset: float = 0.0

    def api_time(self, now: float) -> float:
        """Return the API's time at a time of the host, both in Unix seconds."""
        return now - self.clock_offset


class MemberHealth(msgspec.Struct, frozen=True, kw_only=True):
    """A replica, and the workspaces that it owns; ``is_self`` for the one that says so."""

    name: str
    is_self: bool
    workspaces: tuple[str, ...] = ()


class ClusterHealth(msgspec.Struct, frozen=True, kw_only=True):
    """The replicas that share the state, and the workspaces that none of them owns."""

    members: tuple[MemberHealth, ...] = ()
    unowned_workspaces: tuple[str, ...] = ()
