"""Processes that write the logs that only generation ``zernio`` has: webhooks, messages, workflows and requests."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec

from late_exporter.simulator.accounts import SimulatedAccount, hashed_id
from late_exporter.simulator.log_list import HOUR, MINUTE, LogRow, timestamp
from late_exporter.simulator.state import Process, WorldState

FAILURE_RATE = 0.02
MESSAGE_INTERVAL, WORKFLOW_INTERVAL, API_CALL_INTERVAL = 5 * MINUTE, HOUR / 2, 2 * MINUTE
MESSAGING_PLATFORMS = ("instagram", "facebook", "whatsapp")
API_CALLS = {"GET /v1/posts": 200, "POST /v1/posts": 201, "GET /v1/accounts": 200, "GET /v1/analytics": 200}
CUSTOMER = {"ip_address": "203.0.113.77", "user_agent": "newsroom-cms/4.2"}
WEBHOOK_URL = "https://hooks.example.com/late"


class Activity:
    """What the customers of a world do beside publishing. The webhook is that of the first customer.

    It draws from a random generator of its own, so that publishing does not depend on it.
    """

    def __init__(self, world: WorldState, seed: int) -> None:
        self._world = world
        self._random = Random(f"activity {seed}")  # noqa: S311 - simulation, not cryptography
        world.start(self._exchange_messages())
        world.start(self._run_workflows())
        world.start(self._call_api())

    def deliver_webhook(self, account: SimulatedAccount, post_id: str, result: str) -> None:
        """Deliver the webhook of a published or failed post of the first customer, unless it is switched off."""
        is_stopped = any(incident.kind.stops_webhooks for incident in self._world.incidents)
        if account.user_id != self._world.accounts[0].user_id or result == "cancelled" or is_stopped:
            return
        event, status_code, error = f"post.{result}", 200, self._draw_error("The endpoint answered 503")
        if error is None:
            self._world.webhook_fired_at = self._world.now
        else:
            status_code = 503
        metadata = to_json({"event": event, "postId": post_id, "profileId": account.profile_id})
        fields = {"event": event, "status_code": status_code, "endpoint": WEBHOOK_URL, "metadata": metadata}
        self._write_log("webhooks", "webhook.failed" if error else "webhook.delivered", account, error, **fields)

    def _exchange_messages(self) -> Process:
        while True:
            yield self._world.now + self._random.expovariate(1 / MESSAGE_INTERVAL)
            account, platform = self._random.choice(self._world.accounts), self._random.choice(MESSAGING_PLATFORMS)
            action = self._random.choice(("message.received", "message.sent"))
            self._write_log("messaging", action, account, platform=platform)

    def _run_workflows(self) -> Process:
        while True:
            yield self._world.now + self._random.expovariate(1 / WORKFLOW_INTERVAL)
            account, error = self._random.choice(self._world.accounts), self._draw_error("A step has timed out")
            self._write_log("workflow_event", "workflow.failed" if error else "workflow.completed", account, error)

    def _call_api(self) -> Process:
        while True:
            yield self._world.now + self._random.expovariate(1 / API_CALL_INTERVAL)
            (action, code), error = self._random.choice(tuple(API_CALLS.items())), self._draw_error("Not found")
            request_id = f"req_{self._random.getrandbits(96):024x}"
            row = request_log("key of the customer", action, 404 if error else code, error, self._world.now)
            self._world.activity["api_request"].insert({**row, **CUSTOMER, "request_id": request_id})

    def _draw_error(self, error: str) -> str | None:
        return error if self._random.random() < FAILURE_RATE else None

    def _write_log(
        self, log_type: str, action: str, account: SimulatedAccount, error: str | None = None, **fields: Any
    ) -> None:
        row = {
            **_common_fields(log_type, action, error, self._world.now),
            "user_id": account.user_id,
            "profile_id": account.profile_id,
            "platform": account.platform.name,
            "account_id": account.id,
            "duration_ms": int(self._random.lognormvariate(5, 0.6)),
            "metadata": to_json({"profileId": account.profile_id}),
        }
        self._world.activity[log_type].insert({**row, **fields})


def request_log(key: str, action: str, status_code: int, error: str | None, time: float) -> LogRow:
    """Return the log of a request with a key at a Unix time. The action is method and path."""
    method, _, path = action.partition(" ")
    return {
        **_common_fields("api_request", action, error, time),
        "method": method,
        "path": path,
        "endpoint": path,
        "status_code": status_code,
        "duration_ms": 12,
        "user_id": hashed_id(f"owner of {key}"),
        "api_key_id": hashed_id(f"key {key}"),
    }


def _common_fields(log_type: str, action: str, error: str | None, time: float) -> LogRow:
    fields = {"type": log_type, "action": action, "error_message": error, "created_at": timestamp(time)}
    return {**fields, "status": "failed" if error else "success"}


def to_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
