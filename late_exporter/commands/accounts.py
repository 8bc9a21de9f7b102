"""The command ``accounts``: the state of every account that the exporter on this machine knows."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeAlias

from prometheus_client.parser import text_string_to_metric_families

from late_exporter.commands.exporter_client import fetch
from late_exporter.commands.output import json_line, warn, write_lines
from late_exporter.commands.status import parse_status
from late_exporter.commands.tables import Row, Table, Terminal
from late_exporter.config.settings import CommandContext
from late_exporter.errors import LateError
from late_exporter.format import human_duration
from late_exporter.health import Condition, WorkspaceHealth
from late_exporter.model import FAILED, SUCCESS, UNKNOWN
from late_exporter.thresholds import DAY, TOKEN_LEFT_WARNING_SECONDS
from late_exporter.web.verdicts import relative_time

PREFIX = "late_account_"
COOLDOWN = "cooldown_until_timestamp_seconds"
EXPIRY = "token_expiry_timestamp_seconds"

SHOWN_SECONDS = 14 * DAY
"""Time before its expiry from which that of a token is shown."""

TONES = {
    "reconnect": "bad",
    "disconnected": "bad",
    "blocked": "bad",
    "cooldown": "warn",
    "failing": "warn",
    "expiring": "warn",
    "ok": "",
}
"""Tones by state, the worst first."""

Account: TypeAlias = dict[str, Any]
"""Labels of an account, its attempts, and its other metrics by their names after the prefix."""


def accounts(context: CommandContext) -> int:
    """Print the accounts, those in trouble first, and return the exit code."""
    flags = context.flags
    body = fetch(context, context.settings.web.telemetry_path, accept="text/plain;version=0.0.4")
    status = parse_status(fetch(context, "/", accept="application/json"))
    now = time.time()
    selection = [
        account
        for account in parse_accounts(body.decode("utf-8", "replace"), status.workspaces, now)
        if flags.platform in (None, account["platform"])
        if flags.workspace in (None, account["workspace"])
    ]
    if not selection:
        is_filtered = flags.platform or flags.workspace
        none_yet = "no accounts yet; the first sync may not be complete"
        warn("no account matches" if is_filtered else none_yet)
    if flags.format == "json":
        return write_lines(map(json_line, selection))
    table = Table(Terminal.detect(), toned="STATE")
    return write_lines(table.lines(_row(account, now) for account in selection))


def parse_accounts(
    text: str, workspaces: Iterable[WorkspaceHealth], now: float
) -> Sequence[Account]:
    """Return the accounts of a response in the Prometheus text format, the worst first.

    Args:
        text: Body of the response.
        workspaces: What the status page says about them.
        now: Unix time.

    Raises:
        LateError: It is not the response of a late-exporter.
    """
    by_identity: dict[tuple[str, ...], Account] = {}
    lines = [line for line in text.splitlines() if line.removeprefix("# TYPE ").startswith(PREFIX)]
    try:
        for family in text_string_to_metric_families("\n".join(lines) + "\n"):
            for name, labels, value, *_ in family.samples:
                account = by_identity.setdefault(
                    (labels["workspace"], labels["account_id"], labels["platform"]),
                    {
                        "workspace": labels["workspace"],
                        "platform": labels["platform"],
                        "account_id": labels["account_id"],
                        "username": "",
                        "state": "ok",
                        "success": 0,
                        "failed": 0,
                        "health": "",
                        "issue": "",
                    },
                )
                _apply(account, name.removeprefix(PREFIX), labels, value)
    except (KeyError, ValueError):
        raise LateError("the response is not that of a late-exporter of this version") from None

    conditions = defaultdict[tuple[str, str], dict[str, Condition]](dict)
    for workspace in workspaces:
        for condition in workspace.status.conditions:
            conditions[workspace.name, condition.subject][condition.kind] = condition
    for (name, account_id, _), account in by_identity.items():
        account["issue"] = "; ".join(_issues(conditions[name, account_id], now))
        account["state"] = _state_of(account, conditions[name, account_id], now)
    states = list(TONES)
    names = itemgetter("workspace", "platform", "account_id")
    return sorted(by_identity.values(), key=lambda each: (states.index(each["state"]), names(each)))


def _apply(account: Account, name: str, labels: Mapping[str, str], value: float) -> None:
    """Add a sample to its account."""
    if name == "info":
        account["username"] = "" if labels["username"] == UNKNOWN else labels["username"]
    elif name == "health":
        if value:
            account["health"] = labels["status"]
    elif name == "logs_total":
        if labels["status"] in (SUCCESS, FAILED):
            account[labels["status"]] += int(value)
    else:
        account[name] = value


def _issues(conditions: Mapping[str, Condition], now: float) -> Iterator[str]:
    """Yield what the page says about an account."""
    if "blocked" in conditions and conditions["blocked"].text:
        yield conditions["blocked"].text
    if "messaging" in conditions:
        yield f"messages restricted: {conditions['messaging'].text}".rstrip(": ")
    if "analytics" in conditions:
        yield f"analytics sync {conditions['analytics'].text.replace('_', ' ')}"
    if "at_risk" in conditions:
        at_risk = conditions["at_risk"]
        yield f"{at_risk.text}, due {relative_time(at_risk.at, now, coarse=True)}"


def _state_of(account: Account, conditions: Mapping[str, Condition], now: float) -> str:
    """Return the worst state that applies."""
    if account.get("needs_reconnect", 0):
        return "reconnect"
    if not account.get("can_post", 1):
        return "blocked"
    # An account that the API does not list any more is only known by the posts that wait for it.
    if not account.get("connected", 1) or "at_risk" in conditions:
        return "disconnected"
    if account.get(COOLDOWN, 0) > now:
        return "cooldown"
    if account.get("consecutive_failures", 0):
        return "failing"
    # The page knows the tokens that Zernio does not renew by itself.
    token = conditions.get("token")
    is_expiring = token is not None and token.at < now + TOKEN_LEFT_WARNING_SECONDS
    return "expiring" if is_expiring else "ok"


def _row(account: Account, now: float) -> Row:
    success = account.get("last_success_timestamp_seconds")
    count = account["success"] + account["failed"]
    details = (account["workspace"], account["account_id"], *_details(account, now))
    cells = {
        "STATE": account["state"],
        "PLATFORM": account["platform"],
        "ACCOUNT": account["username"] or account["account_id"],
        "FAILED>": f"{account['failed']:,} of {count:,}",
        "IN A ROW>": f"{account.get('consecutive_failures', 0):,.0f}",
        "LAST SUCCESS": relative_time(success, now, coarse=True) if success else "",
        "DETAIL": ", ".join(details),
    }
    return Row(cells, TONES[account["state"]])


def _details(account: Account, now: float) -> Iterator[str]:
    if account["health"] not in ("", "healthy"):
        yield f"health {account['health']}"
    if account["issue"]:
        yield account["issue"]
    pause = account.get(COOLDOWN, 0) - now
    if pause > 0:
        yield f"in cooldown for {human_duration(pause, rough=True)}"
    expiry = account.get(EXPIRY, math.inf)
    if expiry < now + SHOWN_SECONDS:
        verb = "expires" if expiry > now else "expired"
        yield f"token {verb} {relative_time(expiry, now, coarse=True)}"
