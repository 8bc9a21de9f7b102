"""Outcomes of posts on each of their accounts, and the table of them."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from late_exporter.commands.log_views import TONES, WorkspaceLog
from late_exporter.commands.tables import Row, shorten
from late_exporter.feeds.feed import LogView
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
        state: ``published``, ``failed``, ``pending``, ``paused``, ``skipped``, ``cancelled``, or
            the status of the newest log or of the post if it is not one of these.
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

    def add(self, log: LogView) -> None:
        """Add a log that is older than those before; a published post stays published, whatever was tried later."""
        if log.action in ATTEMPTS and log.status in (FAILED, SUCCESS, PENDING):
            self.attempts = max(self.attempts, log.attempt or self.attempts + 1)
            if log.status == SUCCESS:
                self.state = "published"
        if not (self.error_code or self.error):
            self.error_code, self.error = _error_of(log)
        for name in ("account_id", "username", "scheduled_for", "url", "caption"):
            setattr(self, name, getattr(self, name) or getattr(log, name))


def _error_of(log: LogView) -> tuple[str, str]:
    """Return code and text of a failure, by default its HTTP status; both are empty if the log is of no failure."""
    if log.status not in (FAILED, "skipped"):
        return "", ""
    return log.error_code, log.error or (f"HTTP {log.status_code}" if log.status_code else "")


class OutcomeCollector:
    """Determines the outcomes of posts from their logs, which are added from new to old."""

    def __init__(self) -> None:
        self._by_platform: dict[tuple[str, str, str], dict[str, PostOutcome]] = {}

    def __iter__(self) -> Iterator[PostOutcome]:
        """Iterate over the outcomes, the post of the newest log first."""
        return (
            outcome for by_account in self._by_platform.values() for outcome in by_account.values()
        )

    def add(self, item: WorkspaceLog) -> None:
        workspace, log = item
        # Logs without the id of a post are not grouped.
        by_account = self._by_platform.setdefault(
            (workspace, log.post_id or log.key, log.platform), {}
        )
        # A log without an account belongs to the account of the next newer log.
        account = log.account_id or log.username or next(iter(by_account), "")
        state = STATES.get(log.action, log.status)
        new = PostOutcome(
            workspace=workspace,
            post_id=log.post_id,
            platform=log.platform,
            state=state,
            time=log.time,
        )
        by_account.setdefault(account, new).add(log)


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
