"""Webhooks, ``GET /v1/webhooks/settings``: whether the API delivers events to them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import islice

from late_exporter.feeds.decoder import label_text
from late_exporter.feeds.status_feeds.refresh import (
    Fields,
    Refresh,
    RefreshContext,
    Report,
    StatusFeed,
    StatusRequest,
    parse_response,
)
from late_exporter.health import Condition
from late_exporter.model import SetLatest
from late_exporter.thresholds import WEBHOOK_FAILING_SECONDS, WEBHOOK_FAILURES

URL = re.compile(r".*?://(?:[^/?#]*@)?([^/?#]*).*", re.DOTALL)
"""A text with an address, and the host in it."""

FAILURES = "late_webhook_consecutive_failures"

MAX_WEBHOOKS = 50
"""Webhooks that the API allows to a user."""


def refresh(context: RefreshContext) -> Refresh:
    response = parse_response((yield StatusRequest("/v1/webhooks/settings")))
    rows = list(islice(response.required_objects("webhooks"), MAX_WEBHOOKS))
    reports: list[Report] = []
    for label, row in _webhooks_by_label(rows).items():
        values = {
            "late_webhook_active": row.flag("isActive"),
            "late_webhook_last_fired_timestamp_seconds": row.time("lastFiredAt"),
        }
        reports += context.gauges(values, label)
        is_active = row.flag("isActive")
        if is_active is False:
            reports.append(Condition("webhook", label))
        failure_count = row.amount("failureCount")
        if failure_count is not None:
            failures = _failures_gauge(context, label, failure_count)
            reports.append(failures)
            if is_active is not False and _is_failing_for_long(context, failures):
                reports.append(Condition("webhook_failing", label, failures.at / 1000))
    return reports


def _failures_gauge(context: RefreshContext, label: str, count: float) -> SetLatest:
    """Return the failures in a row, whose time is that of the first refresh with many of them."""
    labels = (context.workspace, label)
    previous = context.previous.get((FAILURES, labels))
    at = context.now
    if previous is not None and _is_many(previous.value) and _is_many(count):
        at = previous.at
    return SetLatest(FAILURES, labels, at=at, value=count)


def _is_failing_for_long(context: RefreshContext, failures: SetLatest) -> bool:
    latest_start = context.seconds - WEBHOOK_FAILING_SECONDS
    return _is_many(failures.value) and failures.at / 1000 <= latest_start


def _is_many(count: float | tuple[str, ...]) -> bool:
    return not isinstance(count, tuple) and count >= WEBHOOK_FAILURES


def _webhooks_by_label(rows: Sequence[Fields]) -> Mapping[str, Fields]:
    """Return the webhooks by a unique label: the name, with the id if several have that name."""
    names = [_webhook_name(row) for row in rows]
    by_label: dict[str, Fields] = {}
    for name, row in zip(names, rows, strict=True):
        label = name if names.count(name) == 1 else f"{name} ({row.text('_id')})"
        by_label[label] = row
    return by_label


def _webhook_name(row: Fields) -> str:
    """Return the name of a webhook; of a URL only the host, because the rest may be secret."""
    return label_text(URL.sub(r"\1", row.text("name") or row.text("_id") or ""))


FEED = StatusFeed(name="webhooks", refresh=refresh)
