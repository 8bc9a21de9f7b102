"""Logs that only generation ``zernio`` has: webhooks, messages, workflows and requests."""

from __future__ import annotations

from functools import partial
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


def start_activity(world: SimulatedWorld) -> None:
    """Start what the customers of a world do beside publishing."""
    for log_type, interval in INTERVALS.items():
        world.repeat(world.activity_random, interval, partial(_write_log, world, log_type))


def deliver_webhook(world: SimulatedWorld, account: SimulatedAccount, post_id: str, result: str) -> None:
    """Deliver the webhook of a published or failed post of the first customer, unless it is switched off."""
    has_webhook = account.profile_id == world.accounts[0].profile_id
    if has_webhook and result != "cancelled" and not world.is_stopped("webhooks", account):
        row = _write_log(world, "webhooks", account, event=f"post.{result}", postId=post_id)
        if row["status"] == "success":
            world.webhook_fired_at = world.now


def _write_log(
    world: SimulatedWorld, log_type: str, account: SimulatedAccount | None = None, **metadata: str
) -> LogRow:
    """Write a log, by default of any account, and return it. That of a request has no account."""
    account, outcomes = account or world.activity_random.choice(world.accounts), OUTCOMES[log_type]
    ((action, error),) = world.activity_random.choices(tuple(outcomes), tuple(outcomes.values()))
    row = new_row(log_type, action, error, world.now)
    row |= CUSTOMER if log_type == "api_request" else account.owner
    row["durationMs"] = int(world.activity_random.lognormvariate(5, 0.6))
    row["metadata"] = msgspec.json.encode({**metadata, "profileId": account.profile_id}).decode()
    world.lists[log_type].insert(row)
    return row


def new_row(log_type: str, action: str, error: str | None, time: float) -> LogRow:
    """Return the fields that logs of all types have; that of a request has method and path as its action."""
    status = "failed" if error else "success"
    return {"type": log_type, "action": action, "status": status, "errorMessage": error, "createdAt": timestamp(time)}
