"""Choose the log list that a command reads: the API's current one, or the one that the state was counted from."""

from __future__ import annotations

from late_exporter.api.generation import ApiGeneration
from late_exporter.errors import ApiUnavailable, ConfigError
from late_exporter.feeds import GENERATIONS
from late_exporter.feeds.feed import Feed
from late_exporter.model import DAY_MS
from late_exporter.protocols import Client
from late_exporter.store.records import Coverage


async def current_feed(name: str, generation: ApiGeneration, client: Client) -> Feed:
    """Return the feed of that name in the API's current generation.

    Raises:
        ConfigError: The configured generation does not have the feed.
        ApiError: The generation cannot be detected.
    """
    feeds = GENERATIONS.get(generation.configured)
    if feeds is not None and name not in feeds:
        message = f"generation {generation.configured} of the API has no {name} logs, only {', '.join(feeds)}"
        raise ConfigError(f"--feed: {message}")
    return await generation.resolve_feed(name, client, state_generation=None)


async def recorded_feed(name: str, generation: ApiGeneration, client: Client, coverage: Coverage | None) -> Feed:
    """Return the feed that the state was counted from, or the current one; raise ApiError if the API has switched."""
    state_generation = coverage.generation if coverage else None
    feed = await generation.resolve_feed(name, client, state_generation=state_generation)
    if state_generation not in (None, feed.generation):
        raise ApiUnavailable(
            f"the API has generation {feed.generation}, but the state was counted from {state_generation}; start the "
            "exporter once to switch the state"
        )
    return feed


def require_retained(since: float | None, feed: Feed) -> None:
    """Raise ConfigError if the API does not keep logs for that many seconds."""
    if since is not None and since * 1000 > feed.retention:
        raise ConfigError(
            f"--since: must be at most {feed.retention // DAY_MS}d, because generation {feed.generation} of the API "
            "keeps logs no longer"
        )
