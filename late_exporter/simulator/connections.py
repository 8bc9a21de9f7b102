"""How accounts lose and regain their connection, and what the connection log tells of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from late_exporter.simulator.accounts import Account
from late_exporter.simulator.events import DAY, HOUR, Agenda, timestamp
from late_exporter.simulator.incidents import Conditions
from late_exporter.simulator.log_list import Archive

__all__ = ["Connecting"]

TOKEN_LIFE = 60 * DAY
EXPIRY_EVERY = TOKEN_LIFE
CONNECT_EVERY = HOUR
ERRORS = {
    "oauth_denied": "OAuth error: access_denied",
    "token_exchange_failed": "The authorization code could not be exchanged: invalid_grant",
    "account_limit_reached": "The plan's limit of accounts is reached",
}


class Connecting:
    """Lets people connect accounts and tokens expire, and writes the logs.

    Args:
        agenda: When things happen.
        archive: Where the logs go.
        conditions: Where it is noted who is disconnected.
        accounts: Whose connections they are.
    """

    def __init__(self, agenda: Agenda, archive: Archive, conditions: Conditions, accounts: Sequence[Account]) -> None:
        self._agenda = agenda
        self._random = agenda.random
        self._archive = archive
        self._disconnected = conditions.disconnected
        self._accounts = tuple(accounts)
        self._after(CONNECT_EVERY, self._connect)
        for account in self._accounts:
            self._after(EXPIRY_EVERY, partial(self._expire, account))

    def connected(self, platform: str | None) -> Account | None:
        """The first account, on that platform if one is named, that is connected."""
        fitting = (account for account in self._accounts if platform in {None, account.platform.name})
        return next((account for account in fitting if account.id not in self._disconnected), None)

    def disconnect(self, account: Account) -> None:
        """The platform takes the account's token back."""
        self._disconnected.add(account.id)
        self._write(account, "disconnect", accountId=account.id, metadata={"reason": "token_revoked"})

    def reconnect(self, account_id: str) -> None:
        """Somebody connects a disconnected account again."""
        if account_id in self._disconnected:
            self._disconnected.remove(account_id)
            account = next(account for account in self._accounts if account.id == account_id)
            self._succeed(account, "reconnect_success")

    def _after(self, mean: float, event: Any) -> None:
        self._agenda.after(self._random.expovariate(1 / mean), event)

    def _connect(self) -> None:
        self._after(CONNECT_EVERY, self._connect)
        account = self._random.choice(self._accounts)
        if self._agenda.chance(0.4) or account.id in self._disconnected:
            self._fail(account, "connect_failed")
        else:
            self._succeed(account, "connect_success")

    def _expire(self, account: Account) -> None:
        self._after(EXPIRY_EVERY, partial(self._expire, account))
        if account.id in self._disconnected:
            return
        self.disconnect(account)
        outage = self._random.uniform(HOUR / 2, 2 * HOUR)
        if self._agenda.chance(0.3):
            self._agenda.after(0.9 * outage, partial(self._fail, account, "reconnect_failed"))
        self._agenda.after(outage, partial(self.reconnect, account.id))

    def _succeed(self, account: Account, event: str) -> None:
        success = {
            "displayName": account.display_name,
            "username": account.username,
            "permissions": ["publish", "read_insights"],
            "tokenExpiresAt": timestamp(self._agenda.now + TOKEN_LIFE),
            "accountType": "business",
        }
        self._write(account, event, accountId=account.id, success=success)

    def _fail(self, account: Account, event: str) -> None:
        code, message = self._random.choices(tuple(ERRORS.items()), (5, 3, 1))[0]
        early = {"userId": None, "profileId": None} if event == "connect_failed" and code == "oauth_denied" else {}
        self._write(account, event, error={"code": code, "message": message}, **early)

    def _write(self, account: Account, event: str, **fields: Any) -> None:
        method = "invitation" if event == "connect_success" and self._agenda.chance(0.2) else account.method
        context = {
            "isHeadlessMode": False,
            "hasCustomRedirectUrl": method == "invitation",
            "isReconnection": event.startswith("reconnect"),
            "isBYOK": False,
        }
        self._archive.insert(
            {
                "_id": self._agenda.object_id(),
                "userId": account.user_id,
                "profileId": account.profile_id,
                "platform": account.platform.name,
                "eventType": event,
                "connectionMethod": method,
                "context": context,
                "durationMs": int(self._random.lognormvariate(7.5, 0.6)),
                "createdAt": timestamp(self._agenda.now, whole=self._agenda.chance(0.3)),
                **fields,
            }
        )
