"""Publishing logs, ``GET /v1/posts/logs``: attempts to publish posts on platforms."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any

import msgspec

from late_exporter.feeds import decoder
from late_exporter.feeds.feed import Feed, LogView, RawLog
from late_exporter.feeds.schema import DocumentedObject, value_checker
from late_exporter.feeds.view import log_view, row_text
from late_exporter.feeds.vocabulary import ACTIONS, FAILURE_CATEGORIES, STATUSES
from late_exporter.model import (
    DAY_MS,
    FAILED,
    MINUTE_MS,
    SUCCESS,
    UNKNOWN,
    IncCounter,
    Increment,
    LogEntry,
    LogKind,
    ObserveLog,
    RecordAttempt,
    SetByLog,
    SetLatest,
)

ATTEMPTS = ("publish", "retry")
"""Actions that are attempts to publish."""

POST_SPACING_MS = 5 * MINUTE_MS
"""Time within which failures may be those of one post, on its accounts or by its retries.

Failed retries do not count anyway, but generation ``zernio`` does not document their number.
"""

FINAL_STATUSES = (SUCCESS, FAILED)
"""Statuses of attempts that have ended."""

WORD_BREAKS = re.compile(r"\W+|(?<=[a-z0-9])(?=[A-Z])")
"""What separates the words of an error code, in whatever style it is written."""

CATEGORIES_BY_CODE = (
    ("platform_rate_limit", ("RATE_LIMIT", "TOO_MANY", "THROTTL")),
    ("quota_exhausted", ("QUOTA", "DAILY_LIMIT", "SPEND_LIMIT", "SPEND_CAP", "CREDITS")),
    ("auth_expired", ("TOKEN", "AUTH", "CREDENTIAL", "SESSION_EXPIRED")),
    ("account_issue", ("ACCOUNT", "SUSPENDED", "DISABLED", "RESTRICTED", "BANNED")),
    ("user_abuse", ("SPAM", "ABUSE")),
    (
        "user_content",
        (
            *("MEDIA", "VIDEO", "IMAGE", "UPLOAD", "CONTENT", "CAPTION"),
            *("DUPLICATE", "TEXT", "HASHTAG", "VALIDATION"),
        ),
    ),
    ("platform_rejected", ("PERMISSION", "FORBIDDEN", "POLICY", "REJECTED")),
    ("platform_error", ("UNAVAILABLE", "BAD_GATEWAY", "UPSTREAM", "OUTAGE", "MAINTENANCE")),
)
"""Failure categories, and the words of error codes that have them; the first match applies."""

CATEGORIES_BY_STATUS = {
    401: "auth_expired",
    402: "quota_exhausted",
    413: "user_content",
    415: "user_content",
    429: "platform_rate_limit",
}
"""Failure categories by HTTP status codes that are clearer than the action."""

VENDOR_CODES = ("TIMEOUT", "TIMED_OUT", "INTERNAL", "NETWORK", "SERVER_ERROR", "SYSTEM")
"""Words of error codes that without a response of the platform mean a failure of the vendor."""

CATEGORIES_BY_ACTION = {"media_upload": "user_content", "token_refresh": "auth_expired"}


class PostReference(DocumentedObject):
    """A post that is embedded in a log."""

    id: str | None = msgspec.field(default=None, name="_id")
    content: str | None = None
    status: str | None = None


class PlatformRequest(DocumentedObject, rename="camel"):
    """The request to the platform."""

    content_preview: str | None = None
    media_count: int | float | None = None
    media_types: list[Any] | None = None
    media_urls: list[Any] | None = None
    scheduled_for: str | None = None
    raw_body: msgspec.Raw = msgspec.Raw()


class PlatformResponse(DocumentedObject, rename="camel"):
    """The response of the platform."""

    platform_post_id: str | None = None
    platform_post_url: str | None = None
    error_message: str | None = None
    error_code: str | None = None
    raw_body: msgspec.Raw = msgspec.Raw()


class PublishingRow(DocumentedObject, rename="camel", kw_only=True):
    """A publishing log as sent by the API."""

    id: decoder.Id = msgspec.field(name="_id")
    post_id: str | PostReference | None = None
    user_id: str | None = None
    profile_id: str | None = None
    platform: str
    account_id: str | None = None
    account_username: str | None = None
    action: str
    status: str
    status_code: int | None = None
    endpoint: str | None = None
    request: PlatformRequest | None = None
    response: PlatformResponse | None = None
    duration_ms: int | float | None = None
    attempt_number: int | float | None = None
    created_at: str


_check_values = value_checker({"action": ACTIONS.__contains__, "status": STATUSES.__contains__})


def _entry(row: PublishingRow) -> LogEntry:
    post = row.post_id.id if isinstance(row.post_id, PostReference) else row.post_id
    response = row.response or PlatformResponse()
    action = decoder.label_text(row.action)
    status = decoder.label_text(row.status)
    created = decoder.parse_millis(row.created_at)
    duration = decoder.to_micros(row.duration_ms, 1000)

    scheduled_for = None
    has_link = None
    if is_published(action, status):
        scheduled_for = row.request.scheduled_for if row.request else None
        has_link = bool(response.platform_post_url) if row.response else None
    return LogEntry(
        key=decoder.log_key(row.id),
        status=status,
        created=created,
        platform=decoder.label_text(row.platform),
        action=action,
        # Dots would change the path of a request.
        post_id=decoder.id_text(post) if post and post.strip(".") else None,
        account_id=decoder.optional_text(row.account_id),
        username=decoder.label_text(row.account_username),
        profile_id=decoder.optional_text(row.profile_id),
        status_code=row.status_code,
        error_code=decoder.optional_text(response.error_code),
        error=decoder.error_text(response.error_message),
        duration=duration,
        delay=publishing_delay(scheduled_for, created, duration),
        attempt=decoder.to_micros(row.attempt_number, 1),
        has_link=has_link,
        deviations=_check_values(action, status),
    )


def is_published(action: str, status: str) -> bool:
    """Return whether a log is an attempt that has published its post."""
    return status == SUCCESS and action in ATTEMPTS


def publishing_delay(
    scheduled_for: str | None, created: int | None, duration: int | None
) -> int | None:
    """Return the microseconds from the scheduled time to the end of an attempt, if known."""
    scheduled = decoder.parse_millis(scheduled_for)
    if scheduled is None or created is None:
        return None
    return decoder.to_micros(max(0, (created - scheduled) * 1000 + (duration or 0)), 1)


def failure_category(log: LogKind) -> str:  # noqa: PLR0911 - the first rule that matches
    """Return why a log failed: by its error code, else its status code, else its action."""
    code = WORD_BREAKS.sub("_", log.error_code or "").upper()
    if code.lower() in FAILURE_CATEGORIES:
        return code.lower()
    for category, words in CATEGORIES_BY_CODE:
        if _contains_any(code, words):
            return category

    status = log.status_code or 0
    if status in CATEGORIES_BY_STATUS:
        return CATEGORIES_BY_STATUS[status]
    if log.action == "rate_limit_pause":
        return "platform_rate_limit"
    if status == HTTPStatus.REQUEST_TIMEOUT or 500 <= status <= 599:  # noqa: PLR2004 - server errors
        return "platform_error"
    if _contains_any(code, VENDOR_CODES):
        return "system_error"
    if log.action in CATEGORIES_BY_ACTION:
        return CATEGORIES_BY_ACTION[log.action]
    if status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY):
        return "user_content"
    return "platform_rejected" if 400 <= status <= 499 else UNKNOWN  # noqa: PLR2004 - client errors


def _contains_any(code: str, words: Iterable[str]) -> bool:
    return any(word in code for word in words)


def project(workspace: str, log: LogKind) -> Iterator[Increment]:
    platform = (workspace, log.platform)
    status = log.status
    labels = (*platform, log.action, status)
    yield IncCounter("late_publishing_logs_total", labels)
    if log.duration is not None:
        yield ObserveLog(
            "late_publishing_duration_seconds", labels, number="duration", has_exemplar=True
        )
    yield SetByLog("late_publishing_last_log_timestamp_seconds", labels)
    if status == FAILED:
        failure = (*platform, log.action, failure_category(log), status_code_label(log))
        yield IncCounter("late_publishing_failures_total", failure)
    if log.action == "rate_limit_pause":
        yield IncCounter("late_publishing_rate_limit_pauses_total", platform, once_per_log=True)
    if log.action == "retry":
        yield IncCounter("late_publishing_retries_total", (*platform, status))
    if log.action == "token_refresh":
        account = (*platform, log.account_id or UNKNOWN)
        yield IncCounter("late_account_token_refreshes_total", (*account, status))
    if log.action in ATTEMPTS:
        yield from _attempt(platform, log)


def _attempt(platform: tuple[str, str], log: LogKind) -> Iterator[Increment]:
    if log.status in FINAL_STATUSES:
        yield IncCounter("late_publishing_attempts_total", (*platform, log.status))
    if log.delay is not None:
        yield ObserveLog("late_publishing_delay_seconds", platform, number="delay")
    if log.has_link is False:
        yield IncCounter("late_publishing_without_link_total", platform)
    is_success = log.status == SUCCESS
    if is_success or (log.status == FAILED and log.action == "publish"):
        for family, labels in (
            ("late_publishing_consecutive_failures", platform),
            ("late_workspace_consecutive_failures", platform[:1]),
        ):
            yield RecordAttempt(family, labels, failed=not is_success, spacing=POST_SPACING_MS)
    account = (*platform, log.account_id or UNKNOWN)
    yield IncCounter("late_account_logs_total", (*account, log.status))
    if log.account_id is None:
        return
    names = (log.username or UNKNOWN, log.profile_id or UNKNOWN)
    if log.username in (None, UNKNOWN):
        yield SetLatest("late_account_info", account, at=0, value=names)
    else:
        yield SetByLog("late_account_info", account, value=names)
    if log.status in FINAL_STATUSES:
        yield RecordAttempt("late_account_consecutive_failures", account, failed=not is_success)
    if is_success:
        yield SetByLog("late_account_last_success_timestamp_seconds", account)


def status_code_label(log: LogKind) -> str:
    code = log.status_code
    return str(code) if code is not None and 100 <= code <= 599 else "none"  # noqa: PLR2004 - the range of HTTP


def view(row: RawLog, entry: LogEntry) -> LogView:
    return msgspec.structs.replace(
        log_view(row, entry),
        url=row_text(row, "response", "platformPostUrl"),
        scheduled_for=row_text(row, "request", "scheduledFor"),
        caption=row_text(row, "request", "contentPreview") or row_text(row, "postId", "content"),
    )


FEED = Feed(
    name="publishing",
    path="/v1/posts/logs",
    retention=7 * DAY_MS,
    parse=decoder.LogListDecoder(PublishingRow, _entry).parse,
    view=view,
    project=project,
    counter="late_publishing_logs_total",
    subset_counters={
        "late_publishing_attempts_total": {"action": ATTEMPTS, "status": FINAL_STATUSES},
        "late_publishing_failures_total": {"status": (FAILED,)},
        "late_publishing_retries_total": {"action": ("retry",)},
    },
    post_path="/v1/posts/{postId}/logs",
)
