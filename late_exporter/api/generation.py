"""Detect the generation of the API behind a base URL."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from late_exporter.errors import ApiUnavailable
from late_exporter.feeds import GENERATIONS
from late_exporter.model import Feed
from late_exporter.protocols import Client, Logger

AUTO = "auto"

MAX_NOT_FOUND = 3
"""Consecutive 404 responses after which the generation is detected again; a single one may be a deployment."""


class ApiGeneration:
    """Generation of the API behind a base URL, shared by all its workspaces and feeds.

    If the API has both generations, ``late`` is used, because its logs have ids.
    """

    def __init__(self, configured: str, *, logger: Logger) -> None:
        self._configured = configured
        self._logger = logger
        self._not_found_count = 0
        self._lock = asyncio.Lock()
        self.name = None if configured == AUTO else configured

    async def resolve_feed(self, name: str, client: Client, *, state_generation: str | None) -> Feed:
        """Return a feed in the generation of the API; detect the generation if it is not known.

        A state with ``zernio`` logs cannot go back to ids.

        Raises:
            ApiError: The generation cannot be detected, does not have the feed, or contradicts the state.
        """
        if state_generation == "zernio":
            return self._feed_of("zernio", name)
        async with self._lock:
            if self.name is None:
                self.name = await self._detect(client)
                self._not_found_count = 0
                self._logger.info("API generation detected", generation=self.name)
        return self._feed_of(self.name, name)

    def initial_feed(self, name: str, *, state_generation: str | None) -> Feed:
        """Return a feed before the generation is detected: that of the state, or the likeliest."""
        generation = state_generation or self.name or "late"
        return next(feeds[name] for feeds in (GENERATIONS[generation], *GENERATIONS.values()) if name in feeds)

    def _feed_of(self, generation: str, name: str) -> Feed:
        feeds = GENERATIONS[generation]
        if name not in feeds:
            raise ApiUnavailable(f"API generation {generation} has no {name} logs; remove it from --poll.feeds")
        if generation != self._configured != AUTO:
            raise ApiUnavailable(
                f"the state has logs of API generation {generation}, which have no ids: use --api.generation "
                f"{generation} or auto, or another --state.url"
            )
        return feeds[name]

    async def _detect(self, client: Client) -> str:
        for generation, feeds in GENERATIONS.items():
            if await has_feed(feeds["publishing"], client):
                return generation
        paths = " nor ".join(feeds["publishing"].path for feeds in GENERATIONS.values())
        raise ApiUnavailable(f"404: the API has neither {paths}; check --api.base-url")

    def report_list(self, *, exists: bool) -> None:
        """Report whether the API had a list; after several 404 responses the generation is detected again."""
        self._not_found_count = 0 if exists else self._not_found_count + 1
        if self._not_found_count >= MAX_NOT_FOUND and self._configured == AUTO:
            self.name = None


async def has_feed(feed: Feed, client: Client) -> bool:
    """Return whether the API has the list of a feed; raises ApiError if that cannot be determined."""
    params: Mapping[str, str | int] = {**feed.query, "limit": 1}
    return await client.get(feed.path, params, path_template=feed.path) is not None
