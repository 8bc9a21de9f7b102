"""The delivery of alerts to Alertmanager gives the same messages whatever the machine does meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.e2e.replay.delivery import deliver
from tests.e2e.replay.evaluation import FiringAlert

CHAIN = ("LateAccountCannotPost", "LateAccountDisconnected", "LatePostsAtRisk")
"""Alerts of which each inhibits those before it."""

WORKSPACES = tuple(f"brand-{number}" for number in range(20))


def _alerts(minute: int) -> Sequence[FiringAlert]:
    """Return the chain for each of some workspaces, and the plans of all of them, which are one group each."""
    rows = [
        {"alertname": name, "workspace": workspace, "platform": "tiktok", "account_id": "a", "severity": "critical"}
        for workspace in WORKSPACES
        for name in CHAIN
    ]
    rows += [
        {"alertname": "LatePlanLimitNear", "workspace": workspace, "kind": kind, "severity": "warning"}
        for workspace in WORKSPACES
        for kind in ("balance", "profiles", "uploads")
    ]
    return [
        FiringAlert(minute, {"job": "late", **row}, {"summary": row["alertname"], "description": "", "runbook_url": ""})
        for row in rows
    ]


def test_what_begins_and_ends_at_once_is_one_message_each(require_tool: Callable[[str], str], tmp_path: Path) -> None:
    """A cause holds back what begins with it, and alerts of a group are in one message."""
    messages = deliver([*_alerts(0), *_alerts(1)], require_tool("prometheus-alertmanager"), tmp_path)
    counts = Counter((message.minute, message.channel) for message in messages)
    assert dict(counts) == {
        (minute, channel): len(WORKSPACES) for minute in (0, 2) for channel in ("#late-critical", "#late-warnings")
    }
