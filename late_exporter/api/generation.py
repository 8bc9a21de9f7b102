"""Which generation of the API a base URL speaks: asked once, and again where its lists are gone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from late_exporter.errors import ApiUnavailable
from late_exporter.feeds import GENERATIONS
from late_exporter.model import Feed
from late_exporter.protocols import Client, Logger

__all__ = ["AUTO", "ApiGeneration"]

AUTO = "auto"

MAX_NOT_FOUND = 3
"""Answers of 404 in a row after which the API is asked again: one may be a deployment at the vendor's."""


class ApiGeneration:
    """The generation that a base URL speaks, for all who read from there.

    Where it speaks both, ``late`` is chosen: its logs have ids.

    Args:
        asked: What the user has chosen: ``auto`` or a generation.
        log: Hears of what is found.
    """

    def __init__(self, configured: str, *, logger: Logger) -> None:
        self._configured = configured
        self._logger = logger
        self._not_found_count = 0
        self._lock = asyncio.Lock()
        self.name = None if configured == AUTO else configured

    async def resolve_feed(self, name: str, client: Client, *, state_generation: str | None) -> Feed:
        """The feed of that name as the API speaks; asks where that is not known.

        Args:
            name: Of the feed.
            client: Asks.
            state_generation: The generation that the state has its logs from; from ``zernio`` there is no way back to ids.

        Raises:
            ApiError: It cannot be known, or the generation has no such feed.
        """
        if state_generation == "zernio":
            return self._feed_of("zernio", name)
        async with self._lock:
            if self.name is None:
                self.name = await self._detect(client)
                self._not_found_count = 0
                self._logger.info("generation of the API", generation=self.name)
        return self._feed_of(self.name, name)

    def initial_feed(self, name: str, *, state_generation: str | None) -> Feed:
        """The feed of that name before the API was asked: that of the state, or the best guess."""
        generation = state_generation or self.name or "late"
        return next(feeds[name] for feeds in (GENERATIONS[generation], *GENERATIONS.values()) if name in feeds)

    def _feed_of(self, generation: str, name: str) -> Feed:
        feeds = GENERATIONS[generation]
        if name not in feeds:
            raise ApiUnavailable(f"generation {generation} of the API has no {name} logs; take it out of --poll.feeds")
        if generation != self._configured != AUTO:
            raise ApiUnavailable(
                f"the state was counted from generation {generation}, whose logs have no ids: use --api.generation "
                f"{generation} or auto, or another --state.url"
            )
        return feeds[name]

    async def _detect(self, client: Client) -> str:
        for generation, feeds in GENERATIONS.items():
            if await has_feed(feeds["publishing"], client):
                return generation
        paths = " nor ".join(feeds["publishing"].path for feeds in GENERATIONS.values())
        raise ApiUnavailable(f"404: the API has neither {paths}; look at --api.base-url")

    def report_list(self, *, exists: bool) -> None:
        """Take note of whether a list was there; the API is asked again where it is gone for good."""
        self._not_found_count = 0 if exists else self._not_found_count + 1
        if self._not_found_count >= MAX_NOT_FOUND and self._configured == AUTO:
            self.name = None


async def has_feed(feed: Feed, client: Client) -> bool:
    """Whether the API has the list of a feed; raises ApiError where it does not tell."""
    params: Mapping[str, str | int] = {**feed.query, "limit": 1}
    return await client.get(feed.path, params, path_template=feed.path) is not None
