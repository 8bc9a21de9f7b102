"""What else happens in generation ``zernio``: webhooks, messages, workflows, and calls of the API itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from random import Random
from typing import Any

import msgspec

from late_exporter.simulator.accounts import Account
from late_exporter.simulator.events import HOUR, MINUTE, Agenda, timestamp
from late_exporter.simulator.log_list import Archive, Row

__all__ = ["Activity"]

TYPES = ("webhooks", "messaging", "workflow_event", "api_request")
MESSAGE_EVERY = 10 * MINUTE
WORKFLOW_EVERY = HOUR / 2
CALL_EVERY = 2 * MINUTE
LOST = 0.02
ANSWERED = 0.8
MESSENGERS = ("instagram", "facebook", "whatsapp")
CALLS = {"GET /v1/posts": 200, "POST /v1/posts": 201, "GET /v1/accounts": 200, "GET /v1/analytics": 200}
REFUSALS = {400: "Invalid query", 404: "Not found", 429: "Rate limit exceeded. Please try again later."}


class Activity:
    """Writes the logs of the further types; its chance is its own, so that posts go on as they do without it.

    Args:
        agenda: When things happen.
        seed: Decides what happens.
        accounts: Whose activity it is.
    """

    def __init__(self, agenda: Agenda, seed: int, accounts: Sequence[Account]) -> None:
        self.archives = {name: Archive() for name in TYPES}
        self._agenda = agenda
        self._random = Random(f"activity {seed}")  # noqa: S311 - it imitates, it protects nothing
        self._accounts = tuple(accounts)
        self._listening = {account.user_id for account in self._accounts[:1]}
        self._every(MESSAGE_EVERY, self._receive)
        self._every(WORKFLOW_EVERY, self._work)
        self._every(CALL_EVERY, self._call)

    def tell(self, account: Account, post: str, result: str) -> None:
        """A post has ended on an account; the one customer with a webhook hears of it."""
        if account.user_id in self._listening and result in {"published", "failed"}:
            delay = self._random.uniform(0.2, 3)
            self._agenda.after(delay, partial(self._deliver, account, post, f"post.{result}"))

    def _every(self, mean: float, event: Callable[[], None]) -> None:
        def happen() -> None:
            self._agenda.after(self._random.expovariate(1 / mean), happen)
            event()

        self._agenda.after(self._random.expovariate(1 / mean), happen)

    def _deliver(self, account: Account, post: str, event: str) -> None:
        lost = self._random.random() < LOST
        error = {"error_message": "The endpoint answered 503", "error_code": "WEBHOOK_FAILED"} if lost else {}
        self._write(
            "webhooks",
            "webhook.failed" if lost else "webhook.delivered",
            account,
            event=event,
            status_code=503 if lost else 200,
            endpoint="https://hooks.example.com/late",
            request_body=_text({"event": event, "post": {"id": post}}),
            metadata=_text({"event": event, "postId": post, "profileId": account.profile_id}),
            **error,
        )

    def _receive(self) -> None:
        fitting = [account for account in self._accounts if account.platform.name in MESSENGERS]
        if not fitting:
            return
        account = self._random.choice(fitting)
        whatsapp = self._random.random() < 1 / len(MESSENGERS)
        place = {"platform": "whatsapp", "account_id": _whatsapp_id(account)} if whatsapp else {}
        self._write("messaging", "message.received", account, **place)
        if self._random.random() < ANSWERED:
            wait = self._random.expovariate(1 / MINUTE)
            self._agenda.after(wait, partial(self._write, "messaging", "message.sent", account, **place))

    def _work(self) -> None:
        account = self._random.choice(self._accounts)
        if self._random.random() < LOST:
            error = {"error_message": "A step has timed out", "error_code": "STEP_TIMEOUT"}
            self._write("workflow_event", "workflow.failed", account, **error)
        else:
            self._write("workflow_event", "workflow.completed", account)

    def _call(self) -> None:
        account = self._random.choice(self._accounts)
        action, code = self._random.choice(tuple(CALLS.items()))
        error: Row = {}
        if self._random.random() < LOST:
            code, message = self._random.choice(tuple(REFUSALS.items()))
            error = {"status": "failed", "error_message": message}
        endpoint = action.partition(" ")[2]
        call = {"platform": None, "account_id": None, "endpoint": endpoint, "status_code": code, **error}
        self._write("api_request", action, account, **call)

    def _write(self, kind: str, action: str, account: Account, **fields: Any) -> None:
        self.archives[kind].insert(
            {
                "type": kind,
                "action": action,
                "user_id": account.user_id,
                "platform": account.platform.name,
                "account_id": account.id,
                "status": "failed" if action.endswith(".failed") else "success",
                "duration_ms": int(self._random.lognormvariate(5, 0.6)),
                "created_at": timestamp(self._agenda.now),
                "metadata": _text({"profileId": account.profile_id}),
                **fields,
            }
        )


def _whatsapp_id(account: Account) -> str:
    return sha256(f"whatsapp {account.user_id}".encode()).hexdigest()[:24]


def _text(value: Row) -> str:
    return msgspec.json.encode(value).decode()
