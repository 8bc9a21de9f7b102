"""Choose the log list of a feed that is read: that of API generation ``late``, or of ``zernio``.

The documented list is that of generation ``zernio``. The one of generation ``late`` has ids, and
may be switched off any day. The choice is made once, at the first sync of a feed, and recorded in
its state. See docs/how-it-counts.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from late_exporter.api.client import AUTO, LateClient
from late_exporter.api.pages import fetch_page
from late_exporter.errors import ApiError, ApiUnavailable, BadPayload, Forbidden
from late_exporter.feeds import GENERATIONS
from late_exporter.feeds.feed import Feed
from late_exporter.model import LATE, MAX_CLOCK_SKEW_MS, ZERNIO, LogPage

NEWNESS_TOLERANCE = 600_000
"""Milliseconds by which one list may be ahead of the other: the API writes the rows of both by
different paths."""

UNUSABLE_HINT = "check --api.base-url, the rights of the key and the status of the API"

SWITCH_REMEDY = "restart with --api.generation zernio"
SWITCH_HINT = f"if the API has given up this list, {SWITCH_REMEDY}"
"""What to do if a list of generation ``late`` fails for long."""


class ListAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of a log list to a request for its newest log.

    Args:
        error: Reason why the list cannot be used; None if it can.
        newest: Creation time in milliseconds of the newest log that can be counted, if any.
    """

    error: ApiError | None = None
    newest: int | None = None

    def is_ahead_of(self, other: ListAnswer) -> bool:
        """Return whether this list has newer logs than another usable list."""
        if self.error is not None or other.error is not None or self.newest is None:
            return False
        return other.newest is None or self.newest > other.newest + NEWNESS_TOLERANCE


ListAnswers: TypeAlias = Mapping[str, ListAnswer]
"""Answers of the lists of one feed, by generation."""


async def find_feed(name: str, client: LateClient, *, recorded: str | None = None) -> Feed:
    """Return the list of a feed to read.

    It is that of ``--api.generation``, else that of the state, else found by what both answer.

    Args:
        name: Name of the feed.
        client: API client of the workspace.
        recorded: Generation that the state was counted from; None if there is no state. From zernio
            there is no way back.

    Raises:
        ApiError: No list can be used, or the configured one does not fit the feed or the state.
    """
    feeds = lists_of(name)
    generation = client.configured_generation
    if recorded == ZERNIO and generation == LATE:
        raise ApiUnavailable(
            f"the state was counted from API generation {ZERNIO}, whose logs have no ids: use"
            f" --api.generation {ZERNIO} or auto, or another --state.url"
        )
    if generation == AUTO:
        generation = recorded or await _detect_generation(name, client)
    if generation not in feeds:
        raise ApiUnavailable(
            f"API generation {generation} has no {name} logs; remove it from --poll.feeds"
        )
    return feeds[generation]


def lists_of(name: str) -> Mapping[str, Feed]:
    """Return the lists of a feed by generation."""
    return {generation: feeds[name] for generation, feeds in GENERATIONS.items() if name in feeds}


async def _detect_generation(name: str, client: LateClient) -> str:
    if LATE not in lists_of(name):
        return ZERNIO
    answers = await examine_lists(name, client)
    late = answers[LATE]
    zernio = answers[ZERNIO]
    if zernio.error is not None and late.error is not None:
        causes = f"generation {ZERNIO}: {zernio.error}; generation {LATE}: {late.error}"
        message = f"no log list can be read: {causes}; {UNUSABLE_HINT}"
        if isinstance(zernio.error, Forbidden):
            raise Forbidden(message, code=zernio.error.code)
        raise ApiUnavailable(message)
    if late.error is not None or zernio.is_ahead_of(late):
        return ZERNIO
    return LATE if zernio.error is not None or late.newest is not None else ZERNIO


async def examine_lists(name: str, client: LateClient) -> ListAnswers:
    """Request the newest log of each list of a feed, of the documented list first.

    Raises:
        ApiError: The network failed, the key was rejected, or the API is rate limiting requests, so
            nothing is known.
    """
    lists = lists_of(name)
    return {
        generation: await _request_newest(lists[generation], client)
        for generation in (ZERNIO, LATE)
    }


async def _request_newest(feed: Feed, client: LateClient) -> ListAnswer:
    try:
        page, response = await fetch_page(client, feed, filters={"limit": 1})
    except ApiError as exc:
        if not refuses_list(exc):
            raise
        return ListAnswer(error=exc.without_frames())
    # A single log with a wrong time decides nothing.
    latest = math.inf if response.date is None else response.date * 1000 + MAX_CLOCK_SKEW_MS
    counted = LogPage(tuple(entry for entry in page.entries if not entry.rejection_reason))
    return ListAnswer(newest=max((time for time in counted.times if time <= latest), default=None))


def refuses_list(error: ApiError) -> bool:
    """Return whether an error may mean that the API does not provide the list, however it says so.

    A vanished path may answer 400, because it matches that of a post; 403, because no right covers
    it; a redirect, or 200 with something other than a list. A rejected key, a rate limit or a
    failed network says nothing about the list.
    """
    return isinstance(error, BadPayload) or error.status not in (None, 401, 429)
