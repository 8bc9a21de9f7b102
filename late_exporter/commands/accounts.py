"""The command ``accounts``: the state of every account that the exporter on this machine knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeAlias

from prometheus_client.parser import text_string_to_metric_families

from late_exporter.commands.exporter_client import fetch
from late_exporter.commands.output import warn
from late_exporter.commands.status import parse_status
from late_exporter.commands.tables import Row, Table, print_records
from late_exporter.config.settings import CommandContext
from late_exporter.errors import LateError
from late_exporter.health import Condition, WorkspaceHealth
from late_exporter.model import UNKNOWN
from late_exporter.thresholds import TOKEN_LEFT_WARNING_SECONDS
from late_exporter.web.verdicts import relative_time

PREFIX = "late_account_"
IDENTITY = ("workspace", "platform", "account_id")
LAST_SUCCESS = "last_success_timestamp_seconds"

COLUMNS = ("STATE", "PLATFORM", "ACCOUNT", "IN A ROW>", "LAST SUCCESS", "DETAIL")
STATES = ("reconnect", "blocked", "disconnected", "cooldown", "failing", "expiring", "ok")
"""The worst first."""

DETAILS = {
    "blocked": "{text}",
    "at_risk": "{text}, due {when}",
    "cooldown": "cooldown ends {when}",
    "token": "token expires {when}",
    "messaging": "messages restricted {text}",
    "analytics": "analytics sync {text}",
}
"""What conditions of the status page say about an account, by their kinds."""

Account: TypeAlias = dict[str, Any]
"""An account as JSON has it: labels, state, details, and metrics by their names after PREFIX."""


def accounts(context: CommandContext) -> int:
    """Print the accounts, those in trouble first, and return the exit code."""
    flags = context.flags
    body = fetch(context, context.settings.web.telemetry_path, accept="text/plain;version=0.0.4")
    document = parse_status(fetch(context, "/", accept="application/json"))
    known = parse_accounts(body.decode("utf-8", "replace"), document.workspaces, document.now)
    selection = []
    for account in known:
        is_workspace = flags.workspace in (None, account["workspace"])
        if is_workspace and flags.platform in (None, account["platform"]):
            selection.append(account)
    if not selection:
        warn("no account matches; before the first sync is complete, none is known")

    def row(account: Account) -> Row:
        return _row(account, document.now)

    print_records(selection, flags.format, Table(COLUMNS), row, dict)
    return 0


def parse_accounts(
    text: str, workspaces: Sequence[WorkspaceHealth], now: float
) -> Sequence[Account]:
    """Return the accounts of a response in the Prometheus text format, the worst first.

    Args:
        text: Body of the response.
        workspaces: What the status page says about them.
        now: Unix time.

    Raises:
        LateError: It is not the response of a late-exporter.
    """
    found: dict[tuple[str, ...], Account] = {}
    lines = [line for line in text.splitlines() if line.removeprefix("# TYPE ").startswith(PREFIX)]
    try:
        for family in text_string_to_metric_families("\n".join(lines) + "\n"):
            for name, labels, value, *_ in family.samples:
                identity = {label: labels[label] for label in IDENTITY}
                account = found.setdefault(tuple(identity.values()), {**identity, "username": ""})
                if name == f"{PREFIX}info" and labels["username"] != UNKNOWN:
                    account["username"] = labels["username"]
                elif labels.keys() == identity.keys():
                    account[name.removeprefix(PREFIX)] = value
    except (KeyError, ValueError):
        raise LateError("the response is not that of a late-exporter of this version") from None

    conditions: dict[tuple[str, str], dict[str, Condition]] = {}
    for workspace in workspaces:
        for condition in workspace.status.conditions:
            subject = (workspace.name, condition.subject)
            conditions.setdefault(subject, {})[condition.kind] = condition
    for account in found.values():
        subject = (account["workspace"], account["account_id"])
        reported = conditions.get(subject, {})
        account["state"] = _state_of(account, reported, now)
        account["details"] = list(_details(reported, now))
    names = itemgetter(*IDENTITY)
    return sorted(found.values(), key=lambda each: (STATES.index(each["state"]), names(each)))


def _state_of(account: Account, conditions: Mapping[str, Condition], now: float) -> str:
    """Return the worst state that applies."""
    if account.get("needs_reconnect", 0):
        return "reconnect"
    if not account.get("can_post", 1):
        return "blocked"
    # An account that the API does not list any more is only known by the posts that wait for it.
    if not account.get("connected", 1) or "at_risk" in conditions:
        return "disconnected"
    if account.get("cooldown_until_timestamp_seconds", 0) > now:
        return "cooldown"
    if account.get("consecutive_failures", 0):
        return "failing"
    # The page knows the tokens that Zernio does not renew by itself.
    token = conditions.get("token")
    is_expiring = token is not None and token.at < now + TOKEN_LEFT_WARNING_SECONDS
    return "expiring" if is_expiring else "ok"


def _details(conditions: Mapping[str, Condition], now: float) -> Iterator[str]:
    for kind, wording in DETAILS.items():
        if kind in conditions:
            condition = conditions[kind]
            when = relative_time(condition.at, now, coarse=True)
            yield wording.format(text=condition.text, when=when)


def _row(account: Account, now: float) -> Row:
    success = account.get(LAST_SUCCESS)
    details = (account["workspace"], account["account_id"], *account["details"])
    return {
        "STATE": account["state"],
        "PLATFORM": account["platform"],
        "ACCOUNT": account["username"] or account["account_id"],
        "IN A ROW>": f"{account.get('consecutive_failures', 0):,.0f}",
        "LAST SUCCESS": relative_time(success, now, coarse=True) if success else "",
        "DETAIL": ", ".join(filter(None, details)),
    }
