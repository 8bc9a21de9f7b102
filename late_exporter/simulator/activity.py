"""Simulation of the log types that only generation ``zernio`` has: webhooks, messages, workflows and API requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any

import msgspec

from late_exporter.simulator.accounts import SimulatedAccount, hashed_id
from late_exporter.simulator.events import HOUR, MINUTE, EventQueue, timestamp
from late_exporter.simulator.log_list import LogList, LogRow

ACTIVITY_TYPES = ("webhooks", "messaging", "workflow_event", "api_request")
MESSAGE_INTERVAL = 10 * MINUTE
WORKFLOW_INTERVAL = HOUR / 2
API_CALL_INTERVAL = 2 * MINUTE
FAILURE_RATE = 0.02
REPLY_RATE = 0.8
MESSAGING_PLATFORMS = ("instagram", "facebook", "whatsapp")
API_CALLS = {"GET /v1/posts": 200, "POST /v1/posts": 201, "GET /v1/accounts": 200, "GET /v1/analytics": 200}
API_ERRORS = {400: "Invalid query", 404: "Not found", 429: "Rate limit exceeded. Please try again later."}


class ActivitySimulation:
    """Write webhook, messaging, workflow and API request logs.

    It draws from a random generator of its own, so that publishing is the same with and without it.
    """

    def __init__(self, events: EventQueue, seed: int, accounts: Sequence[SimulatedAccount]) -> None:
        self.log_lists = {name: LogList() for name in ACTIVITY_TYPES}
        self._events = events
        self._random = Random(f"activity {seed}")  # noqa: S311 - simulation, not cryptography
        self._accounts = tuple(accounts)
        self._webhook_user_ids = {account.user_id for account in self._accounts[:1]}
        self._schedule_repeatedly(MESSAGE_INTERVAL, self._receive_message)
        self._schedule_repeatedly(WORKFLOW_INTERVAL, self._run_workflow)
        self._schedule_repeatedly(API_CALL_INTERVAL, self._call_api)

    def on_result(self, account: SimulatedAccount, post_id: str, result: str) -> None:
        """Deliver a webhook for a published or failed post, if its customer has one."""
        if account.user_id in self._webhook_user_ids and result in {"published", "failed"}:
            delay = self._random.uniform(0.2, 3)
            self._events.schedule_in(delay, partial(self._deliver_webhook, account, post_id, f"post.{result}"))

    def _schedule_repeatedly(self, mean_interval: float, event: Callable[[], None]) -> None:
        def run() -> None:
            self._events.schedule_in(self._random.expovariate(1 / mean_interval), run)
            event()

        self._events.schedule_in(self._random.expovariate(1 / mean_interval), run)

    def _deliver_webhook(self, account: SimulatedAccount, post_id: str, event: str) -> None:
        has_failed = self._random.random() < FAILURE_RATE
        error = {"error_message": "The endpoint answered 503", "error_code": "WEBHOOK_FAILED"} if has_failed else {}
        self._write_log(
            "webhooks",
            "webhook.failed" if has_failed else "webhook.delivered",
            account,
            event=event,
            status_code=503 if has_failed else 200,
            endpoint="https://hooks.example.com/late",
            request_body=_to_json({"event": event, "post": {"id": post_id}}),
            metadata=_to_json({"event": event, "postId": post_id, "profileId": account.profile_id}),
            **error,
        )

    def _receive_message(self) -> None:
        candidates = [account for account in self._accounts if account.platform.name in MESSAGING_PLATFORMS]
        if not candidates:
            return
        account = self._random.choice(candidates)
        is_whatsapp = self._random.random() < 1 / len(MESSAGING_PLATFORMS)
        overrides = {}
        if is_whatsapp:
            overrides = {"platform": "whatsapp", "account_id": hashed_id(f"whatsapp {account.user_id}")}
        self._write_log("messaging", "message.received", account, **overrides)
        if self._random.random() < REPLY_RATE:
            reply = partial(self._write_log, "messaging", "message.sent", account, **overrides)
            self._events.schedule_in(self._random.expovariate(1 / MINUTE), reply)

    def _run_workflow(self) -> None:
        account = self._random.choice(self._accounts)
        if self._random.random() < FAILURE_RATE:
            error = {"error_message": "A step has timed out", "error_code": "STEP_TIMEOUT"}
            self._write_log("workflow_event", "workflow.failed", account, **error)
        else:
            self._write_log("workflow_event", "workflow.completed", account)

    def _call_api(self) -> None:
        account = self._random.choice(self._accounts)
        action, code = self._random.choice(tuple(API_CALLS.items()))
        error: LogRow = {}
        if self._random.random() < FAILURE_RATE:
            code, message = self._random.choice(tuple(API_ERRORS.items()))
            error = {"status": "failed", "error_message": message}
        endpoint = action.partition(" ")[2]
        fields = {"platform": None, "account_id": None, "endpoint": endpoint, "status_code": code, **error}
        self._write_log("api_request", action, account, **fields)

    def _write_log(self, log_type: str, action: str, account: SimulatedAccount, **fields: Any) -> None:
        self.log_lists[log_type].insert(
            {
                "type": log_type,
                "action": action,
                "user_id": account.user_id,
                "platform": account.platform.name,
                "account_id": account.id,
                "status": "failed" if action.endswith(".failed") else "success",
                "duration_ms": int(self._random.lognormvariate(5, 0.6)),
                "created_at": timestamp(self._events.now),
                "metadata": _to_json({"profileId": account.profile_id}),
                **fields,
            }
        )


def _to_json(value: LogRow) -> str:
    return msgspec.json.encode(value).decode()
