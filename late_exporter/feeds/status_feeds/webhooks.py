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

URL = re.compile(r".*?://(?:[^/?#]*@)?([^/?#]*).*", re.DOTALL)
"""A text with an address, and the host in it."""

MAX_WEBHOOKS = 50
"""Webhooks that the API allows to a user."""


def refresh(context: RefreshContext) -> Refresh:
    response = parse_response((yield StatusRequest("/v1/webhooks/settings")))
    rows = list(islice(response.required_objects("webhooks"), MAX_WEBHOOKS))
    reports: list[Report] = []
    for label, row in _webhooks_by_label(rows).items():
        values = {
            "late_webhook_active": row.flag("isActive"),
            "late_webhook_consecutive_failures": row.amount("failureCount"),
            "late_webhook_last_fired_timestamp_seconds": row.time("lastFiredAt"),
        }
        reports += context.gauges(values, label)
        if row.flag("isActive") is False:
            reports.append(Condition("webhook", label))
    return reports


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
