"""Which generation of the API a base URL speaks: asked once, and again where its lists are gone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from late_exporter.errors import ApiUnavailable
from late_exporter.feeds import GENERATIONS
from late_exporter.model import Feed
from late_exporter.protocols import Client, Log

__all__ = ["AUTO", "Dialect"]

AUTO = "auto"

PATIENCE = 3
"""Answers of 404 in a row after which the API is asked again: one may be a deployment at the vendor's."""


class Dialect:
    """The generation that a base URL speaks, for all who read from there.

    Where it speaks both, ``late`` is chosen: its logs have ids.

    Args:
        asked: What the user has chosen: ``auto`` or a generation.
        log: Hears of what is found.
    """

    def __init__(self, asked: str, *, log: Log) -> None:
        self._asked = asked
        self._log = log
        self._absent = 0
        self._asking = asyncio.Lock()
        self.generation = None if asked == AUTO else asked

    async def feed(self, name: str, client: Client, *, bound: str | None) -> Feed:
        """The feed of that name as the API speaks; asks where that is not known.

        Args:
            name: Of the feed.
            client: Asks.
            bound: The generation that the state has its logs from; from ``zernio`` there is no way back to ids.

        Raises:
            ApiError: It cannot be known, or the generation has no such feed.
        """
        if bound == "zernio":
            return self._of("zernio", name)
        async with self._asking:
            if self.generation is None:
                self.generation = await self._ask(client)
                self._absent = 0
                self._log.info("generation of the API", generation=self.generation)
        return self._of(self.generation, name)

    def likely(self, name: str, *, bound: str | None) -> Feed:
        """The feed of that name before the API was asked: that of the state, or the best guess."""
        generation = bound or self.generation or "late"
        return next(feeds[name] for feeds in (GENERATIONS[generation], *GENERATIONS.values()) if name in feeds)

    def _of(self, generation: str, name: str) -> Feed:
        feeds = GENERATIONS[generation]
        if name not in feeds:
            raise ApiUnavailable(f"generation {generation} of the API has no {name} logs; take it out of --poll.feeds")
        if generation != self._asked != AUTO:
            raise ApiUnavailable(
                f"the state was counted from generation {generation}, whose logs have no ids: use --api.generation "
                f"{generation} or auto, or another --state.url"
            )
        return feeds[name]

    async def _ask(self, client: Client) -> str:
        for generation, feeds in GENERATIONS.items():
            if await speaks(feeds["publishing"], client):
                return generation
        paths = " nor ".join(feeds["publishing"].path for feeds in GENERATIONS.values())
        raise ApiUnavailable(f"404: the API has neither {paths}; look at --api.base-url")

    def note(self, *, present: bool) -> None:
        """Take note of whether a list was there; the API is asked again where it is gone for good."""
        self._absent = 0 if present else self._absent + 1
        if self._absent >= PATIENCE and self._asked == AUTO:
            self.generation = None


async def speaks(feed: Feed, client: Client) -> bool:
    """Whether the API has the list of a feed; raises ApiError where it does not tell."""
    params: Mapping[str, str | int] = {**feed.query, "limit": 1}
    return await client.get(feed.path, params, endpoint=feed.path) is not None
