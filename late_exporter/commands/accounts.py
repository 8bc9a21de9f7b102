"""The command ``accounts``: the state of every account that the exporter on this machine knows."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from prometheus_client.parser import text_string_to_metric_families

from late_exporter.commands.exporter_client import fetch
from late_exporter.commands.output import json_line, warn, write_lines
from late_exporter.commands.status import parse_status
from late_exporter.commands.tables import Row, Table, Terminal
from late_exporter.config.settings import CommandContext
from late_exporter.errors import LateError
from late_exporter.format import human_duration
from late_exporter.health import WorkspaceHealth
from late_exporter.model import FAILED, SUCCESS, UNKNOWN
from late_exporter.web.verdicts import relative_time

PREFIX = "late_account_"
COOLDOWN = "cooldown_until_timestamp_seconds"
SOON = 14 * 86_400.0  # seconds before its expiry from which a token is worth a word

STATES = ("reconnect", "disconnected", "blocked", "cooldown", "failing", "ok")
"""States, worst first."""

TONES = {"ok": "", "failing": "warn", "cooldown": "warn"}

Account: TypeAlias = dict[str, Any]
"""State of an account: its labels, its attempts, and its other metrics by their names after the prefix."""


def accounts(context: CommandContext) -> int:
    """Print the accounts, those in trouble first, and return the exit code."""
    body = fetch(context, context.settings.web.telemetry_path, accept="text/plain;version=0.0.4")
    now, platform, workspace = time.time(), context.flags.platform, context.flags.workspace
    issues = _issues(parse_status(fetch(context, "/", accept="application/json")).workspaces)
    selection = [
        account | {"issue": issues.get((account["workspace"], account["account_id"]), "")}
        for account in parse_accounts(body.decode("utf-8", "replace"), now)
        if platform in (None, account["platform"])
        if workspace in (None, account["workspace"])
    ]
    if not selection:
        warn(
            "no account matches"
            if platform or workspace
            else "no accounts yet; the first sync may not be complete"
        )
    if context.flags.format == "json":
        return write_lines(map(json_line, selection))
    table = Table(Terminal.detect(), toned="STATE")
    return write_lines(table.lines(_row(account, now) for account in selection))


def _issues(workspaces: Iterable[WorkspaceHealth]) -> Mapping[tuple[str, str], str]:
    """Return what the API says about accounts, by workspace and id."""
    return {
        (each.name, it.subject): it.text
        for each in workspaces
        for it in each.status.conditions
        if it.text
    }


def parse_accounts(text: str, now: float) -> Sequence[Account]:
    """Return the accounts of a response in the Prometheus text format, worst first; raise LateError for other texts."""
    lines = [line for line in text.splitlines() if line.removeprefix("# TYPE ").startswith(PREFIX)]
    by_identity: dict[tuple[str, ...], Account] = {}
    try:
        for family in text_string_to_metric_families("\n".join(lines) + "\n"):
            for name, labels, value, *_ in family.samples:
                identity = {
                    label: labels[label] for label in ("workspace", "platform", "account_id")
                }
                new = {
                    **identity,
                    "username": "",
                    "state": "ok",
                    "success": 0,
                    "failed": 0,
                    "health": "",
                }
                account = by_identity.setdefault(tuple(identity.values()), new)
                _apply(account, name.removeprefix(PREFIX), labels, value)
    except (KeyError, ValueError):
        raise LateError("the response is not that of a late-exporter of this version") from None
    for account in by_identity.values():
        account["state"] = _state_of(account, now)
    return [
        account
        for _, account in sorted(
            by_identity.items(), key=lambda item: (*_urgency(item[1], now), item[0])
        )
    ]


def _urgency(account: Account, now: float) -> tuple[int, float]:
    expiry = account.get("token_expiry_timestamp_seconds", math.inf)
    return STATES.index(account["state"]), expiry if expiry < now + SOON else math.inf


def _apply(account: Account, name: str, labels: Mapping[str, str], value: float) -> None:
    if name == "info":
        account["username"] = "" if labels["username"] == UNKNOWN else labels["username"]
    elif name == "health":
        account["health"] = labels["status"] if value else account["health"]
    elif name == "logs_total":
        if labels["status"] in (SUCCESS, FAILED):
            account[labels["status"]] += int(value)
    else:
        account[name] = value


def _state_of(account: Account, now: float) -> str:
    conditions = (
        account.get("needs_reconnect", 0),
        not account.get("connected", 1),
        not account.get("can_post", 1),
        account.get(COOLDOWN, 0) > now,
        account.get("consecutive_failures", 0),
    )
    return next((state for state, holds in zip(STATES, conditions, strict=False) if holds), "ok")


def _row(account: Account, now: float) -> Row:
    success, count = (
        account.get("last_success_timestamp_seconds"),
        account["success"] + account["failed"],
    )
    cells = {
        "STATE": account["state"],
        "PLATFORM": account["platform"],
        "ACCOUNT": account["username"] or account["account_id"],
        "FAILED>": f"{account['failed']:,} of {count:,}",
        "IN A ROW>": f"{account.get('consecutive_failures', 0):,.0f}",
        "LAST SUCCESS": relative_time(success, now, coarse=True) if success else "",
        "DETAIL": ", ".join((account["workspace"], account["account_id"], *_details(account, now))),
    }
    return Row(cells, TONES.get(account["state"], "bad"))


def _details(account: Account, now: float) -> Iterator[str]:
    if account["health"] not in ("", "healthy"):
        yield f"health {account['health']}"
    if account["issue"]:
        yield account["issue"]
    if (pause := account.get(COOLDOWN, 0) - now) > 0:
        yield f"in cooldown for {human_duration(pause, rough=True)}"
    if (expiry := account.get("token_expiry_timestamp_seconds", math.inf)) < now + SOON:
        yield f"token {'expires' if expiry > now else 'expired'} {relative_time(expiry, now, coarse=True)}"
