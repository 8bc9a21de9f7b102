"""Refresh the status feeds of one workspace, and show their gauges."""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from types import MappingProxyType

import msgspec

from late_exporter.api.client import LateClient
from late_exporter.errors import ApiError, EndpointNotFound, Forbidden, RateLimited
from late_exporter.feeds.status_feeds import STATUS_FEEDS
from late_exporter.feeds.status_feeds.refresh import (
    AccountList,
    RefreshContext,
    Report,
    StatusFeed,
    StatusRequest,
)
from late_exporter.health import Condition, StatusFeedHealth, WorkspaceStatus
from late_exporter.ingest.schedule import MAX_BACKOFF
from late_exporter.ingest.shared_resources import SharedResources
from late_exporter.ingest.steps import perform
from late_exporter.log import Logger, redact
from late_exporter.metrics.label_limiter import LabelLimiter
from late_exporter.metrics.platforms import username
from late_exporter.metrics.registry import SeriesRegistry
from late_exporter.model import Increment, LatestValue, Series, SeriesValue, SetLatest

REQUESTS_PER_MINUTE = 2.5
"""Requests of the status feeds that share a key, unless shorter intervals are configured."""

KEY_SHARE = 0.05
"""Share of the key's rate limit that status feeds may use, evenly spread."""

MINUTE = 60.0

STALE_INTERVALS = 3
"""Intervals without a success after which the series of a feed are removed."""

MAX_RETRY_SECONDS = 300.0
"""Seconds after which a feed that failed, or is switched off, is tried again at the latest."""

JITTER = 0.1

MAX_CONDITIONS = 2000
"""Conditions of all feeds and workspaces that are kept for the status page."""

MIN_CONDITIONS = 10
"""Conditions of a feed that are kept, however many others there are."""

ACCOUNTS = "accounts"

UP = "late_exporter_status_feed_up"
LAST_REFRESH = "late_exporter_status_feed_last_refresh_timestamp_seconds"
DISABLED = "late_exporter_status_feed_disabled"
DISABLING_REASONS = ("forbidden", "not_found")


class StatusConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Configuration of the status feeds of a workspace.

    Args:
        intervals: Seconds between two refreshes of each feed; other feeds are not read.
        max_accounts: Maximum number of accounts with gauges; 0 leaves out their feed.
        key_users: Number of workspaces with the same key, which share its requests.
    """

    intervals: Mapping[str, float] = MappingProxyType({})
    max_accounts: int = 500
    key_users: int = 1

    @property
    def feeds(self) -> dict[str, StatusFeed]:
        return {
            name: feed
            for name, feed in STATUS_FEEDS.items()
            if name in self.intervals and (self.max_accounts or name != "accounts")
        }

    @property
    def requests_per_minute(self) -> float:
        """Requests per minute of this workspace at the configured intervals."""
        return sum(
            feed.max_requests * MINUTE / self.intervals[name] for name, feed in self.feeds.items()
        )


@dataclass
class StatusPace:
    """Monotonic time in seconds of the next status request of a key."""

    next_request_at: float = -math.inf


@dataclass(eq=False)
class StatusPublisher:
    """Write the gauges of the status feeds of one workspace to the registry.

    Args:
        defer: Leaves increments to the next commit.
        condition_counts: Number of conditions of every workspace, by its publisher.
        values: The values of each feed.
        conditions: What each feed reports besides.
        accounts: The accounts of the workspace, if they are known.
    """

    workspace: str
    label_limiter: LabelLimiter
    registry: SeriesRegistry
    condition_counts: MutableMapping[object, int]
    defer: Callable[[Sequence[Increment]], object]
    values: dict[str, dict[Series, LatestValue]] = field(default_factory=dict)
    conditions: dict[str, Sequence[Condition]] = field(default_factory=dict)
    accounts: AccountList = field(default_factory=AccountList)

    def show(self, feed: str, reports: Sequence[Report], now: float) -> None:
        """Replace the series of a feed after a refresh that ended at a Unix time in seconds."""
        gauges = [each for each in reports if isinstance(each, SetLatest)]
        values: dict[Series, LatestValue] = {}
        overflow: list[Increment] = []
        for each in self.label_limiter.apply(gauges):
            if isinstance(each, SetLatest):
                values[each.family, each.labels] = LatestValue(each.at, each.value)
            else:
                overflow.append(each)
        self.defer(overflow)
        self._replace(feed, values, [each for each in reports if isinstance(each, Condition)])
        for account_list in reports:
            if isinstance(account_list, AccountList):
                self.accounts = account_list
        self.registry.set_gauge(LAST_REFRESH, (self.workspace, feed), now)
        self.set_state(feed, is_up=True)

    def clear(self, feed: str, disabled_reason: str = "") -> None:
        """Remove the series of a feed that fails for long, or that is switched off for a reason."""
        self._replace(feed, {})
        if feed == ACCOUNTS:
            self.accounts = AccountList()
        self.set_state(feed, is_up=False, disabled_reason=disabled_reason)

    def remove(self, feed: str) -> None:
        """Remove everything about a feed that is no longer configured."""
        self.clear(feed)
        for family in (UP, LAST_REFRESH):
            self.registry.remove_gauge(family, (self.workspace, feed))

    def set_state(self, feed: str, *, is_up: bool, disabled_reason: str = "") -> None:
        """Show the result of a refresh; series of a failed feed stay until they are stale."""
        self.registry.set_gauge(UP, (self.workspace, feed), int(is_up))
        for reason in DISABLING_REASONS:
            if reason == disabled_reason:
                self.registry.set_gauge(DISABLED, (self.workspace, feed, reason), 1)
            else:
                self.registry.remove_gauge(DISABLED, (self.workspace, feed, reason))

    def logged_username(self, platform: str, account_id: str) -> str:
        """Return the name of an account as logs have it; empty if unknown."""
        return username(self.registry, (self.workspace, platform, account_id))

    @property
    def latest_values(self) -> Mapping[Series, LatestValue]:
        return ChainMap(*self.values.values())

    def _replace(
        self, feed: str, values: dict[Series, LatestValue], conditions: Sequence[Condition] = ()
    ) -> None:
        previous = self.conditions.get(feed, ())
        others = sum(self.condition_counts.values()) - len(previous)
        self.conditions[feed] = conditions[: max(MIN_CONDITIONS, MAX_CONDITIONS - others)]
        self.condition_counts[self] = sum(map(len, self.conditions.values()))
        self.values[feed] = values
        series_values = {series: SeriesValue(value, 0.0) for series, value in values.items()}
        self.registry.replace_status(self.workspace, feed, series_values)


class _StatusFeedState(msgspec.Struct, kw_only=True):
    """State of a feed; times are monotonic, in seconds.

    Args:
        request_count: Requests of the last refresh.
        expires_at: Time from which a failure removes its series.
        failure: Reason and arguments of the last error, None after a success.
    """

    feed: StatusFeed
    due_at: float
    health: StatusFeedHealth
    request_count: int = 0
    expires_at: float = math.inf
    failure: tuple[object, ...] | None = None


class StatusPoller:
    """Refresh the status feeds of one workspace until cancelled, one request at a time.

    Args:
        defer: Leaves increments to the next commit of the workspace.
        pace: Pace of the status requests of the key.
    """

    def __init__(
        self,
        workspace: str,
        shared: SharedResources,
        defer: Callable[[Sequence[Increment]], object],
        *,
        client: LateClient,
        config: StatusConfig,
        pace: StatusPace,
        logger: Logger,
    ) -> None:
        self._workspace = workspace
        self._publisher = StatusPublisher(
            workspace, shared.label_limiter, shared.registry, shared.condition_counts, defer
        )
        self._runtime = shared.runtime
        self._logger = logger
        self._states: dict[str, _StatusFeedState] = {}
        self.reconfigure(client, config, pace)

    @property
    def health(self) -> WorkspaceStatus:
        return WorkspaceStatus(
            feeds=tuple(state.health for state in self._states.values()),
            conditions=tuple(chain.from_iterable(self._publisher.conditions.values())),
        )

    def reconfigure(self, client: LateClient, config: StatusConfig, pace: StatusPace) -> None:
        """Use another client and other intervals; must not be called while ``run`` is running."""
        self._client = client
        self.config = config
        self._pace = pace
        for name in self._states.keys() - config.feeds.keys():
            self._publisher.remove(name)

        now = self._runtime.monotonic()
        states: dict[str, _StatusFeedState] = {}
        for name, feed in config.feeds.items():
            health = StatusFeedHealth(name=name)
            state = self._states.get(name, _StatusFeedState(feed=feed, due_at=now, health=health))
            state.due_at = now  # Another key may have other accounts, and other rights.
            states[name] = state
        self._states = states

    async def run(self) -> None:
        """Refresh every feed whenever it is due, until cancelled; return if there is none."""
        while self._states:
            state = min(self._states.values(), key=lambda state: state.due_at)
            await self._runtime.sleep(max(0.0, state.due_at - self._runtime.monotonic()))
            await self._refresh(state, is_paced=True)

    async def refresh(self) -> None:
        """Refresh every feed once, unless the API does not respond at all."""
        for state in self._states.values():
            error = await self._refresh(state, is_paced=False)
            if error is not None and error.status is None:
                break

    async def _refresh(self, state: _StatusFeedState, *, is_paced: bool) -> ApiError | None:
        """Refresh a feed, at the pace of its key or at once; return the error if that failed."""
        monotonic = self._runtime.monotonic
        started_at = monotonic()
        state.request_count = 0

        async def send(request: StatusRequest) -> bytes:
            # Another workspace may take the turn during the wait.
            while is_paced and self._pace.next_request_at > monotonic():
                await self._runtime.sleep(self._pace.next_request_at - monotonic())
            pause = MINUTE / (self._client.rate_limit * KEY_SHARE)
            self._pace.next_request_at = monotonic() + pause
            state.request_count += 1
            return await fetch_status(self._client, state.feed, request)

        context = RefreshContext(
            workspace=self._workspace,
            now=int(self._runtime.clock() * 1000),
            max_accounts=self.config.max_accounts,
            has_profile=self._client.profile_id is not None,
            previous=self._publisher.latest_values,
            accounts=self._publisher.accounts,
            logged_username=self._publisher.logged_username,
        )
        jitter = 1 + JITTER * self._runtime.random()
        try:
            reports = await perform(state.feed.refresh(context), send)
        except ApiError as exc:
            state.due_at = monotonic() + self._fail(state, exc) * jitter
            return exc.without_frames()
        self._publisher.show(state.feed.name, reports, self._runtime.clock())

        interval = self._interval(state)
        state.due_at = started_at + interval * jitter
        state.expires_at = monotonic() + STALE_INTERVALS * interval
        if state.failure is not None:
            self._logger.info("status feed recovered", status_feed=state.feed.name)
        state.failure = None
        state.health = StatusFeedHealth(
            name=state.feed.name, is_up=True, last_success=self._runtime.clock()
        )
        return None

    def _fail(self, state: _StatusFeedState, error: ApiError) -> float:
        """Report a failed refresh; return the seconds until the next one."""
        name = state.feed.name
        reason = disabling_reason(error)
        now = self._runtime.monotonic()
        if reason or now >= state.expires_at:
            self._publisher.clear(name, reason)
        else:
            self._publisher.set_state(name, is_up=False)

        failure = (reason, *error.args)
        if failure != state.failure:
            event = "status feed switched off" if reason else "status feed failed"
            self._logger.warning(event, status_feed=name, error=str(error))
        state.failure = failure
        state.health = StatusFeedHealth(
            name=name,
            is_up=False,
            disabled_reason=reason,
            error=redact(str(error)),
            last_success=state.health.last_success,
        )
        delay = min(max(self._interval(state), MAX_BACKOFF), MAX_RETRY_SECONDS)
        if isinstance(error, RateLimited):
            delay = max(delay, error.until - now)
        return delay

    def _interval(self, state: _StatusFeedState) -> float:
        """Return the interval of a feed, longer than configured if its requests are too many."""
        config = self.config
        demand = config.requests_per_minute
        allowed = min(max(demand, REQUESTS_PER_MINUTE), self._client.rate_limit * KEY_SHARE)
        stretch = max(1.0, demand * config.key_users / allowed)
        return (
            config.intervals[state.feed.name]
            * stretch
            * max(1.0, state.request_count / state.feed.max_requests)
        )


async def fetch_status(client: LateClient, feed: StatusFeed, request: StatusRequest) -> bytes:
    """Send a request of a status feed; return the body of the response, or raise ApiError."""
    params = dict(request.params)
    if client.profile_id is not None and feed.has_profiles:
        params["profileId"] = client.profile_id
    response = await client.get(request.path, params, path_template=request.path)
    return response.body


def disabling_reason(error: ApiError) -> str:
    """Return the reason to switch off a feed after an error; empty if it is temporary."""
    if isinstance(error, Forbidden):
        return "forbidden"
    return "not_found" if isinstance(error, EndpointNotFound) else ""
