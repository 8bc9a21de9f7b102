"""Simulation of the log types that only generation ``zernio`` has: webhooks, messages, workflows and API requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any

import msgspec

from late_exporter.simulator.accounts import SimulatedAccount, hashed_id
from late_exporter.simulator.events import HOUR, MINUTE, EventQueue, timestamp
from late_exporter.simulator.incidents import WorldConditions
from late_exporter.simulator.log_list import LogList, LogRow
from late_exporter.simulator.request_log import CUSTOMER_ADDRESS, CUSTOMER_AGENT, ApiRequest, request_row
from late_exporter.simulator.webhooks import WEBHOOK_URL, SimulatedWebhook

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

    def __init__(
        self, events: EventQueue, seed: int, accounts: Sequence[SimulatedAccount], conditions: WorldConditions
    ) -> None:
        self.log_lists = {name: LogList() for name in ACTIVITY_TYPES}
        self._events = events
        self._random = Random(f"activity {seed}")  # noqa: S311 - simulation, not cryptography
        self._accounts = tuple(accounts)
        self._conditions = conditions
        self.webhooks = [SimulatedWebhook(account.user_id) for account in self._accounts[:1]]
        self._schedule_repeatedly(MESSAGE_INTERVAL, self._receive_message)
        self._schedule_repeatedly(WORKFLOW_INTERVAL, self._run_workflow)
        self._schedule_repeatedly(API_CALL_INTERVAL, self._call_api)

    def on_result(self, account: SimulatedAccount, post_id: str, result: str) -> None:
        """Deliver the webhooks of the customer of a published or failed post, unless they are switched off."""
        if result not in {"published", "failed"} or self._conditions.find_incident("webhook-disabled"):
            return
        for webhook in self.webhooks:
            if webhook.user_id == account.user_id:
                event = partial(self._deliver_webhook, webhook, account, post_id, f"post.{result}")
                self._events.schedule_in(self._random.uniform(0.2, 3), event)

    def _schedule_repeatedly(self, mean_interval: float, event: Callable[[], None]) -> None:
        def run() -> None:
            self._events.schedule_in(self._random.expovariate(1 / mean_interval), run)
            event()

        self._events.schedule_in(self._random.expovariate(1 / mean_interval), run)

    def _deliver_webhook(self, webhook: SimulatedWebhook, account: SimulatedAccount, post_id: str, event: str) -> None:
        has_failed = self._random.random() < FAILURE_RATE
        if not has_failed:
            webhook.last_fired_at = self._events.now
        error = {"error_message": "The endpoint answered 503", "error_code": "WEBHOOK_FAILED"} if has_failed else {}
        self._write_log(
            "webhooks",
            "webhook.failed" if has_failed else "webhook.delivered",
            account,
            event=event,
            status_code=503 if has_failed else 200,
            endpoint=WEBHOOK_URL,
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
        error = None
        if self._random.random() < FAILURE_RATE:
            code, error = self._random.choice(tuple(API_ERRORS.items()))
        method, _, path = action.partition(" ")
        request = ApiRequest(
            key=account.user_id,
            method=method,
            path=path,
            request_id=f"req_{self._random.getrandbits(96):024x}",
            ip_address=CUSTOMER_ADDRESS,
            user_agent=CUSTOMER_AGENT,
            profile_id=account.profile_id,
        )
        row = request_row(request, code, error, self._events.now)
        self.log_lists["api_request"].insert({**row, "user_id": account.user_id, "duration_ms": self._draw_duration()})

    def _draw_duration(self) -> int:
        return int(self._random.lognormvariate(5, 0.6))

    def _write_log(self, log_type: str, action: str, account: SimulatedAccount, **fields: Any) -> None:
        self.log_lists[log_type].insert(
            {
                "type": log_type,
                "action": action,
                "user_id": account.user_id,
                "platform": account.platform.name,
                "account_id": account.id,
                "status": "failed" if action.endswith(".failed") else "success",
                "duration_ms": self._draw_duration(),
                "created_at": timestamp(self._events.now),
                "metadata": _to_json({"profileId": account.profile_id}),
                "profileId": account.profile_id,
                **fields,
            }
        )


def _to_json(value: LogRow) -> str:
    return msgspec.json.encode(value).decode()
