"""Colors: one meaning per color, and one color per item on all dashboards."""

from __future__ import annotations

from collections.abc import Mapping

GOOD = "#2E7D32"
NOTICE = "#FADE2A"
WARNING = "#FFA940"
BAD = "#C62828"
MUTED = "#667080"
STATUS_COLORS = (GOOD, NOTICE, WARNING, BAD, MUTED)
"""Colors of a status, and of an unknown one; nothing else on a dashboard is green or red.

They are backgrounds. Grafana writes black on a color that is brighter than 180, else white, and on
each of these the contrast of that text is at least 4.5:1. Its own green and orange are below that
brightness, but too bright for white.
"""

NEUTRAL = "blue"
TEXT = "text"
"""Colors of text in both themes: a number without a status, and everything else."""

STATUSES: Mapping[str, str] = {
    "success": GOOD,
    "failed": BAD,
    "pending": NEUTRAL,
    "skipped": MUTED,
    "unknown": "purple",
}
POSTS: Mapping[str, str] = {
    "scheduled": "#3B82F6",
    "publishing": "#A78BFA",
    "pending_approval": "#F59E0B",
    "partial": WARNING,
    "failed": BAD,
}
ACTIONS: Mapping[str, str] = {
    "publish": "#3B82F6",
    "retry": "#F59E0B",
    "media_upload": "#A78BFA",
    "rate_limit_pause": "#EC4899",
    "token_refresh": "#2DD4BF",
    "cancelled": MUTED,
}
CATEGORIES: Mapping[str, str] = {
    "auth_expired": "#A78BFA",
    "account_issue": "#6366F1",
    "user_content": "#EAB308",
    "user_abuse": "#B45309",
    "platform_rejected": "#F97316",
    "platform_error": "#DC2626",
    "platform_rate_limit": "#EC4899",
    "quota_exhausted": "#F9A8D4",
    "system_error": "#38BDF8",
    "unknown": MUTED,
}
STATUS_CODES: Mapping[str, str] = {
    "/^2../": GOOD,
    "/^3../": "#38BDF8",
    "/^4../": "#F97316",
    "/^401/": "#A78BFA",
    "/^403/": "#EAB308",
    "/^429/": "#EC4899",
    "/^5../": BAD,
    "/^503/": "#B91C1C",
    "/^504/": "#FCA5A5",
    "/^[^0-9]/": MUTED,
}
"""Colors of HTTP statuses and of error kinds by regular expression; the last match wins."""

OUTCOMES: Mapping[str, str] = {
    "success": GOOD,
    "unauthorized": "#A78BFA",
    "rate_limited": "#EC4899",
    "unavailable": BAD,
    "bad_payload": "#F97316",
    "store_error": "#EAB308",
}
CONNECTION_EVENTS: Mapping[str, str] = {
    "connect_success": GOOD,
    "reconnect_success": "#84CC16",
    "disconnect": "#F97316",
    "connect_failed": BAD,
    "reconnect_failed": "#BE185D",
}
CONNECTION_CODES: Mapping[str, str] = {
    "oauth_denied": "#94A3B8",
    "token_exchange_failed": "#F97316",
    "account_limit_reached": "#EAB308",
}
FEEDS: Mapping[str, str] = {"/publishing$/": "#3B82F6", "/connections$/": "#A78BFA"}
FEED_QUANTILES: Mapping[str, str] = {
    "publishing p50": "#7DD3FC",
    "publishing p95": "#3B82F6",
    "connections p50": "#DDD6FE",
    "connections p95": "#A78BFA",
}
QUANTILES: Mapping[str, str] = {"p50": "#7DD3FC", "p95": "#3B82F6", "p99": "#A78BFA"}
