"""Simulated world: what happens to the accounts of customers, reproducible by its seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush
from itertools import count
from math import inf
from random import Random
from typing import TypeAlias

import msgspec

from late_exporter.simulator.accounts import PublishFailure, SimulatedAccount
from late_exporter.simulator.incidents import ANY, INCIDENTS, Incident
from late_exporter.simulator.log_list import (
    DAY,
    MINUTE,
    JsonObject,
    LogList,
    StaticLogs,
    timestamp,
)
from late_exporter.simulator.profiles import CustomerProfile, Fate

TOKEN_LIFETIME = 60 * DAY
CONNECT_ERRORS = (
    {"code": "oauth_denied", "message": "OAuth error: access_denied"},
    {
        "code": "token_exchange_failed",
        "message": "The authorization code could not be exchanged: invalid_grant",
    },
    {"code": "account_limit_reached", "message": "The plan's limit of accounts is reached"},
)

Process: TypeAlias = Iterator[float]
"""Process of the world. It yields the Unix time until which it waits."""


class Post(msgspec.Struct):
    """Post to accounts of one customer.

    Args:
        id: Its id.
        profile_id: Profile of the customer.
        kind: ``text``, ``image`` or ``video``.
        created_at: Time of its creation, as the API shows it.
        scheduled_for: Time for which it is scheduled, if it is, as the API shows it.
        statuses: Its status on each account.
        failures: Why it failed, by account.
        fates: What fails of it, by account, whatever the incidents.
        links: Address of its publication, by account.
        reference: Field ``postId`` of its logs.
        request: Field ``request`` of its logs.
    """

    id: str
    profile_id: str
    kind: str
    created_at: str
    scheduled_for: str | None
    statuses: dict[SimulatedAccount, str]
    reference: JsonObject
    request: JsonObject
    failures: dict[SimulatedAccount, PublishFailure] = msgspec.field(default_factory=dict)
    fates: dict[SimulatedAccount, Fate] = msgspec.field(default_factory=dict)
    links: dict[SimulatedAccount, str] = msgspec.field(default_factory=dict)

    def set_status(self, account: SimulatedAccount, status: str) -> None:
        """Change the status of the post on one account, from which that of the post follows."""
        self.statuses[account] = status
        results = set(self.statuses.values())
        if not results.isdisjoint({"pending", "processing"}):
            self.reference["status"] = "publishing"
        elif len(results) == 1:
            self.reference["status"] = status
        else:
            self.reference["status"] = "partial"


class SimulatedWorld(StaticLogs):
    """Simulated customers of Zernio, with their posts and accounts, and the logs of these.

    The logs at a time depend on the seed and the started incidents, not on the number of calls of
    ``advance``: random numbers are drawn only by processes, in the order of time.

    Args:
        seed: Seed of the random generator.
        now: Unix time at which the world begins.
        accounts: Accounts of all customers.
        profile: Profile of the customers; None for the lively mix of the demo.

    Attributes:
        posts: Posts by id, in the order of their creation.
        token_expiries: Unix times at which the tokens of accounts expire, by account id.
        incidents: Active incidents, in the order of their start.
        webhook_fired_at: Unix time of the last successful delivery of the webhook.
    """

    def __init__(
        self,
        seed: int,
        now: float,
        accounts: Sequence[SimulatedAccount],
        profile: CustomerProfile | None = None,
    ) -> None:
        super().__init__(webhooks=LogList(), api_request=LogList())
        self.profile = profile
        self.now = now
        self.random = Random(seed)  # noqa: S311 - simulation, not cryptography
        self.accounts = tuple(accounts)
        self.posts: dict[str, Post] = {}
        self.token_expiries = dict.fromkeys(
            (account.id for account in self.accounts), now + TOKEN_LIFETIME
        )
        self.incidents: tuple[Incident, ...] = ()
        self.webhook_fired_at: float | None = None
        self._numbers = count(1)
        self._waiting: list[tuple[float, int, Process]] = []

    def start(self, process: Process) -> None:
        """Run a process until it waits for the first time."""
        time = next(process, None)
        if time is not None:
            heappush(self._waiting, (max(time, self.now), next(self._numbers), process))

    def repeat(self, interval: float, action: Callable[[], object]) -> None:
        """Do something again and again, on average after an interval."""

        def process() -> Process:
            while True:
                yield self.now + self.random.expovariate(1 / interval)
                action()

        self.start(process())

    def advance(self, now: float) -> None:
        """Advance to a Unix time. An earlier time changes nothing."""
        while self._waiting and self._waiting[0][0] <= now:
            self.now, _, process = heappop(self._waiting)
            self.start(process)
        self.now = max(self.now, now)

    def object_id(self) -> str:
        """Return a new id that begins with its creation time, like an ObjectId of MongoDB."""
        return f"{int(self.now):08x}{next(self._numbers):016x}"

    def renew_token(self, account: SimulatedAccount) -> None:
        self.token_expiries[account.id] = self.now + TOKEN_LIFETIME

    def incidents_of(self, account: SimulatedAccount) -> Iterator[Incident]:
        """Yield the incidents that affect an account, the newest first."""
        return (incident for incident in reversed(self.incidents) if account in incident.accounts)

    def is_stopped(self, activity: str, *accounts: SimulatedAccount) -> bool:
        """Return whether an incident stops an activity of one of some accounts."""
        for incident in self.incidents:
            is_affected = not set(accounts).isdisjoint(incident.accounts)
            if is_affected and activity in incident.kind.stops:
                return True
        return False

    def is_connected(self, account: SimulatedAccount) -> bool:
        return not self.is_stopped("connection", account)

    def shown_fields(self, document: str, account: SimulatedAccount | None = None) -> JsonObject:
        """Return the fields of a document that incidents change, of an account or the workspace."""
        fields: JsonObject = {}
        for incident in self.incidents:
            if account is None or account in incident.accounts:
                fields |= incident.show(document, self.now)
        return fields

    def start_incident(
        self,
        name: str,
        *,
        platform: str | None = None,
        duration: float = 30 * MINUTE,
        start_time: float = 0.0,
    ) -> None:
        """Start an incident now or at a Unix time, on its default platform or on another one.

        Customers without an account on the platform have it on that of their first account. An
        incident of the next post waits for that post, whatever its duration.
        """
        kind = INCIDENTS[name]
        since = max(self.now, start_time)
        until = since + duration if kind.fate is None else inf
        platform = platform or kind.platform
        if platform not in {ANY, *(account.platform.name for account in self.accounts)}:
            platform = self.accounts[0].platform.name
        accounts = tuple(each for each in self.accounts if platform in {ANY, each.platform.name})
        if kind.scope == "account":
            accounts = tuple(filter(self.is_connected, accounts))[:1]
        self.start(self._run_incident(Incident(kind, since, until, accounts)))

    def _run_incident(self, incident: Incident) -> Process:
        if incident.since > self.now:
            yield incident.since
        is_disconnected = "connection" in incident.kind.stops
        if is_disconnected:
            self.log_connection(incident.accounts[0], "disconnect")
        self.incidents += (incident,)
        yield incident.until
        self._end_incident(incident)
        if is_disconnected:
            self.log_connection(incident.accounts[0], "reconnect_failed")  # as the first try may
            self.log_connection(incident.accounts[0], "reconnect_success")

    def _end_incident(self, incident: Incident) -> None:
        self.incidents = tuple(other for other in self.incidents if other is not incident)

    def draw_fates(self, post: Post) -> None:
        """Draw what will fail of a post, by the profile and by the incidents that hit one post."""
        if self.profile is not None:
            for account in post.statuses:
                fate = self.profile.draw_fate(self.random)
                if fate is not None:
                    post.fates[account] = fate
        for incident in self.incidents:
            affected = [account for account in post.statuses if account in incident.accounts]
            if incident.kind.fate is not None and affected:
                post.fates[affected[0]] = incident.kind.fate
                self._end_incident(incident)
                # A further incident waits for the post after this one.
                return

    def log_connection(self, account: SimulatedAccount, event: str) -> None:
        result: JsonObject = {}
        if event.endswith("_failed"):
            result = {"accountId": None, "error": self.random.choice(CONNECT_ERRORS)}
        if event.endswith("_success"):
            self.renew_token(account)
            result["success"] = {
                "displayName": account.username.removeprefix("@"),
                "username": account.username,
                "permissions": ["read", "publish"],
                "tokenExpiresAt": timestamp(self.token_expiries[account.id]),
                "accountType": "business",
            }
        row = {
            "_id": self.object_id(),
            **account.owner,
            "eventType": event,
            "connectionMethod": account.method,
            "context": {
                "isHeadlessMode": False,
                "hasCustomRedirectUrl": False,
                "isReconnection": event.startswith("reconnect"),
                "isBYOK": False,
            },
            "durationMs": int(self.random.lognormvariate(7.5, 0.6)),
            "createdAt": timestamp(self.now),
            **result,
        }
        self.connections.insert(row)
