"""Logs that only generation ``zernio`` has: webhooks, messages, workflows and requests."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from late_exporter.simulator.accounts import SimulatedAccount
from late_exporter.simulator.log_list import HOUR, MINUTE, LogRow, timestamp

if TYPE_CHECKING:
    from late_exporter.simulator.world import SimulatedWorld

Outcome: TypeAlias = tuple[str, int, str | None]
"""Action, status code and error of a log."""

INTERVALS = {"messaging": 5 * MINUTE, "workflow_event": HOUR / 2, "api_request": 2 * MINUTE}
FAILED_DELIVERY = ("webhook.failed", 503, "The endpoint answered 503")
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

CUSTOMER = {"userAgent": "newsroom-cms/4.2"}


def start_activity(world: SimulatedWorld) -> None:
    """Start what the customers of a world do beside publishing."""
    for log_type, interval in INTERVALS.items():
        world.repeat(world.activity_random, interval, partial(_write_log, world, log_type))


def deliver_webhook(
    world: SimulatedWorld, account: SimulatedAccount, post_id: str, result: str
) -> None:
    """Deliver the first customer's webhook of an ended post, unless it is switched off."""
    has_webhook = account.profile_id == world.accounts[0].profile_id
    if has_webhook and result != "cancelled" and not world.is_stopped("webhooks", account):
        row = _write_log(world, "webhooks", account, event=f"post.{result}", postId=post_id)
        if row["status"] == "success":
            world.webhook_fired_at = world.now


def _write_log(
    world: SimulatedWorld, log_type: str, account: SimulatedAccount | None = None, **metadata: str
) -> LogRow:
    """Write a log, or those of an incident, by default of any account, and return it."""
    account = account or world.activity_random.choice(world.accounts)
    usual = OUTCOMES[log_type]
    outcomes: Sequence[Outcome] = world.activity_random.choices(tuple(usual), tuple(usual.values()))
    for incident in world.incidents_of(account):
        outcomes = incident.kind.activity.get(log_type, outcomes)
    fields = dict(CUSTOMER) if log_type == "api_request" else account.owner
    fields["metadata"] = msgspec.json.encode({**metadata, "profileId": account.profile_id}).decode()
    duration = int(world.activity_random.lognormvariate(5, 0.6))
    rows = [
        new_row(log_type, *outcome, world.now) | fields | {"durationMs": duration}
        for outcome in outcomes
    ]
    for row in rows:
        world.lists[log_type].insert(row)
    return rows[-1]


def new_row(log_type: str, action: str, status_code: int, error: str | None, time: float) -> LogRow:
    """Return the fields of all logs; that of a request has method and path as its action."""
    row = {"type": log_type, "action": action, "status": "failed" if error else "success"}
    return {**row, "statusCode": status_code, "errorMessage": error, "createdAt": timestamp(time)}
