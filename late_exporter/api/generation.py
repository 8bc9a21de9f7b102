"""Determine which generation of a log list to read.

The documented list is that of generation ``zernio``. The one of generation ``late`` has ids and is read while the API
still writes to it; its answer once it is gone is not documented. See docs/how-it-counts.md.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import TypeAlias
from urllib.parse import urlencode

import msgspec

from late_exporter.api.client import LateClient
from late_exporter.api.pages import fetch_page
from late_exporter.errors import ApiError, ApiUnavailable, BadPayload, Forbidden
from late_exporter.feeds import GENERATIONS
from late_exporter.feeds.feed import Feed
from late_exporter.format import iso_time
from late_exporter.model import LATE, MAX_CLOCK_SKEW_MS, ZERNIO, LogPage
from late_exporter.protocols import Logger

AUTO = "auto"

MAX_REFUSALS = 3
"""Consecutive refusals of a list after which both lists are asked again; a single one may be a deployment."""

EXAMINATION_INTERVAL = 3600.0
"""Seconds between two requests for the newest log of both lists, as the one in use may no longer be written to."""

NEWNESS_TOLERANCE = 600_000
"""Milliseconds by which one list may be ahead of the other: the API writes the rows of both by different paths."""

UNUSABLE_HINT = "check --api.base-url, the rights of the key and the status of the API"


class ListAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of a log list to a request for its newest log.

    Args:
        path: Path and query of the list.
        error: Reason why the list cannot be used; None if it can.
        newest: Creation time in milliseconds of the newest log that can be counted; None if there is none.
    """

    path: str
    error: ApiError | None = None
    newest: int | None = None

    def is_ahead_of(self, other: ListAnswer) -> bool:
        """Return whether this list has logs, and another usable list has only older ones or none."""
        if self.error is not None or other.error is not None or self.newest is None:
            return False
        return other.newest is None or self.newest > other.newest + NEWNESS_TOLERANCE

    def __str__(self) -> str:
        if self.error is not None:
            return f"{self.path} {self.error}"
        return f"{self.path} 200, {'no logs' if self.newest is None else f'newest log {iso_time(self.newest)}'}"


ListAnswers: TypeAlias = Mapping[str, ListAnswer]
"""Answers of the lists of one feed, by generation."""


def lists_of(name: str) -> Mapping[str, Feed]:
    """Return the lists of a feed by generation."""
    return {generation: feeds[name] for generation, feeds in GENERATIONS.items() if name in feeds}


async def examine_lists(name: str, client: LateClient) -> ListAnswers:
    """Request the newest log of each list of a feed, the documented list first.

    Raises:
        ApiError: The network failed, the key was rejected, or the API is rate limiting requests, so nothing is known.
    """
    lists = lists_of(name)
    return {generation: await _request_newest(lists[generation], client) for generation in (ZERNIO, LATE)}


async def _request_newest(feed: Feed, client: LateClient) -> ListAnswer:
    path = f"{feed.path}?{urlencode(feed.query)}" if feed.query else feed.path
    try:
        page, response = await fetch_page(client, feed, filters={"limit": 1})
        require_ids(feed, page, response.body)
    except ApiError as exc:
        if not refuses_list(exc):
            raise
        return ListAnswer(path=path, error=exc.without_frames())
    # A single log with a wrong time decides nothing.
    latest = math.inf if response.date is None else response.date * 1000 + MAX_CLOCK_SKEW_MS
    times = (entry.created for entry in page.entries if entry.created is not None and not entry.rejection_reason)
    return ListAnswer(path=path, newest=max((time for time in times if time <= latest), default=None))


def choose_generation(answers: ListAnswers, state_generation: str | None) -> str:
    """Return the generation to read, given that of the state, None if nothing was counted.

    Raises:
        ApiError: No list can be used.
    """
    late, zernio = answers[LATE], answers[ZERNIO]
    if zernio.error is not None and late.error is not None:
        message = f"no log list can be read: {zernio}; {late}; {UNUSABLE_HINT}"
        if isinstance(zernio.error, Forbidden):
            raise Forbidden(message, code=zernio.error.code)
        raise ApiUnavailable(message)
    if state_generation == ZERNIO or late.error is not None or zernio.is_ahead_of(late):
        return ZERNIO
    return LATE if state_generation == LATE or zernio.error is not None or late.newest is not None else ZERNIO


def refuses_list(error: ApiError) -> bool:
    """Return whether an error means that the API does not provide the list, however it says so.

    A vanished path may answer 400, because it matches that of a post; 403, because no right covers it; a redirect, or
    200 with something other than a list. A rejected key, a rate limit or a failed network says nothing about the list.
    """
    return isinstance(error, BadPayload) or error.status not in (None, 401, 429)


def require_ids(feed: Feed, page: LogPage, body: bytes) -> None:
    """Raise BadPayload if a list of generation ``late`` has become an alias of the list without ids."""
    has_no_ids = bool(page.entries) and all(entry.rejection_reason == "no_id" for entry in page.entries)
    if feed.generation == LATE and has_no_ids and b'"created_at"' in body:
        raise BadPayload("200: the logs have no _id, they are those of /v1/logs")


class _FeedLists(msgspec.Struct):
    """Lists of one feed.

    Args:
        in_use: Generation that is read; None before it is detected.
        refusal_count: Consecutive refusals of the list; from MAX_REFUSALS on, as at the start, both lists are asked.
        had_logs: Whether the list had logs when last read.
        answers: Last answers of both lists.
        examined_at: Monotonic time of these in seconds.
    """

    in_use: str | None = None
    refusal_count: int = MAX_REFUSALS
    had_logs: bool = False
    answers: ListAnswers | None = None
    examined_at: float = -math.inf


class GenerationDetector:
    """Detect which lists a workspace reads, for each feed by itself, because one list may disappear before another.

    Both lists are asked at the start, when the one in use is gone, and every hour.

    Args:
        configured: ``late``, ``zernio``, or ``auto`` to detect it.
    """

    def __init__(self, configured: str, *, logger: Logger, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.configured = configured
        self._logger = logger
        self._monotonic = monotonic
        self._feeds = defaultdict[str, _FeedLists](_FeedLists)

    @property
    def in_use(self) -> frozenset[str]:
        """Generations that are read."""
        return frozenset(lists.in_use for lists in self._feeds.values() if lists.in_use)

    @property
    def unread(self) -> frozenset[str]:
        """Generations that have newer logs than the one in use, according to the last answers."""
        return frozenset(
            generation
            for lists in self._feeds.values()
            if lists.answers and lists.in_use
            for generation, answer in lists.answers.items()
            if answer.is_ahead_of(lists.answers[lists.in_use])
        )

    async def resolve_feed(self, name: str, client: LateClient, *, state_generation: str | None) -> Feed:
        """Return the list to read; ask both if it is not known.

        Args:
            name: Name of the feed.
            client: API client of the workspace.
            state_generation: Generation of the counted logs; None if there are none. From zernio there is no way back.

        Raises:
            ApiError: No list can be used, or the configured one does not fit the feed or the state.
        """
        feeds = lists_of(name)
        lists = self._feeds[name]
        generation = self.configured
        if generation == AUTO:
            generation = lists.in_use or ZERNIO
            if state_generation == ZERNIO or LATE not in feeds:
                generation = ZERNIO
            elif lists.refusal_count >= MAX_REFUSALS:
                generation = choose_generation(await self._examine(name, client), state_generation)
                lists.refusal_count = 0
                if generation != lists.in_use:
                    self._logger.debug("API generation detected", feed=name, generation=generation)
        elif state_generation == ZERNIO != generation:
            raise ApiUnavailable(
                f"the state has logs of API generation {ZERNIO}, which have no ids: use --api.generation {ZERNIO} "
                "or auto, or another --state.url"
            )
        elif generation not in feeds:
            raise ApiUnavailable(f"API generation {generation} has no {name} logs; remove it from --poll.feeds")
        lists.in_use = generation
        return feeds[generation]

    def initial_feed(self, name: str, *, state_generation: str | None) -> Feed:
        """Return a feed before the generation is detected: that of the state, or the documented one."""
        feeds = lists_of(name)
        return feeds.get(state_generation or self.configured, feeds[ZERNIO])

    def note_answer(self, feed: Feed, *, error: ApiError | None = None, is_empty: bool = False) -> bool:
        """Report the answer to a request for the newest logs; return whether the list has just become empty.

        Both lists are asked again if it has, and after several refusals.
        """
        lists = self._feeds[feed.name]
        if error is not None:
            lists.refusal_count += refuses_list(error)
            return False
        is_emptied, lists.had_logs = lists.had_logs and is_empty, not is_empty
        if is_emptied:
            lists.refusal_count = MAX_REFUSALS
        elif lists.refusal_count < MAX_REFUSALS:
            lists.refusal_count = 0
        return is_emptied

    async def examine_if_due(self, feed: Feed, client: LateClient, *, state_generation: str | None) -> None:
        """Ask both lists of a feed if that is due, to notice that the other one has newer logs.

        Unless the generation is configured, that one is read from the next poll on. Errors are left to the polls.
        """
        lists = self._feeds[feed.name]
        if LATE not in lists_of(feed.name) or self._monotonic() - lists.examined_at < EXAMINATION_INTERVAL:
            return
        try:
            answers = await self._examine(feed.name, client)
        except ApiError as exc:
            self._logger.debug("API generation not examined", feed=feed.name, error=str(exc))
            return
        if self.configured == AUTO and answers[feed.generation].error is None:
            lists.in_use = choose_generation(answers, state_generation)

    async def _examine(self, name: str, client: LateClient) -> ListAnswers:
        lists = self._feeds[name]
        lists.examined_at = self._monotonic()
        lists.answers = await examine_lists(name, client)
        return lists.answers
