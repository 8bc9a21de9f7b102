"""Logs that only generation ``zernio`` has: webhooks, messages, workflows and requests."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING

import msgspec

from late_exporter.simulator.accounts import SimulatedAccount
from late_exporter.simulator.log_list import HOUR, MINUTE, LogRow, timestamp

if TYPE_CHECKING:
    from late_exporter.simulator.world import SimulatedWorld

INTERVALS = {"messaging": 5 * MINUTE, "workflow_event": HOUR / 2, "api_request": 2 * MINUTE}
OUTCOMES: dict[str, dict[tuple[str, str | None], float]] = {
    "webhooks": {("webhook.delivered", None): 0.98, ("webhook.failed", "The endpoint answered 503"): 0.02},
    "messaging": {("message.received", None): 0.5, ("message.sent", None): 0.5},
    "workflow_event": {("workflow.completed", None): 0.98, ("workflow.failed", "A step has timed out"): 0.02},
    "api_request": {("GET /v1/posts", None): 0.98, ("GET /v1/posts/1", "Not Found"): 0.02},
}
"""Action and error of the logs of each type, with their probabilities."""

CUSTOMER = {"userAgent": "newsroom-cms/4.2"}


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
        has_webhook = account.user_id == self._world.accounts[0].user_id
        if has_webhook and result != "cancelled" and not self._world.is_stopped("webhooks", account):
            row = self._write_log("webhooks", account, event=f"post.{result}", postId=post_id)
            if row["status"] == "success":
                self._world.webhook_fired_at = self._world.now

    def _write_logs(self, log_type: str, interval: float) -> Iterator[float]:
        while True:
            yield self._world.now + self._random.expovariate(1 / interval)
            self._write_log(log_type, self._random.choice(self._world.accounts))

    def _write_log(self, log_type: str, account: SimulatedAccount, **metadata: str) -> LogRow:
        """Write a log and return it. That of a request has no account."""
        outcomes = OUTCOMES[log_type]
        ((action, error),) = self._random.choices(tuple(outcomes), tuple(outcomes.values()))
        row = new_row(log_type, action, error, self._world.now)
        row |= CUSTOMER if log_type == "api_request" else {**account.owner, "accountId": account.id}
        row["durationMs"] = int(self._random.lognormvariate(5, 0.6))
        row["metadata"] = msgspec.json.encode({**metadata, "profileId": account.profile_id}).decode()
        self._world.lists[log_type].insert(row)
        return row


def new_row(log_type: str, action: str, error: str | None, time: float) -> LogRow:
    """Return the fields that logs of all types have; that of a request has method and path as its action."""
    status = "failed" if error else "success"
    return {"type": log_type, "action": action, "status": status, "errorMessage": error, "createdAt": timestamp(time)}
