from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any
from unittest.mock import Mock

import pytest

from late_exporter.errors import ApiUnavailable, Forbidden, LateError, RateLimited
from late_exporter.ingest.schedule import Runtime
from late_exporter.ingest.shared_resources import SharedResources
from late_exporter.ingest.status_poller import StatusConfig, StatusPace, StatusPoller
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.metrics.label_limiter import LabelLimiter
from late_exporter.metrics.registry import SeriesRegistry
from late_exporter.model import Increment, LatestValue, Scope, Series, SeriesValue
from late_exporter.store.thread import StoreThread
from tests.support.client import QueryParams
from tests.support.clock import HOUR, MINUTE, SleepingClock
from tests.support.exposition import FakeExposition
from tests.support.loggers import RecordingLogger
from tests.support.status_api import (
    ACCOUNT,
    HEALTH,
    SECONDS,
    Document,
    StatusApi,
    post_list,
)

UP = "late_exporter_status_feed_up"
LAST_REFRESH = "late_exporter_status_feed_last_refresh_timestamp_seconds"
DISABLED = "late_exporter_status_feed_disabled"
INFO = "late_account_info"
CONNECTED = "late_account_connected"
DEFAULTS = {"posts": 300.0, "accounts": 300.0, "webhooks": 600.0, "billing": 600.0}


class StatusHarness:
    """Status pollers of one key over a fake API, each of its own workspace, in an event loop.

    Attributes:
        saved: Increments that were handed over for saving.
    """

    def __init__(
        self,
        *workspaces: str,
        api: StatusApi | None = None,
        intervals: Mapping[str, float] = DEFAULTS,
        max_accounts: int = 500,
        random: float = 0.0,
        profile_id: str | None = None,
    ) -> None:
        names = workspaces or ("acme",)
        self.clock = SleepingClock(SECONDS)
        self.api = api or StatusApi()
        self.logger = RecordingLogger()
        self.exposition = FakeExposition()
        self.registry = SeriesRegistry(CATALOGUE, self.exposition)
        self.saved: list[Increment] = []
        self.config = StatusConfig(intervals=dict(intervals), max_accounts=max_accounts, key_users=len(names))
        self.api.profile_id = profile_id
        self.pace = StatusPace()
        self.times: list[float] = []
        self.api.before_request = lambda: self.times.append(self.clock.elapsed)
        for name in names:
            self.registry.add_workspace(name)
        shared = SharedResources(
            store_thread=Mock(StoreThread),
            label_limiter=LabelLimiter(CATALOGUE, max_accounts=max_accounts),
            registry=self.registry,
            runtime=Runtime(
                clock=self.clock.time,
                monotonic=self.clock.monotonic,
                sleep=self.clock.sleep,
                random=lambda: random,
            ),
        )
        self.pollers = {
            name: StatusPoller(
                name,
                shared,
                self.saved.extend,
                client=self.api,
                config=self.config,
                pace=self.pace,
                logger=self.logger,
            )
            for name in names
        }
        self.poller = self.pollers[names[0]]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the loops of all pollers."""
        tasks = [asyncio.ensure_future(poller.run()) for poller in self.pollers.values()]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task

    async def run_until(self, moment: float) -> None:
        """Run the loops until a monotonic time."""
        async with self.running():
            await self.clock.reach(moment)

    def families(self, workspace: str = "acme") -> set[str]:
        """Return the names of the families with series, but those about the feeds."""
        return {
            family
            for family, labels in self.exposition.values
            if labels[0] == workspace and not family.startswith("late_exporter")
        }

    def value(self, family: str, *labels: str, workspace: str = "acme") -> object:
        return self.exposition.values.get((family, (workspace, *labels)))

    def ups(self, workspace: str = "acme") -> dict[str, object]:
        """Return the exposed health of the feeds."""
        values = self.exposition.values.items()
        return {labels[1]: value for (family, labels), value in values if (family, labels[0]) == (UP, workspace)}

    def disabled(self) -> set[tuple[str, ...]]:
        """Return the feeds that are switched off, with the reason."""
        return {labels[1:] for family, labels in self.exposition.values if family == DISABLED}

    def logs(self, event: str) -> list[dict[str, Any]]:
        """Return the fields of the log messages of an event, above debug."""
        return [fields for level, name, fields in self.logger.records if name == event and level != "debug"]


EARLIER, LATER = "2026-11-25T11:00:00Z", "2026-11-25T18:00:00Z"


@pytest.fixture
def harness() -> StatusHarness:
    return StatusHarness()


@pytest.mark.parametrize(("accounts", "random"), [(1, 1.0), (1001, 0.0)])
async def test_requests_at_default_intervals(random: float, accounts: int) -> None:
    """An hour takes at most 150 requests, whatever the number of accounts, and every feed is read in time."""
    harness = StatusHarness(random=random, max_accounts=2000)
    harness.api.documents["/v1/accounts"] = account_pages(accounts)
    await harness.run_until(HOUR - 1)
    assert 110 <= len(harness.times) <= 150
    posts = harness.api.paths["/v1/posts"]
    assert 8 * HOUR / 330 - 8 <= posts <= 8 * HOUR / 300
    # The interval grows with the number of requests.
    assert (8 if accounts > 1000 else 11) <= harness.api.paths["/v1/accounts/health"] <= 12
    assert 5 <= harness.api.paths["/v1/billing"] == harness.api.paths["/v1/usage"] <= 6
    assert harness.value("late_posts", "draft") is not None


@pytest.mark.parametrize("failure", [ApiUnavailable("500: oops", status=500), RateLimited("429", until=0.0)])
async def test_failing_feeds_take_no_more_requests(failure: LateError) -> None:
    """An API that fails every request is not asked more often than a healthy one."""
    harness = StatusHarness()
    harness.api.documents = dict.fromkeys(harness.api.documents, failure)
    await harness.run_until(HOUR)
    assert 40 <= len(harness.times) <= 70
    assert len(harness.logs("status feed failed")) == 4


async def test_a_feed_waits_until_the_end_of_its_own_429(harness: StatusHarness) -> None:
    """A 429 that stops only one feed is no reason to ask it sooner; the others go on."""
    harness.api.documents["/v1/usage"] = RateLimited("429", until=0.9 * HOUR)
    await harness.run_until(0.9 * HOUR - 1)
    assert harness.api.paths["/v1/usage"] == 1
    assert harness.api.paths["/v1/posts"] > 50
    await harness.run_until(HOUR)
    assert harness.api.paths["/v1/usage"] > 1


@pytest.mark.exhaustive
@pytest.mark.parametrize(("rate_limit", "per_minute"), [(10, 1), (60, 3)])
async def test_no_minute_takes_more_than_a_twentieth_of_the_limit(rate_limit: int, per_minute: int) -> None:
    """Whatever the intervals and the number of workspaces, a minute has few requests, and no series goes stale."""
    intervals = dict.fromkeys(DEFAULTS, 30.0)
    harness = StatusHarness("a", "b", api=StatusApi(rate_limit=rate_limit), intervals=intervals)
    await harness.run_until(HOUR)
    times = harness.times
    assert all(times[index] - times[index - per_minute] >= MINUTE for index in range(per_minute, len(times)))
    assert dict.fromkeys(DEFAULTS, 1) == harness.ups("a")
    # Deterministic intervals leave no feed behind.
    assert {"late_posts", INFO, "late_workspace_active"} <= harness.families("a") & harness.families("b")


def account_pages(count: int) -> Callable[[QueryParams], Document]:
    """Return the pages of a list of accounts in cooldown."""

    def respond(params: QueryParams) -> Document:
        first, limit = int(params.get("cursor", 0)), int(params["limit"])
        rows = [{**ACCOUNT, "_id": f"acc{number}"} for number in range(count)][first : first + limit]
        cursor = str(first + limit) if first + limit < count else None
        return {"accounts": rows, "pagination": {"limit": limit, "nextCursor": cursor}}

    return respond


FORBIDDEN = Forbidden("403: the API key lacks a right: grant the key the group accounts")


async def test_a_forbidden_feed_is_switched_off(harness: StatusHarness) -> None:
    """A 403 switches off one feed with one log message that says why, until it is allowed again."""
    harness.api.documents["/v1/accounts/health"] = FORBIDDEN
    async with harness.running():
        await harness.clock.reach(HOUR - 1)
        assert harness.api.paths["/v1/accounts/health"] == 12
        assert harness.disabled() == {("accounts", "forbidden")}
        assert harness.ups() == {**dict.fromkeys(DEFAULTS, 1), "accounts": 0}
        assert "late_account_health" not in harness.families()
        assert "late_posts" in harness.families()
        (message,) = harness.logs("status feed switched off")
        assert message["status_feed"] == "accounts"
        assert "grant the key the group accounts" in message["error"]
        assert [feed.name for feed in harness.poller.health.feeds if feed.disabled_reason] == ["accounts"]

        harness.api.documents["/v1/accounts/health"] = {"accounts": [HEALTH]}
        await harness.clock.reach(HOUR + 1)
        assert harness.disabled() == set()
        assert harness.ups()["accounts"] == 1
        assert "late_account_health" in harness.families()
        assert harness.logs("status feed recovered") == [{"status_feed": "accounts"}]


async def test_failed_posts_vanish_when_they_are_published(harness: StatusHarness) -> None:
    """The gauges of an account exist as long as it has failed posts, and the key may read posts."""
    targets = [{"platform": "x", "accountId": "a1", "status": "failed"}]

    def one_failed(params: QueryParams) -> Document:
        total = int(params["status"] == "failed")
        return post_list(str(params["status"]), total, scheduledFor=EARLIER, platforms=targets)

    gauges = {"late_account_failed_posts", "late_account_last_failed_post_timestamp_seconds"}
    harness.api.documents["/v1/posts"] = one_failed
    async with harness.running():
        await harness.clock.reach(1)
        assert harness.value("late_account_failed_posts", "x", "a1") == 1
        assert harness.value("late_account_last_failed_post_timestamp_seconds", "x", "a1") == SECONDS - HOUR

        harness.api.documents["/v1/posts"] = lambda params: post_list(str(params["status"]), 0)
        await harness.clock.reach(6 * MINUTE)
        assert harness.families().isdisjoint(gauges)

        harness.api.documents["/v1/posts"] = one_failed
        await harness.clock.reach(12 * MINUTE)
        assert gauges <= harness.families()

        harness.api.documents["/v1/posts"] = FORBIDDEN
        await harness.clock.reach(18 * MINUTE)
        assert harness.families().isdisjoint(gauges)


async def test_stale_series_are_removed(harness: StatusHarness) -> None:
    """A feed that fails keeps its series, and the time of its last refresh, for three intervals, and no longer."""
    harness.api.documents["/v1/posts"] = lambda params: post_list(str(params["status"]), scheduledFor=EARLIER)
    async with harness.running():
        await harness.clock.reach(1)
        harness.api.documents["/v1/posts"] = ApiUnavailable("500: oops", status=500)
        await harness.clock.reach(14 * MINUTE)
        (posts,) = (feed for feed in harness.poller.health.feeds if feed.name == "posts")
        assert posts.last_success == pytest.approx(SECONDS, abs=2.0)
        assert harness.ups()["posts"] == 0
        assert harness.value("late_posts", "scheduled") == 1
        assert "scheduled" in {each.kind for each in harness.poller.health.conditions}
        assert pytest.approx(harness.value(LAST_REFRESH, "posts"), abs=2.0) == SECONDS
        await harness.clock.reach(21 * MINUTE)
        assert "late_posts" not in harness.families()
        assert "scheduled" not in {each.kind for each in harness.poller.health.conditions}
        assert "late_account_health" in harness.families()
        assert harness.ups()["posts"] == 0
        harness.api.documents["/v1/posts"] = lambda params: post_list(str(params["status"]), 9)
        await harness.clock.reach(26 * MINUTE)
        assert harness.value("late_posts", "scheduled") == 9
        assert harness.ups()["posts"] == 1


async def test_a_failed_request_changes_nothing_of_its_feed(harness: StatusHarness) -> None:
    """Gauges are replaced as a whole: a refresh that fails at its last request shows none of its values."""
    async with harness.running():
        await harness.clock.reach(1)
        error = ApiUnavailable("500: oops", status=500)
        harness.api.documents["/v1/posts"] = lambda params: (
            error if params["status"] == "draft" else post_list(str(params["status"]), 99)
        )
        await harness.clock.reach(5 * MINUTE + 1)
        assert {value for (family, _), value in harness.exposition.values.items() if family == "late_posts"} == {1}


async def test_what_disappears_loses_its_series(harness: StatusHarness) -> None:
    """An account or webhook that is no longer listed, and a status that has changed, leave no series behind."""
    async with harness.running():
        await harness.clock.reach(1)
        harness.api.documents["/v1/accounts/health"] = {"accounts": [{**HEALTH, "accountId": "b", "status": "error"}]}
        harness.api.documents["/v1/webhooks/settings"] = {"webhooks": []}
        await harness.clock.reach(11 * MINUTE)
        accounts = {
            labels[1:]
            for family, labels in harness.exposition.values
            if family in ("late_account_health", "late_account_can_post")
        }
        assert accounts == {("instagram", "b", "error"), ("instagram", "b")}
        assert not any(family.startswith("late_webhook") for family in harness.families())


async def test_without_accounts_their_feeds_are_not_read() -> None:
    harness = StatusHarness(max_accounts=0)
    await harness.run_until(2 * HOUR)
    assert set(harness.api.paths) == {"/v1/posts", "/v1/webhooks/settings", "/v1/billing", "/v1/usage"}
    assert set(harness.ups()) == {"posts", "webhooks", "billing"}


async def test_a_profile_limits_posts_and_accounts() -> None:
    """A workspace of one profile reads only its posts and accounts; other endpoints get no unknown parameter."""
    harness = StatusHarness(profile_id="p1")
    await harness.run_until(1)
    profiles = {request.path: request.params.get("profileId") for request in harness.api.requests}
    assert profiles == {
        "/v1/posts": "p1",
        "/v1/accounts/health": "p1",
        "/v1/accounts": "p1",
        "/v1/webhooks/settings": None,
        "/v1/billing": None,
        "/v1/usage": None,
    }


async def test_values_of_logs_are_covered_and_come_back(harness: StatusHarness) -> None:
    """The account feed wins over logs for the accounts it lists; when it is stale, the values of logs come back."""
    log_values: dict[Series, SeriesValue] = {
        (INFO, ("acme", "instagram", account)): SeriesValue(LatestValue(1, (f"old-{account}", "p1")), 0.0)
        for account in ("acc1", "gone")
    }
    log_values[CONNECTED, ("acme", "instagram", "acc1")] = SeriesValue(LatestValue(1, 0), 0.0)
    harness.registry.restore(log_values)
    for feed in ("publishing", "connections"):
        harness.registry.apply(Scope("acme", feed), {}, now=0.0, is_synced=True)

    def names() -> set[str]:
        return {labels[-2] for family, labels in harness.exposition.values if family == INFO}

    assert names() == {"old-acc1", "old-gone"}
    async with harness.running():
        await harness.clock.reach(1)
        assert names() == {"acme", "old-gone"}
        assert harness.value(CONNECTED, "instagram", "acc1") == 1
        harness.registry.restore(
            {(INFO, ("acme", "instagram", "acc1")): SeriesValue(LatestValue(2, ("new", "p1")), 0.0)}
        )
        assert names() == {"acme", "old-gone"}
        harness.api.documents["/v1/accounts/health"] = ApiUnavailable("500: oops", status=500)
        await harness.clock.reach(21 * MINUTE)
        assert names() == {"new", "old-gone"}
        assert harness.value(CONNECTED, "instagram", "acc1") == 0


async def test_the_conditions_of_all_workspaces_are_bounded() -> None:
    """However many workspaces are in trouble, little is kept, and some of each."""
    names = [f"w{number}" for number in range(8)]
    harness = StatusHarness(*names)
    row = {**HEALTH, "canPost": False}
    rows = [{**row, "accountId": f"a{number}{'x' * 99}"} for number in range(500)]
    harness.api.documents["/v1/accounts/health"] = {"accounts": rows}
    for _ in range(2):
        for poller in harness.pollers.values():
            await poller.refresh()
    conditions = [poller.health.conditions for poller in harness.pollers.values()]
    counts = [len([each for each in of if each.kind == "blocked"]) for of in conditions]
    assert 1900 < sum(counts) < 2100
    assert min(counts) >= 10
    assert max(len(each.subject) for of in conditions for each in of) == 64


async def test_overflow_is_counted() -> None:
    """Accounts beyond the limit are dropped, and counted, as for logs."""
    harness = StatusHarness(max_accounts=1)
    harness.api.documents["/v1/accounts/health"] = {"accounts": [HEALTH, {**HEALTH, "accountId": "acc2"}]}
    await harness.poller.refresh()
    assert ("acme", "late_account_health", "account_id") in {increment.labels for increment in harness.saved}
    assert "acc2" not in str(harness.exposition.values)


async def test_one_refresh_of_an_api_that_does_not_respond(harness: StatusHarness) -> None:
    """Without any response, one timeout is enough."""
    harness.api.documents = dict.fromkeys(harness.api.documents, ApiUnavailable("no response within 30 s"))
    await harness.poller.refresh()
    assert len(harness.api.requests) == 1
