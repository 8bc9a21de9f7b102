"""Conversion of stored rows, which have the format of generation ``late``, to the format of ``zernio``."""

from __future__ import annotations

from typing import Any

import msgspec

from late_exporter.simulator.log_list import LogRow, nested_object, post_id

FIELDS = (
    "type", "action", "user_id", "platform", "account_id", "status", "status_code", "error_message", "error_code",
    "duration_ms", "endpoint", "request_body", "response_body", "created_at", "metadata", "request_id",
)  # fmt: skip
REQUEST_FIELDS = ("api_key_id", "method", "path", "ip_address", "user_agent")
"""Further fields of API requests."""

MAX_REQUEST_CHARS = 5_000
MAX_RESPONSE_CHARS = 10_000

ACTIONS = {
    ("publish", "success"): "post.published",
    ("publish", "failed"): "post.failed",
    ("publish", "pending"): "post.publishing",
    ("publish", "skipped"): "post.skipped",
    ("retry", "success"): "post.retried",
    ("retry", "failed"): "post.retry_failed",
    ("retry", "pending"): "post.retrying",
    ("retry", "skipped"): "post.skipped",
    ("media_upload", "success"): "media.uploaded",
    ("media_upload", "failed"): "media.failed",
    ("media_upload", "pending"): "media.uploading",
    ("token_refresh", "success"): "token.refreshed",
    ("token_refresh", "failed"): "token.refresh_failed",
    ("token_refresh", "pending"): "token.refreshing",
}
"""Actions of ``zernio`` by action and status of ``late``."""

STATUS_INDEPENDENT_ACTIONS = {"rate_limit_pause": "post.rate_limited", "cancelled": "post.cancelled"}
"""Actions of ``zernio`` that do not depend on the status."""

EVENTS = {
    "connect_success": "account.connected",
    "connect_failed": "account.connect_failed",
    "disconnect": "account.disconnected",
    "reconnect_success": "account.reconnected",
    "reconnect_failed": "account.reconnect_failed",
}


def publishing_filter_fields(row: LogRow) -> LogRow:
    """Return the filterable fields of a publishing log, which costs less than the whole log."""
    post = post_id(row)
    return {
        "type": "publishing",
        "action": _zernio_action(row.get("action"), row.get("status")),
        "platform": row.get("platform"),
        "account_id": row.get("accountId"),
        "status": row.get("status"),
        "status_code": row.get("statusCode"),
        "request_id": None if post is None else f"req_{post}",
    }


def publishing_row(row: LogRow) -> LogRow:
    response = nested_object(row, "response")
    number = row.get("attemptNumber")
    if number is None and row.get("action") == "retry":
        number = 2
    metadata = {
        "postId": post_id(row),
        "profileId": row.get("profileId"),
        "accountUsername": row.get("accountUsername"),
        "attemptNumber": number,
        "platformPostUrl": response.get("platformPostUrl"),
    }
    return _build_row(
        row,
        **publishing_filter_fields(row),
        error_message=response.get("errorMessage"),
        error_code=response.get("errorCode"),
        endpoint=row.get("endpoint"),
        request_body=_to_json(row.get("request"), MAX_REQUEST_CHARS),
        response_body=_to_json(row.get("response"), MAX_RESPONSE_CHARS),
        metadata=_to_json(_without_nulls(metadata)),
    )


def connection_filter_fields(row: LogRow) -> LogRow:
    event = row.get("eventType")
    return {
        "type": "connections",
        "action": EVENTS.get(event, event) if isinstance(event, str) else event,
        "platform": row.get("platform"),
        "account_id": row.get("accountId"),
        "status": "failed" if isinstance(event, str) and event.endswith("_failed") else "success",
    }


def connection_row(row: LogRow) -> LogRow:
    error, success = nested_object(row, "error"), nested_object(row, "success")
    metadata = {
        "profileId": row.get("profileId"),
        "accountUsername": success.get("username"),
        "connectionMethod": row.get("connectionMethod"),
        "tokenExpiresAt": success.get("tokenExpiresAt"),
        "displayName": success.get("displayName"),
    }
    return _build_row(
        row,
        **connection_filter_fields(row),
        error_message=error.get("message"),
        error_code=error.get("code"),
        response_body=_to_json(row.get("error") or row.get("success"), MAX_RESPONSE_CHARS),
        metadata=_to_json(_without_nulls(metadata)),
    )


def activity_row(row: LogRow) -> LogRow:
    """Return a log that is stored in the format of ``zernio``, without fields that the API does not show."""
    names = (*FIELDS, *REQUEST_FIELDS) if row.get("type") == "api_request" else FIELDS
    return {name: row.get(name) for name in names}


def search_text(log: LogRow) -> str:
    """Return the text that ``search`` looks for matches in, in lower case."""
    names = ("action", "request_id", "metadata", "error_message", "error_code", "request_body", "response_body")
    return "\n".join(text for name in names if isinstance(text := log.get(name), str)).casefold()


def _build_row(row: LogRow, **fields: Any) -> LogRow:
    common_fields = {
        "user_id": row.get("userId"),
        "duration_ms": row.get("durationMs"),
        "created_at": row.get("createdAt"),
    }
    return {**dict.fromkeys(FIELDS), **common_fields, **fields}


def _zernio_action(action: Any, status: Any) -> Any:
    """Return the action of ``zernio``. An unknown action keeps its name."""
    if not isinstance(action, str):
        return action
    default = STATUS_INDEPENDENT_ACTIONS.get(action, action)
    return ACTIONS.get((action, status), default) if isinstance(status, str) else default


def _without_nulls(metadata: LogRow) -> LogRow | None:
    return {name: value for name, value in metadata.items() if value is not None} or None


def _to_json(value: Any, length: int | None = None) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()[:length]
