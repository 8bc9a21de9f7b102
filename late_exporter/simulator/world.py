"""Simulated world: what happens to the accounts of customers, reproducible by its seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from heapq import heappop, heappush
from itertools import count
from random import Random

import msgspec

from late_exporter.simulator.accounts import ACCOUNTS, SimulatedAccount
from late_exporter.simulator.incidents import (
    ANY,
    FAILED_DELIVERY,
    INCIDENTS,
    Incident,
    Outcome,
)
from late_exporter.simulator.log_list import (
    DAY,
    HOUR,
    MINUTE,
    JsonObject,
    LogList,
    LogRow,
    StaticLogs,
    timestamp,
)
from late_exporter.simulator.publishing import Post, Process, start_publishing

CONNECT_INTERVAL = HOUR
TOKEN_LIFETIME = 60 * DAY
CONNECT_FAILURE_RATE = 0.4
INVITATION_RATE = 0.2
WHOLE_SECOND_RATE = 0.3
CONNECT_ERRORS = (
    {"code": "oauth_denied", "message": "OAuth error: access_denied"},
    {
        "code": "token_exchange_failed",
        "message": "The authorization code could not be exchanged: invalid_grant",
    },
    {"code": "account_limit_reached", "message": "The plan's limit of accounts is reached"},
)


ACTIVITY_INTERVALS = {
    "messaging": 5 * MINUTE,
    "workflow_event": HOUR / 2,
    "api_request": 2 * MINUTE,
}
"""Mean intervals of what customers do beside publishing, by the type of its logs."""

OUTCOMES: dict[str, dict[Outcome, float]] = {
    "webhooks": {("webhook.delivered", 200, None): 0.98, FAILED_DELIVERY: 0.02},
    "messaging": {("message.received", 200, None): 0.5, ("message.sent", 200, None): 0.5},
    "workflow_event": {
        ("workflow.completed", 200, None): 0.98,
        ("workflow.failed", 504, "A step has timed out"): 0.02,
    },
    "api_request": {
        ("GET /v1/posts", 200, None): 0.98,
        ("GET /v1/posts/1", 404, "Not Found"): 0.02,
    },
}
"""Outcomes that logs of each type have, with their probabilities."""

CUSTOMER = "newsroom-cms/4.2"
"""User agent of the customer's own software."""


class SimulatedWorld(StaticLogs):
    """Simulated customers of Zernio, with their posts and accounts, and the logs of these.

    The logs at a time depend on the seed and the started incidents, not on the number of calls of
    ``advance``: random numbers are drawn only by processes, in the order of time. A history of more
    than two days has an outage two days and a revoked token one day before its end.

    Args:
        seed: Seed of the random generators.
        start: Unix time of the end of the generated history.
        logs_per_day: Approximate number of publishing logs per day.
        history: Length of the generated history, in seconds.
        accounts: Accounts of all customers.

    Attributes:
        posts: Posts by id, in the order of their creation.
        token_expiries: Unix times at which the tokens of accounts expire, by account id.
        incidents: Active incidents, in the order of their start.
        webhook_fired_at: Unix time of the last successful delivery of the webhook.
    """

    def __init__(
        self,
        seed: int,
        start: float,
        *,
        logs_per_day: float = 5000,
        history: float = 7 * DAY,
        accounts: Sequence[SimulatedAccount] = ACCOUNTS,
    ) -> None:
        super().__init__(**{log_type: LogList() for log_type in OUTCOMES})
        self.now = start - history
        self.random = Random(seed)  # noqa: S311 - simulation, not cryptography
        # Publishing does not depend on activity, nor on holds.
        self.activity_random = Random(f"activity {seed}")  # noqa: S311 - as above
        self.hold_random = Random(f"hold {seed}")  # noqa: S311 - as above
        self.accounts = tuple(accounts)
        self.posts: dict[str, Post] = {}
        self.token_expiries = dict.fromkeys(
            (account.id for account in self.accounts), self.now + TOKEN_LIFETIME
        )
        self.incidents: tuple[Incident, ...] = ()
        self.webhook_fired_at: float | None = None
        self._machine_id = self.random.getrandbits(40)
        self._numbers = count(1)
        self._waiting: list[tuple[float, int, Process]] = []
        self.repeat(self.random, CONNECT_INTERVAL, self._connect_account)
        for account in self.accounts:
            self.repeat(self.random, TOKEN_LIFETIME, partial(self._revoke_token, account))
        start_publishing(self, logs_per_day)
        for log_type, interval in ACTIVITY_INTERVALS.items():
            self.repeat(self.activity_random, interval, partial(self._log_activity, log_type))
        if history > 2 * DAY:
            self.start_incident("platform-outage", duration=3 * HOUR, start_time=start - 2 * DAY)
            self.start_incident("revoked-token", duration=5 * HOUR, start_time=start - DAY)
        self.advance(start)

    def start(self, process: Process) -> None:
        """Run a process until it waits for the first time."""
        time = next(process, None)
        if time is not None:
            heappush(self._waiting, (max(time, self.now), next(self._numbers), process))

    def repeat(self, random: Random, interval: float, action: Callable[[], object]) -> None:
        """Do something again and again, on average after an interval."""

        def process() -> Process:
            next_at = self.now + random.expovariate(1 / interval)
            while True:
                yield next_at
                next_at = self.now + random.expovariate(1 / interval)
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
        return f"{int(self.now):08x}{self._machine_id:010x}{next(self._numbers) % 0x1000000:06x}"

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
        for incident in sorted(self.incidents, key=lambda incident: incident.until):
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
        """Start an incident now or at a Unix time, on its default platform or on another one."""
        kind = INCIDENTS[name]
        since = max(self.now, start_time)
        platform = platform or kind.platform
        accounts = tuple(each for each in self.accounts if platform in {ANY, each.platform.name})
        if kind.scope == "account":
            accounts = tuple(filter(self.is_connected, accounts))[:1]
        self.start(self._run_incident(Incident(kind, since, since + duration, accounts)))

    def deliver_webhook(self, account: SimulatedAccount, post_id: str, result: str) -> None:
        """Deliver the webhook of a post that ended, if the customer has one and it is active."""
        has_webhook = account.profile_id == self.accounts[0].profile_id
        if has_webhook and result != "cancelled" and not self.is_stopped("webhooks", account):
            row = self._log_activity("webhooks", account, event=f"post.{result}", postId=post_id)
            if row["status"] == "success":
                self.webhook_fired_at = self.now

    def _log_activity(
        self, log_type: str, account: SimulatedAccount | None = None, **metadata: str
    ) -> LogRow:
        """Write a log, or those of an incident, by default of any account; return the last."""
        if account is None:
            account = self.activity_random.choice(self.accounts)
        usual = OUTCOMES[log_type]
        outcomes: Sequence[Outcome] = self.activity_random.choices(
            tuple(usual), tuple(usual.values())
        )
        for incident in self.incidents_of(account):
            outcomes = incident.kind.activity.get(log_type, outcomes)
        duration = int(self.activity_random.lognormvariate(5, 0.6))

        row: LogRow = {}
        for action, status_code, error in outcomes:
            if log_type == "api_request":
                row = request_row(action, status_code, error, self.now)
                row |= {"userAgent": CUSTOMER, "profileId": account.profile_id}
            else:
                row = activity_row(log_type, action, status_code, error, self.now) | account.owner
            row["durationMs"] = duration
            row["metadata"] = msgspec.json.encode(metadata).decode()
            self.lists[log_type].insert(row)
        return row

    def _run_incident(self, incident: Incident) -> Process:
        if incident.since > self.now:
            yield incident.since
        is_disconnected = "connection" in incident.kind.stops
        if is_disconnected:
            self._log_connection(incident.accounts[0], "disconnect")
        self.incidents += (incident,)
        yield incident.until
        self.incidents = tuple(other for other in self.incidents if other is not incident)
        if is_disconnected:
            self._log_connection(incident.accounts[0], "reconnect_failed")  # as the first try may
            self._log_connection(incident.accounts[0], "reconnect_success")

    def _connect_account(self) -> None:
        account = self.random.choice(self.accounts)
        has_failed = self.random.random() < CONNECT_FAILURE_RATE or not self.is_connected(account)
        self._log_connection(account, "connect_failed" if has_failed else "connect_success")

    def _revoke_token(self, account: SimulatedAccount) -> None:
        if self.is_connected(account):
            until = self.now + self.random.uniform(HOUR / 2, 2 * HOUR)
            self.start(
                self._run_incident(
                    Incident(INCIDENTS["revoked-token"], self.now, until, (account,))
                )
            )

    def _log_connection(self, account: SimulatedAccount, event: str) -> None:
        result: JsonObject = {}
        if event.endswith("_failed"):
            result = {"accountId": None, "error": self.random.choices(CONNECT_ERRORS, (5, 3, 1))[0]}
        if event.endswith("_success"):
            self.renew_token(account)
            result["success"] = {
                "displayName": account.username.removeprefix("@"),
                "username": account.username,
                "permissions": ["read", "publish"],
                "tokenExpiresAt": timestamp(self.token_expiries[account.id]),
                "accountType": "business",
            }
        is_invitation = event == "connect_success" and self.random.random() < INVITATION_RATE
        row = {
            "_id": self.object_id(),
            **account.owner,
            "eventType": event,
            "connectionMethod": "invitation" if is_invitation else account.method,
            "context": {
                "isHeadlessMode": False,
                "hasCustomRedirectUrl": False,
                "isReconnection": event.startswith("reconnect"),
                "isBYOK": False,
            },
            "durationMs": int(self.random.lognormvariate(7.5, 0.6)),
            "createdAt": timestamp(
                self.now, whole_seconds=self.random.random() < WHOLE_SECOND_RATE
            ),
            **result,
        }
        self.connections.insert(row)


def activity_row(
    log_type: str, action: str, status_code: int, error: str | None, time: float
) -> LogRow:
    """Return the fields that logs of all types have."""
    return {
        "type": log_type,
        "action": action,
        "status": "failed" if error else "success",
        "statusCode": status_code,
        "errorMessage": error,
        "createdAt": timestamp(time),
    }


def request_row(action: str, status_code: int, error: str | None, time: float) -> LogRow:
    """Return the log of a request, whose action is its method and path."""
    method, _, path = action.partition(" ")
    row = activity_row("api_request", action, status_code, error, time)
    return row | {"method": method, "path": path, "ipAddress": "203.0.113.7"}
