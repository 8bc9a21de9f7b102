"""Simulation of connecting, disconnecting and reconnecting accounts, and of the connection logs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from late_exporter.simulator.accounts import SimulatedAccount
from late_exporter.simulator.events import DAY, HOUR, EventQueue, timestamp
from late_exporter.simulator.incidents import WorldConditions
from late_exporter.simulator.log_list import LogList

TOKEN_EXPIRY_INTERVAL = 60 * DAY
CONNECT_INTERVAL = HOUR
CONNECT_ERRORS = {
    "oauth_denied": "OAuth error: access_denied",
    "token_exchange_failed": "The authorization code could not be exchanged: invalid_grant",
    "account_limit_reached": "The plan's limit of accounts is reached",
}


class ConnectionSimulation:
    """Connect accounts, expire their tokens, and write the connection logs.

    It updates the disconnected accounts and the expiry of tokens in the conditions.
    """

    def __init__(
        self, events: EventQueue, log_list: LogList, conditions: WorldConditions, accounts: Sequence[SimulatedAccount]
    ) -> None:
        self._events = events
        self._random = events.random
        self._log_list = log_list
        self._conditions = conditions
        self._disconnected_ids = conditions.disconnected_ids
        self._accounts = tuple(accounts)
        self._schedule_random(CONNECT_INTERVAL, self._attempt_connection)
        for account in self._accounts:
            conditions.extend_token(account, events.now)
            self._schedule_random(TOKEN_EXPIRY_INTERVAL, partial(self._expire_token, account))

    def find_connected(self, platform: str | None) -> SimulatedAccount | None:
        """Return the first connected account, on a platform or on any."""
        candidates = (account for account in self._accounts if platform in {None, account.platform.name})
        return next((account for account in candidates if account.id not in self._disconnected_ids), None)

    def disconnect(self, account: SimulatedAccount) -> None:
        self._disconnected_ids.add(account.id)
        self._write_log(account, "disconnect", accountId=account.id, metadata={"reason": "token_revoked"})

    def reconnect(self, account_id: str) -> None:
        if account_id in self._disconnected_ids:
            self._disconnected_ids.remove(account_id)
            account = next(account for account in self._accounts if account.id == account_id)
            self._write_success(account, "reconnect_success")

    def _schedule_random(self, mean_delay: float, event: Any) -> None:
        self._events.schedule_in(self._random.expovariate(1 / mean_delay), event)

    def _attempt_connection(self) -> None:
        self._schedule_random(CONNECT_INTERVAL, self._attempt_connection)
        account = self._random.choice(self._accounts)
        if self._events.draw_bool(0.4) or account.id in self._disconnected_ids:
            self._write_failure(account, "connect_failed")
        else:
            self._write_success(account, "connect_success")

    def _expire_token(self, account: SimulatedAccount) -> None:
        self._schedule_random(TOKEN_EXPIRY_INTERVAL, partial(self._expire_token, account))
        if account.id in self._disconnected_ids:
            return
        self.disconnect(account)
        downtime = self._random.uniform(HOUR / 2, 2 * HOUR)
        if self._events.draw_bool(0.3):
            self._events.schedule_in(0.9 * downtime, partial(self._write_failure, account, "reconnect_failed"))
        self._events.schedule_in(downtime, partial(self.reconnect, account.id))

    def _write_success(self, account: SimulatedAccount, event: str) -> None:
        success = {
            "displayName": account.display_name,
            "username": account.username,
            "permissions": ["publish", "read_insights"],
            "tokenExpiresAt": timestamp(self._conditions.extend_token(account, self._events.now)),
            "accountType": "business",
        }
        self._write_log(account, event, accountId=account.id, success=success)

    def _write_failure(self, account: SimulatedAccount, event: str) -> None:
        code, message = self._random.choices(tuple(CONNECT_ERRORS.items()), (5, 3, 1))[0]
        has_no_ids = event == "connect_failed" and code == "oauth_denied"
        missing_ids = {"userId": None, "profileId": None} if has_no_ids else {}
        self._write_log(account, event, error={"code": code, "message": message}, **missing_ids)

    def _write_log(self, account: SimulatedAccount, event: str, **fields: Any) -> None:
        method = "invitation" if event == "connect_success" and self._events.draw_bool(0.2) else account.method
        context = {
            "isHeadlessMode": False,
            "hasCustomRedirectUrl": method == "invitation",
            "isReconnection": event.startswith("reconnect"),
            "isBYOK": False,
        }
        self._log_list.insert(
            {
                "_id": self._events.object_id(),
                "userId": account.user_id,
                "profileId": account.profile_id,
                "platform": account.platform.name,
                "eventType": event,
                "connectionMethod": method,
                "context": context,
                "durationMs": int(self._random.lognormvariate(7.5, 0.6)),
                "createdAt": timestamp(self._events.now, whole_seconds=self._events.draw_bool(0.3)),
                **fields,
            }
        )
