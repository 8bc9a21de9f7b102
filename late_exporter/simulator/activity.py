"""Logs that only generation ``zernio`` has: webhooks, messages, workflows and requests."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

from late_exporter.simulator.accounts import SimulatedAccount, hashed_id
from late_exporter.simulator.log_list import HOUR, MINUTE, LogRow, timestamp

if TYPE_CHECKING:
    from late_exporter.simulator.world import SimulatedWorld

INTERVALS = {"messaging": 5 * MINUTE, "workflow_event": HOUR / 2, "api_request": 2 * MINUTE}
OUTCOMES: dict[str, dict[tuple[str, str | None], float]] = {
    "webhooks": {("webhook.delivered", None): 0.98, ("webhook.failed", "The endpoint answered 503"): 0.02},
    "messaging": {("message.received", None): 0.5, ("message.sent", None): 0.5},
    "workflow_event": {("workflow.completed", None): 0.98, ("workflow.failed", "A step has timed out"): 0.02},
    "api_request": {("GET /v1/posts", None): 0.98, ("GET /v1/posts/1", "Not found"): 0.02},
}
"""Action and error of the logs of each type, with their probabilities."""

CUSTOMER = {"ipAddress": "203.0.113.77", "userAgent": "newsroom-cms/4.2"}
WEBHOOK_URL = "https://hooks.example.com/late"


class Activity:
    """What the customers of a world do beside publishing. The webhook is that of the first customer.

    It draws from a random generator of its own, so that publishing does not depend on it.
    """

    def __init__(self, world: SimulatedWorld, seed: int) -> None:
        self._world = world
        self._random = Random(f"activity {seed}")  # noqa: S311 - simulation, not cryptography
        for log_type, interval in INTERVALS.items():
            world.start(self._write_logs(log_type, interval))

    def deliver_webhook(self, account: SimulatedAccount, post_id: str, result: str) -> None:
        """Deliver the webhook of a published or failed post of the first customer, unless it is switched off."""
        is_stopped = any(incident.kind.stops_webhooks for incident in self._world.incidents)
        if account.user_id == self._world.accounts[0].user_id and result != "cancelled" and not is_stopped:
            metadata = {"event": f"post.{result}", "postId": post_id, "profileId": account.profile_id}
            if self._write_log("webhooks", account, metadata, endpoint=WEBHOOK_URL):
                self._world.webhook_fired_at = self._world.now

    def _write_logs(self, log_type: str, interval: float) -> Iterator[float]:
        while True:
            yield self._world.now + self._random.expovariate(1 / interval)
            account = self._random.choice(self._world.accounts)
            self._write_log(log_type, account, {"profileId": account.profile_id})

    def _write_log(self, log_type: str, account: SimulatedAccount, metadata: LogRow, **fields: Any) -> bool:
        """Write a log; return whether its status is success."""
        outcomes, now = OUTCOMES[log_type], self._world.now
        ((action, error),) = self._random.choices(tuple(outcomes), tuple(outcomes.values()))
        if log_type == "api_request":
            row = request_log("key of the customer", action, 404 if error else 200, error, now) | CUSTOMER
            row["requestId"] = f"req_{self._random.getrandbits(96):024x}"
        else:
            row = _common_fields(log_type, action, error, now) | account.owner | {"accountId": account.id, **fields}
            row["durationMs"] = int(self._random.lognormvariate(5, 0.6))
            row["metadata"] = msgspec.json.encode(metadata).decode()
        self._world.activity[log_type].insert(row)
        return error is None


def request_log(key: str, action: str, status_code: int, error: str | None, time: float) -> LogRow:
    """Return the log of a request with a key at a Unix time. The action is method and path."""
    fields = dict(zip(("method", "path"), action.split(" ", 1), strict=True))
    fields |= {"userId": hashed_id(f"owner of {key}"), "apiKeyId": hashed_id(f"key {key}")}
    return {**_common_fields("api_request", action, error, time), **fields, "statusCode": status_code, "durationMs": 12}


def _common_fields(log_type: str, action: str, error: str | None, time: float) -> LogRow:
    fields = {"type": log_type, "action": action, "errorMessage": error, "createdAt": timestamp(time)}
    return {**fields, "status": "failed" if error else "success"}
