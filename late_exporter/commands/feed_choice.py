"""Which log list a command is to read: that which the API speaks, or that which the state was counted from."""

from __future__ import annotations

from late_exporter.api.generation import ApiGeneration
from late_exporter.errors import ApiUnavailable, ConfigError
from late_exporter.feeds import GENERATIONS
from late_exporter.model import Coverage, Feed
from late_exporter.protocols import Client

__all__ = ["current_feed", "recorded_feed", "require_retained"]

DAY = 86_400_000


async def current_feed(name: str, dialect: ApiGeneration, client: Client) -> Feed:
    """The feed of that name as the API speaks.

    Raises:
        ApiError: It cannot be known.
        ConfigError: There is none in its generation.
    """
    generation = (await dialect.resolve_feed("publishing", client, state_generation=None)).generation
    feeds = GENERATIONS[generation]
    if name not in feeds:
        raise ConfigError(f"--feed: generation {generation} of the API has no {name} logs, but {', '.join(feeds)}")
    return feeds[name]


async def recorded_feed(name: str, coverage: Coverage | None, dialect: ApiGeneration, client: Client) -> Feed:
    """The feed of that name that the state was counted from, or that would be counted where there is nothing yet.

    Raises:
        ApiError: It cannot be known, or is no longer what the API speaks.
    """
    bound = coverage.generation if coverage else None
    feed = await dialect.resolve_feed(name, client, state_generation=bound)
    if bound not in (None, feed.generation):
        raise ApiUnavailable(
            f"the API speaks generation {feed.generation} and the state was counted from {bound}; start the exporter "
            "once, and it goes on from there"
        )
    return feed


def require_retained(since: float | None, feed: Feed) -> None:
    """Refuse to look further back than logs are kept, in seconds; raises ConfigError."""
    if since is not None and since * 1000 > feed.retention:
        raise ConfigError(
            f"--since: must be at most {feed.retention // DAY}d, as long as generation {feed.generation} of the API "
            "keeps logs"
        )
