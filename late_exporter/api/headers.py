"""Parse response headers: rate limit, waiting time after a 429, clock and request id."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

from late_exporter.health import Quota

MINUTE = 60.0
MAX_RETRY_AFTER = 86_400.0
"""Longest wait in seconds; a header that asks for a longer one is assumed to be wrong."""

MAX_RATE_LIMIT = 10**9

_REQUEST_ID = re.compile(r"[0-9A-Za-z._:/+=@-]{1,64}")


def parse_quota(headers: Mapping[str, str]) -> Quota | None:
    """Return the rate limit of the key, None if it is not reported."""
    limit, remaining, reset = (
        parse_number(headers.get(f"X-RateLimit-{name}")) for name in ("Limit", "Remaining", "Reset")
    )
    if limit is None or not 1 <= limit <= MAX_RATE_LIMIT or remaining is None:
        return None
    return Quota(int(limit), int(remaining), reset)


def retry_delay(headers: Mapping[str, str]) -> float:
    """Return the seconds to wait after a 429: those of Retry-After, or a minute."""
    seconds = parse_number(headers.get("Retry-After"))
    return MINUTE if seconds is None or seconds < 0 else min(seconds, MAX_RETRY_AFTER)


def request_id(headers: Mapping[str, str]) -> str:
    """Return the id that the API gave to a request; empty if it has none, or one that is not fit for a message."""
    text = headers.get("X-Request-Id", "").strip()
    return text if _REQUEST_ID.fullmatch(text) else ""


def parse_number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def parse_date(text: str | None) -> float | None:
    try:
        return (
            parsedate_to_datetime(text or "").replace(tzinfo=UTC).timestamp()
        )  # Dates of HTTP are in UTC.
    except (ValueError, TypeError, OverflowError):
        return None
