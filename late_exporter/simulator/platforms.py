"""The 13 platforms: how much is posted to each, how long a post takes there, and what goes wrong."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

__all__ = ["MEDIA_UPLOAD_FAILED", "OUTAGE", "PLATFORMS", "RATE_LIMITED", "TOKEN_EXPIRED", "Failure", "Platform"]


class Failure(msgspec.Struct, frozen=True):
    """One way in which a platform refuses a post; ``retried`` where a later attempt can succeed."""

    status_code: int
    code: str
    message: str
    retried: bool = False


class Platform(msgspec.Struct, frozen=True):
    """One social network.

    Args:
        name: As the API spells it.
        share: Its weight among the platforms a post goes to.
        latency: Median duration of a publish, in seconds.
        spread: Sigma of the log-normal duration.
        failing: Share of attempts that fail on an ordinary day, few enough for an objective of 99 %.
        media: Kinds of posts it takes.
        endpoint: What the log names as the endpoint.
        url: Of a published post, up to its id.
        failures: Ways to fail and their weights.
    """

    name: str
    share: float
    latency: float
    spread: float
    failing: float
    media: tuple[str, ...]
    endpoint: str
    url: str
    failures: tuple[tuple[float, Failure], ...]


RATE_LIMITED = Failure(429, "RATE_LIMITED", "Rate limit exceeded", retried=True)
TOKEN_EXPIRED = Failure(401, "TOKEN_EXPIRED", "The access token has expired. Please reconnect the account.")
MEDIA_UPLOAD_FAILED = Failure(
    400, "MEDIA_UPLOAD_FAILED", "The media could not be processed by the platform", retried=True
)
OUTAGE = Failure(503, "SERVICE_UNAVAILABLE", "The service is temporarily unavailable", retried=True)

_PERMISSION = Failure(403, "PERMISSION_DENIED", "The account lacks the permission to publish")
_SERVER = Failure(500, "INTERNAL_ERROR", "An unexpected error has occurred. Please retry later.", retried=True)
_GATEWAY = Failure(504, "TIMEOUT", "The platform did not answer in time", retried=True)
_UPLOAD = (2.0, MEDIA_UPLOAD_FAILED)
_LIMIT = (2.0, RATE_LIMITED)
_FAULTS = ((1.0, _SERVER), (0.6, _GATEWAY), (0.6, _PERMISSION))

_ALL = ("text", "image", "video")
_PICTURES = ("image", "video")
_VIDEO = ("video",)


def _refusal(status_code: int, code: str, message: str) -> tuple[float, Failure]:
    return 3.0, Failure(status_code, code, message)


_TABLE = (
    Platform(
        "tiktok", 0.9, 9.0, 0.7, 0.006, _VIDEO, "open.tiktokapis.com/v2/post/publish/video/init/",
        "https://www.tiktok.com/video/",
        (_refusal(403, "spam_risk_too_many_posts", "Daily post cap reached for this account"), _UPLOAD, *_FAULTS),
    ),
    Platform(
        "instagram", 1.6, 4.5, 0.6, 0.004, _PICTURES, "graph.facebook.com/me/media_publish",
        "https://www.instagram.com/p/",
        (_refusal(400, "INVALID_ASPECT_RATIO", "The aspect ratio is not supported"), _UPLOAD, _LIMIT, *_FAULTS),
    ),
    Platform(
        "facebook", 1.3, 2.2, 0.5, 0.003, _ALL, "graph.facebook.com/me/feed",
        "https://www.facebook.com/",
        (_refusal(400, "INVALID_PARAMETER", "(#100) Invalid parameter: link"), _LIMIT, *_FAULTS),
    ),
    Platform(
        "youtube", 0.7, 24.0, 0.8, 0.005, _VIDEO, "www.googleapis.com/upload/youtube/v3/videos",
        "https://www.youtube.com/watch?v=",
        (_refusal(403, "quotaExceeded", "The request exceeds the daily quota"), _UPLOAD, *_FAULTS),
    ),
    Platform(
        "linkedin", 1.0, 1.6, 0.4, 0.002, _ALL, "api.linkedin.com/rest/posts",
        "https://www.linkedin.com/feed/update/",
        (_refusal(422, "DUPLICATE_POST", "Content is a duplicate of an earlier post"), _LIMIT, *_FAULTS),
    ),
    Platform(
        "twitter", 1.4, 0.9, 0.5, 0.005, _ALL, "api.x.com/2/tweets",
        "https://x.com/i/status/",
        (_refusal(403, "DUPLICATE_CONTENT", "Duplicate content is not allowed"), (4.0, RATE_LIMITED), *_FAULTS),
    ),
    Platform(
        "threads", 0.8, 3.2, 0.5, 0.003, _ALL, "graph.threads.net/v1.0/me/threads_publish",
        "https://www.threads.net/post/",
        (_refusal(400, "TEXT_TOO_LONG", "The text exceeds 500 characters"), _LIMIT, *_FAULTS),
    ),
    Platform(
        "pinterest", 0.5, 2.6, 0.5, 0.003, _PICTURES, "api.pinterest.com/v5/pins",
        "https://www.pinterest.com/pin/",
        (_refusal(400, "INVALID_BOARD", "The board does not exist"), _LIMIT, *_FAULTS),
    ),
    Platform(
        "reddit", 0.4, 1.3, 0.6, 0.009, _ALL, "oauth.reddit.com/api/submit",
        "https://www.reddit.com/comments/",
        (_refusal(403, "SUBREDDIT_NOTALLOWED", "You are not allowed to post there"), _LIMIT, *_FAULTS),
    ),
    Platform(
        "bluesky", 0.6, 0.7, 0.3, 0.002, _ALL, "bsky.social/xrpc/com.atproto.repo.createRecord",
        "https://bsky.app/post/",
        (_refusal(400, "InvalidRequest", "Record text must not be longer than 300 graphemes"), _LIMIT, *_FAULTS),
    ),
    Platform(
        "googlebusiness", 0.3, 2.0, 0.4, 0.004, ("text", "image"), "mybusiness.googleapis.com/v4/localPosts",
        "https://search.google.com/local/posts/",
        (_refusal(400, "INVALID_ARGUMENT", "Phone numbers are not allowed in a post"), _LIMIT, *_FAULTS),
    ),
    Platform(
        "telegram", 0.5, 0.5, 0.4, 0.002, _ALL, "api.telegram.org/sendMessage",
        "https://t.me/c/",
        (_refusal(400, "CHAT_NOT_FOUND", "Bad Request: chat not found"), _LIMIT, *_FAULTS),
    ),
    Platform(
        "snapchat", 0.3, 7.0, 0.6, 0.006, _PICTURES, "businessapi.snapchat.com/v1/spotlights",
        "https://www.snapchat.com/spotlight/",
        (_refusal(400, "UNSUPPORTED_MEDIA", "The video must be between 5 and 60 seconds long"), _UPLOAD, *_FAULTS),
    ),
)  # fmt: skip

PLATFORMS: Mapping[str, Platform] = {platform.name: platform for platform in _TABLE}
