"""Accounts of five simulated customers with a profile each, and captions of their posts."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

import msgspec

from late_exporter.simulator.log_list import JsonObject
from late_exporter.simulator.platforms import PLATFORMS, SimulatedPlatform

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
        ids = {"userId": hashed_id("user"), "profileId": self.profile_id, "accountId": self.id}
        return {**ids, "platform": self.platform.name}


def hashed_id(name: str) -> str:
    """Return an id that looks like an ObjectId of MongoDB."""
    return sha256(name.encode()).hexdigest()[:24]


def _customer_accounts(
    handle: str, display_name: str, platforms: str
) -> Iterator[SimulatedAccount]:
    for name in platforms.split():
        username = (
            display_name
            if name in {"facebook", "googlebusiness", "linkedin", "phone", "sms"}
            else f"@{handle}"
        )
        ids = hashed_id(f"account {handle} {name}"), hashed_id(f"profile {handle}")
        method = "credentials" if name in {"bluesky", "telegram"} else "oauth"
        yield SimulatedAccount(*ids, PLATFORMS[name], username, method)


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
INTERNAL_NUMBERS = tuple(_customer_accounts("acmecorp", "+1 202 555 0100", "phone sms"))
"""Accounts behind a phone number of the vendor, to which nothing is posted."""
