"""Simulated platforms: 13 social networks with traffic, durations and failures; phones."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class PublishFailure(msgspec.Struct, frozen=True):
    """Failure of a publish attempt. ``is_retryable``: a later attempt can succeed."""

    status_code: int
    code: str
    message: str
    is_retryable: bool = False


class SimulatedPlatform(msgspec.Struct, frozen=True):
    """Social network, or one of phone numbers without posts.

    Args:
        name: Name in the API.
        weight: Weight in the choice of a post's platforms.
        median_seconds: Median duration of a publish attempt, in seconds.
        sigma: Sigma of the log-normal duration.
        failure_rate: Share of attempts that fail without an incident, low enough for an objective
            of 99 %.
        post_kinds: Accepted kinds of posts.
        failures: Failures and their weights.
    """

    name: str
    weight: float
    median_seconds: float
    sigma: float
    failure_rate: float
    post_kinds: tuple[str, ...]
    failures: Mapping[PublishFailure, float]


RATE_LIMITED = PublishFailure(429, "RATE_LIMITED", "Rate limit exceeded", is_retryable=True)
TOKEN_EXPIRED = PublishFailure(401, "TOKEN_EXPIRED", "The access token has expired")
COOLDOWN = PublishFailure(
    429, "ACCOUNT_COOLDOWN", "Publishing to this account is paused after errors"
)
OUTAGE = PublishFailure(503, "SERVICE_UNAVAILABLE", "Service unavailable", is_retryable=True)
SERVER_ERROR = PublishFailure(500, "INTERNAL_ERROR", "Please retry later", is_retryable=True)
TIMEOUT = PublishFailure(504, "TIMEOUT", "The platform did not answer in time", is_retryable=True)
STUCK = PublishFailure(504, "TIMEOUT", "The platform did not answer in time")
DENIED = PublishFailure(403, "PERMISSION_DENIED", "The account lacks the permission to publish")
UPLOAD_FAILED = PublishFailure(
    400, "MEDIA_UPLOAD_FAILED", "The media could not be processed", is_retryable=True
)
_COMMON = {SERVER_ERROR: 1.0, TIMEOUT: 0.6, DENIED: 0.6}
_UPLOAD = {UPLOAD_FAILED: 2.0}
_LIMIT = {RATE_LIMITED: 2.0}
_OFTEN_LIMITED = {RATE_LIMITED: 4.0}
_SPAM = {PublishFailure(403, "TOO_MANY_POSTS", "Daily post cap reached"): 3.0}
_QUOTA = {PublishFailure(403, "QUOTA_EXCEEDED", "The request exceeds the daily quota"): 3.0}
_INVALID = {PublishFailure(400, "INVALID_PARAMETER", "Unsupported content"): 3.0}
_DUPLICATE = {PublishFailure(403, "DUPLICATE", "Content is a duplicate"): 3.0}
_NOT_ALLOWED = {PublishFailure(403, "NOT_ALLOWED", "Posting is not allowed there"): 3.0}
_ANY = ("text", "image", "video")
_MEDIA = ("image", "video")
_VIDEO = ("video",)

_PLATFORM_LIST = (
    SimulatedPlatform("tiktok", 0.9, 9.0, 0.7, 0.006, _VIDEO, _SPAM | _UPLOAD | _COMMON),
    SimulatedPlatform(
        "instagram", 1.6, 4.5, 0.6, 0.004, _MEDIA, _INVALID | _UPLOAD | _LIMIT | _COMMON
    ),
    SimulatedPlatform("facebook", 1.3, 2.2, 0.5, 0.003, _ANY, _INVALID | _LIMIT | _COMMON),
    SimulatedPlatform("youtube", 0.7, 24.0, 0.8, 0.005, _VIDEO, _QUOTA | _UPLOAD | _COMMON),
    SimulatedPlatform("linkedin", 1.0, 1.6, 0.4, 0.002, _ANY, _DUPLICATE | _LIMIT | _COMMON),
    SimulatedPlatform("twitter", 1.4, 0.9, 0.5, 0.005, _ANY, _DUPLICATE | _OFTEN_LIMITED | _COMMON),
    SimulatedPlatform("threads", 0.8, 3.2, 0.5, 0.003, _ANY, _INVALID | _LIMIT | _COMMON),
    SimulatedPlatform("pinterest", 0.5, 2.6, 0.5, 0.003, _MEDIA, _INVALID | _LIMIT | _COMMON),
    SimulatedPlatform("reddit", 0.4, 1.3, 0.6, 0.009, _ANY, _NOT_ALLOWED | _LIMIT | _COMMON),
    SimulatedPlatform("bluesky", 0.6, 0.7, 0.3, 0.002, _ANY, _INVALID | _LIMIT | _COMMON),
    SimulatedPlatform(
        "googlebusiness", 0.3, 2.0, 0.4, 0.004, ("text", "image"), _INVALID | _LIMIT | _COMMON
    ),
    SimulatedPlatform("telegram", 0.5, 0.5, 0.4, 0.002, _ANY, _NOT_ALLOWED | _LIMIT | _COMMON),
    SimulatedPlatform("snapchat", 0.3, 7.0, 0.6, 0.006, _MEDIA, _INVALID | _UPLOAD | _COMMON),
    *(SimulatedPlatform(name, 0.0, 1.0, 0.0, 0.0, (), {}) for name in ("phone", "sms")),
)
PLATFORMS: Mapping[str, SimulatedPlatform] = {
    platform.name: platform for platform in _PLATFORM_LIST
}
