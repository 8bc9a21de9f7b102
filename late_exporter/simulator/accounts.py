"""Simulated customers: their accounts, the platforms of these, and the captions of their posts.

Each of the five customers has a profile of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import sha256

import msgspec

from late_exporter.simulator.log_list import JsonObject

CAPTIONS = (
    "Check out our new feature! 🚀",
    "Frische Brezeln ab 6 Uhr — solange der Vorrat reicht 🥨 #Bäckerei #Frühstück",
    "本日のラーメンは味噌です🍜 #東京グルメ",
    "Full time. What a comeback 👏👏 Thank you for travelling with us!",
    "Öffnungszeiten über Ostern: Fr 8-12, Sa geschlossen. Schöne Feiertage wünscht das ganze Team!",
    "新しいコラボ動画を公開しました。チャンネル登録よろしくお願いします🙏",
    "Behind the scenes of today's shoot 🎬 — more in the comments",
    "We are hiring: two designers, one producer, zero egos. Link in bio 👇",
    "Matchday 🔴⚪ Kick-off 15:30, gates open at 14:00. #COYR",
    "3 things we learnt from 1,000 customer interviews 🧵 (1/4)",
    "Nouvelle collection en ligne ✨ Livraison offerte jusqu'à dimanche",
    "Minimal poster no. 42: Nordlicht über Tromsø 🌌 archival print, edition of 50",
    "¡Último día! 20 % de descuento con el código OTOÑO20 🍂",
    "한정판 굿즈 출시! 프로필 링크에서 만나보세요 💜",
    "Thread: why we moved our whole stack, what broke on the way, and what we would do differently"
    " next time. " * 3,
)


class PublishFailure(msgspec.Struct, frozen=True):
    """Failure of a publish attempt.

    Args:
        category: As the API classifies failures of posts.
        source: Who has to solve it: user, platform or system.
        is_retryable: Whether a later attempt can succeed.
    """

    status_code: int
    code: str
    message: str
    category: str = "platform_rejected"
    source: str = "platform"
    is_retryable: bool = False


class SimulatedPlatform(msgspec.Struct, frozen=True):
    """Social network.

    Args:
        name: Name in the API.
        median_seconds: Median duration of a publish attempt, in seconds.
        post_kinds: Accepted kinds of posts.
        failure: Failure that occurs beside those of all platforms.
    """

    name: str
    median_seconds: float
    post_kinds: tuple[str, ...]
    failure: PublishFailure


RATE_LIMITED = PublishFailure(
    429, "RATE_LIMITED", "Rate limit exceeded", "platform_rate_limit", "platform", is_retryable=True
)
TOKEN_EXPIRED = PublishFailure(
    401, "TOKEN_EXPIRED", "The access token has expired", "auth_expired", "user"
)
COOLDOWN = PublishFailure(
    429,
    "ACCOUNT_COOLDOWN",
    "Publishing to this account is paused after errors",
    "account_issue",
    "user",
)
OUTAGE = PublishFailure(
    503,
    "SERVICE_UNAVAILABLE",
    "Service unavailable",
    "platform_error",
    "platform",
    is_retryable=True,
)
SERVER_ERROR = PublishFailure(
    500, "INTERNAL_ERROR", "Please retry later", "platform_error", "platform", is_retryable=True
)
TIMEOUT = PublishFailure(
    504,
    "TIMEOUT",
    "The platform did not answer in time",
    "system_error",
    "system",
    is_retryable=True,
)
DENIED = PublishFailure(403, "PERMISSION_DENIED", "The account lacks the permission to publish")
BANNED = PublishFailure(
    403, "ACCOUNT_BANNED", "The account is banned from publishing", "account_issue", "user"
)
REJECTED = PublishFailure(
    500, "INTERNAL_ERROR", "The post could not be processed", "system_error", "system"
)
UPLOAD_FAILED = PublishFailure(
    400,
    "MEDIA_UPLOAD_FAILED",
    "The media could not be processed",
    "user_content",
    "user",
    is_retryable=True,
)

COMMON_FAILURES = (RATE_LIMITED, SERVER_ERROR, TIMEOUT, DENIED)
_SPAM = PublishFailure(403, "TOO_MANY_POSTS", "Daily post cap reached")
_QUOTA = PublishFailure(403, "QUOTA_EXCEEDED", "The request exceeds the daily quota")
_INVALID = PublishFailure(400, "INVALID_PARAMETER", "Unsupported content")
_DUPLICATE = PublishFailure(403, "DUPLICATE", "Content is a duplicate")
_NOT_ALLOWED = PublishFailure(403, "NOT_ALLOWED", "Posting is not allowed there")

# Kinds of posts.
_ANY = ("text", "image", "video")
_MEDIA = ("image", "video")
_VIDEO = ("video",)

_PLATFORM_LIST = (
    SimulatedPlatform("tiktok", 9.0, _VIDEO, _SPAM),
    SimulatedPlatform("instagram", 4.5, _MEDIA, _INVALID),
    SimulatedPlatform("facebook", 2.2, _ANY, _INVALID),
    SimulatedPlatform("youtube", 24.0, _VIDEO, _QUOTA),
    SimulatedPlatform("linkedin", 1.6, _ANY, _DUPLICATE),
    SimulatedPlatform("twitter", 0.9, _ANY, _DUPLICATE),
    SimulatedPlatform("threads", 3.2, _ANY, _INVALID),
    SimulatedPlatform("pinterest", 2.6, _MEDIA, _INVALID),
    SimulatedPlatform("reddit", 1.3, _ANY, _NOT_ALLOWED),
    SimulatedPlatform("bluesky", 0.7, _ANY, _INVALID),
    SimulatedPlatform("googlebusiness", 2.0, ("text", "image"), _INVALID),
    SimulatedPlatform("telegram", 0.5, _ANY, _NOT_ALLOWED),
    SimulatedPlatform("snapchat", 7.0, _MEDIA, _INVALID),
)
PLATFORMS: Mapping[str, SimulatedPlatform] = {
    platform.name: platform for platform in _PLATFORM_LIST
}


class SimulatedAccount(msgspec.Struct, frozen=True, eq=False):
    """Account of a customer on a platform. ``method`` is the connection method of its logs."""

    id: str
    profile_id: str
    platform: SimulatedPlatform
    username: str
    method: str

    @property
    def owner(self) -> JsonObject:
        """Fields of all logs of the account in generation ``late``."""
        return {
            "userId": hashed_id("user"),
            "profileId": self.profile_id,
            "accountId": self.id,
            "platform": self.platform.name,
        }


def hashed_id(name: str) -> str:
    """Return an id that looks like an ObjectId of MongoDB."""
    return sha256(name.encode()).hexdigest()[:24]


def _customer_accounts(
    handle: str, display_name: str, platforms: str
) -> Iterator[SimulatedAccount]:
    for name in platforms.split():
        has_display_name = name in {"facebook", "googlebusiness", "linkedin"}
        yield SimulatedAccount(
            id=hashed_id(f"account {handle} {name}"),
            profile_id=hashed_id(f"profile {handle}"),
            platform=PLATFORMS[name],
            username=display_name if has_display_name else f"@{handle}",
            method="credentials" if name in {"bluesky", "telegram"} else "oauth",
        )


ACCOUNTS = (
    *_customer_accounts(
        "acmecorp", "Acme Corp", "instagram facebook linkedin twitter youtube threads"
    ),
    *_customer_accounts(
        "baeckerei.mueller", "Bäckerei Müller", "instagram facebook googlebusiness tiktok telegram"
    ),
    *_customer_accounts(
        "tokyo_ramen_club", "東京ラーメン部", "tiktok instagram twitter youtube snapchat threads"
    ),
    *_customer_accounts(
        "nordlicht.studio", "Nordlicht Studio", "pinterest bluesky instagram reddit"
    ),
    *_customer_accounts(
        "riverside_fc", "Riverside FC", "twitter facebook youtube telegram bluesky"
    ),
)
