"""Outcomes of posts on each of their accounts, and the table of them."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from late_exporter.commands.log_views import TONES, WorkspaceLog
from late_exporter.commands.tables import Row, shorten
from late_exporter.feeds.publishing import ATTEMPTS
from late_exporter.model import FAILED, PENDING, SUCCESS

CAPTION_LENGTH = 60
STATES = {"rate_limit_pause": "paused", "cancelled": "cancelled"}
"""States that follow from the action of the newest log; others are its status."""

OUTCOME_COLUMNS = ("STATE", "PLATFORM", "ACCOUNT", "TRY>", "SCHEDULED", "RESULT")
POSTS_COLUMNS = ("TIME", "STATE", "PLATFORM", "ACCOUNT", "TRY>", "POST", "RESULT, CAPTION")


class PostOutcome(msgspec.Struct, kw_only=True):
    """Outcome of a post on an account, with the fields that CSV and JSON have; texts that are unknown are empty.

    Args:
        state: ``published``, ``failed``, ``pending``, ``paused``, ``skipped``, ``cancelled``, or the status of the
            newest log or of the post if it is not one of these.
        time: Time of the newest log; of a post without logs, the time at which it is due.
    """

    workspace: str
    post_id: str
    platform: str
    account_id: str = ""
    username: str = ""
    state: str
    time: str = ""
    scheduled_for: str = ""
    attempts: int = 0
    error_code: str = ""
    error: str = ""
    url: str = ""
    caption: str = ""


class OutcomeCollector:
    """Determines the outcomes of posts from their logs, which are added from new to old."""

    def __init__(self) -> None:
        self._by_platform: dict[tuple[str, str, str], dict[str, PostOutcome]] = {}

    def __iter__(self) -> Iterator[PostOutcome]:
        """Iterate over the outcomes, the post of the newest log first."""
        return (outcome for by_account in self._by_platform.values() for outcome in by_account.values())

    def add(self, item: WorkspaceLog) -> None:
        """Add a log; a published post stays published, whatever was tried afterwards."""
        workspace, log = item
        # A log that does not name its post is of no other.
        by_account = self._by_platform.setdefault((workspace, log.post_id or log.key, log.platform), {})
        # One that does not name its account is of the account that was tried after it.
        account = log.account_id or log.username or next(iter(by_account), "")
        outcome = by_account.get(account)
        if outcome is None:
            outcome = by_account[account] = PostOutcome(
                workspace=workspace,
                post_id=log.post_id,
                platform=log.platform,
                state=STATES.get(log.action, log.status),
                time=log.time,
            )
        if log.action in ATTEMPTS and log.status in (FAILED, SUCCESS, PENDING):
            outcome.attempts = max(outcome.attempts, log.attempt) if log.attempt else outcome.attempts + 1
            if log.status == SUCCESS:
                outcome.state, outcome.url = "published", outcome.url or log.url
        if log.status in (FAILED, "skipped") and not (outcome.error_code or outcome.error):
            outcome.error_code = log.error_code
            outcome.error = log.error or (f"HTTP {log.status_code}" if log.status_code else "")
        for name in ("account_id", "username", "scheduled_for", "caption"):
            setattr(outcome, name, getattr(outcome, name) or getattr(log, name))


def outcome_row(outcome: PostOutcome) -> Row:
    """Return an outcome as a row of a table."""
    error = ": ".join(filter(None, (outcome.error_code, outcome.error)))
    result = outcome.url if outcome.state == "published" else error
    caption = f"“{shorten(outcome.caption, CAPTION_LENGTH)}”" if outcome.caption else ""
    cells = {
        "TIME": outcome.time,
        "STATE": outcome.state,
        "WORKSPACE": outcome.workspace,
        "PLATFORM": outcome.platform,
        "ACCOUNT": outcome.username or outcome.account_id,
        "TRY>": str(outcome.attempts or ""),
        "SCHEDULED": outcome.scheduled_for,
        "POST": outcome.post_id,
        "RESULT": result,
        "RESULT, CAPTION": f"{result} {caption}".strip(),
    }
    return Row(cells, TONES.get(outcome.state, "warn"))
