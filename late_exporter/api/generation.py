"""Determine which generation of a log list to read, and whether the other one has unread logs.

The documented list is that of generation ``zernio``. The one of generation ``late`` has ids and is read while the API
still writes to it; its answer once it is gone is not documented. See docs/api-generations.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from urllib.parse import urlencode

import msgspec

from late_exporter.api.pages import PageResponse, fetch_page
from late_exporter.errors import ApiError, ApiUnavailable, BadPayload, Forbidden
from late_exporter.feeds import GENERATIONS
from late_exporter.feeds.feed import Feed
from late_exporter.format import iso_time
from late_exporter.model import LATE, MAX_CLOCK_SKEW_MS, ZERNIO
from late_exporter.protocols import Client, Logger

AUTO = "auto"

MAX_REFUSALS = 3
"""Consecutive refusals of a list after which both lists are examined again; a single one may be a deployment."""

EXAMINATION_INTERVAL = 3600.0
"""Seconds between two examinations of both lists."""

NEWNESS_TOLERANCE = 600_000
"""Milliseconds by which one list may be ahead of the other: the API writes the rows of both by different paths."""

UNUSABLE_HINT = "check --api.base-url, the rights of the key and the status of the API"


class ListAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of a log list to a request for its newest log.

    Args:
        path: Path and query of the list.
        error: Reason why the list cannot be used; None if it can.
        has_logs: Whether the answer has a log that can be counted.
        newest: Creation time of the newest log in milliseconds, None if unknown. For an empty list, the time since
            which it would have kept logs, 0 if unknown.
    """

    path: str
    error: ApiError | None = None
    has_logs: bool = False
    newest: int | None = None

    def is_ahead_of(self, other: ListAnswer) -> bool:
        """Return whether this list has logs, and another usable list has only older ones or none."""
        if self.error is not None or other.error is not None or not self.has_logs:
            return False
        if self.newest is None:
            return not other.has_logs
        return other.newest is not None and self.newest > other.newest + NEWNESS_TOLERANCE

    def __str__(self) -> str:
        if self.error is not None:
            return f"{self.path} {self.error}"
        if not self.has_logs:
            return f"{self.path} 200, no logs"
        return f"{self.path} 200, newest log {'without a time' if self.newest is None else iso_time(self.newest)}"


ListAnswers = Mapping[str, ListAnswer]
"""Answers of the lists of one feed, by generation."""


def lists_of(name: str) -> Mapping[str, Feed]:
    """Return the lists of a feed by generation."""
    return {generation: feeds[name] for generation, feeds in GENERATIONS.items() if name in feeds}


async def examine_lists(name: str, client: Client) -> ListAnswers:
    """Request the newest log of each list of a feed, the documented list first.

    Raises:
        ApiError: The network failed, the key was rejected, or the API is rate limiting requests, so nothing is known.
    """
    lists = lists_of(name)
    return {generation: await _request_newest(lists[generation], client) for generation in (ZERNIO, LATE)}


def choose_generation(answers: ListAnswers, state_generation: str | None) -> str:
    """Return the generation to read, given that of the state, None if nothing was counted.

    Raises:
        ApiError: No list can be used.
    """
    late, zernio = answers[LATE], answers[ZERNIO]
    if state_generation == ZERNIO:
        return ZERNIO
    if zernio.error is not None:
        if late.error is not None:
            raise _unusable(zernio, zernio.error, late)
        return LATE
    if late.error is not None or zernio.is_ahead_of(late):
        return ZERNIO
    if state_generation == LATE:
        return LATE
    return LATE if late.has_logs and late.newest is not None else ZERNIO


def refuses_list(error: ApiError) -> bool:
    """Return whether an error means that the API does not provide the list, however it says so.

    A vanished path may answer 400, because it matches that of a post; 403, because no right covers it; a redirect, or
    200 with something other than a list. A rejected key, a rate limit or a failed network says nothing about the list.
    """
    return isinstance(error, BadPayload) or error.status not in (None, 401, 429)


def require_ids(feed: Feed, response: PageResponse) -> None:
    """Raise BadPayload if a list of generation ``late`` has become an alias of the list without ids."""
    entries = response.page.entries
    if (
        feed.generation == LATE
        and entries
        and all(entry.rejection_reason == "no_id" for entry in entries)
        and b'"created_at"' in response.body
    ):
        raise BadPayload("200: the logs have no _id, they are those of /v1/logs")


async def _request_newest(feed: Feed, client: Client) -> ListAnswer:
    path = f"{feed.path}?{urlencode(feed.query)}" if feed.query else feed.path
    try:
        response = await fetch_page(client, feed, filters={"limit": 1})
        require_ids(feed, response)
    except ApiError as exc:
        if not refuses_list(exc):
            raise
        return ListAnswer(path=path, error=exc.without_frames())
    entries = response.page.entries
    now = None if response.date is None else int(response.date * 1000)
    newest = max(response.page.times, default=None)
    if newest is not None and now is not None and newest > now + MAX_CLOCK_SKEW_MS:
        newest = None
    if not entries:
        newest = 0 if now is None else now - feed.retention
    return ListAnswer(path=path, has_logs=any(not entry.rejection_reason for entry in entries), newest=newest)


def _unusable(zernio: ListAnswer, error: ApiError, late: ListAnswer) -> ApiError:
    message = f"no log list can be read: {zernio}; {late}; {UNUSABLE_HINT}"
    if isinstance(error, Forbidden):
        return Forbidden(message, code=error.code, required_group=error.required_group)
    return ApiUnavailable(message)


class _FeedLists(msgspec.Struct):
    """Lists of one feed.

    Args:
        selected: Generation to read; None before it is detected.
        in_use: Generation that is read.
        answers: Answers of the last examination.
        examined_at: Monotonic time of the last examination in seconds.
        refusal_count: Consecutive refusals of the list.
        had_logs: Whether the list of generation ``late`` had logs when last seen.
    """

    selected: str | None = None
    in_use: str | None = None
    answers: ListAnswers | None = None
    examined_at: float | None = None
    refusal_count: int = 0
    had_logs: bool = True


class ApiGeneration:
    """Generations of the lists that one workspace reads; each feed has its own, as one may disappear earlier.

    Both lists are examined at the start, when the one in use vanishes, and every hour.

    Args:
        configured: ``late``, ``zernio``, or ``auto`` to detect it.
    """

    def __init__(self, configured: str, *, logger: Logger, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.configured = configured
        self._logger = logger
        self._monotonic = monotonic
        self._feeds: dict[str, _FeedLists] = {}

    @property
    def in_use(self) -> frozenset[str]:
        """Generations that are read."""
        return frozenset(status.in_use for status in self._feeds.values() if status.in_use)

    @property
    def unread(self) -> frozenset[str]:
        """Generations that have newer logs than the one in use, according to the last examination."""
        return frozenset(
            generation
            for status in self._feeds.values()
            if status.answers and status.in_use
            for generation, answer in status.answers.items()
            if answer.is_ahead_of(status.answers[status.in_use])
        )

    async def resolve_feed(self, name: str, client: Client, *, state_generation: str | None) -> Feed:
        """Return the list to read; examine both if it is not known.

        Args:
            name: Name of the feed.
            client: API client of the workspace.
            state_generation: Generation of the counted logs; None if there are none. Without ids there is no way back.

        Raises:
            ApiError: No list can be used, or the configured one does not fit the feed or the state.
        """
        lists = lists_of(name)
        if self.configured != AUTO:
            return self._configured_feed(lists, name, state_generation)
        if state_generation == ZERNIO or LATE not in lists:
            return lists[ZERNIO]
        status = self._status(name)
        if status.selected is None:
            status.selected = choose_generation(await self._examine(name, client), state_generation)
            status.refusal_count = 0
            if status.selected != status.in_use:
                self._logger.info("API generation detected", feed=name, generation=status.selected)
        return lists[status.selected]

    def initial_feed(self, name: str, *, state_generation: str | None) -> Feed:
        """Return a feed before the generation is detected: that of the state, or the documented one."""
        generation = state_generation or (ZERNIO if self.configured == AUTO else self.configured)
        lists = lists_of(name)
        return lists.get(generation, lists[ZERNIO])

    def report_use(self, feed: Feed) -> None:
        """Report the list that is read."""
        self._status(feed.name).in_use = feed.generation

    def report_answer(self, feed: Feed, error: ApiError | None) -> None:
        """Report whether a request for a list failed; after several refusals both lists are examined again."""
        status = self._status(feed.name)
        if error is None:
            status.refusal_count = 0
        elif refuses_list(error):
            status.refusal_count += 1
        if status.refusal_count >= MAX_REFUSALS:
            status.selected = None

    async def report_list(self, feed: Feed, client: Client, *, is_empty: bool) -> None:
        """Report whether a list is empty; examine both if a list of generation ``late`` has become empty.

        Raises:
            ApiError: The logs are in the other list now, or that cannot be determined.
        """
        status = self._status(feed.name)
        had_logs, status.had_logs = status.had_logs, not is_empty
        if not is_empty or not had_logs or self.configured != AUTO or feed.generation != LATE:
            return
        status.had_logs = True
        answers = await self._examine(feed.name, client)
        if choose_generation(answers, LATE) != LATE:
            status.selected = ZERNIO
            raise ApiUnavailable(f"{feed.path} is empty, but there are logs at {answers[ZERNIO].path}")

    async def examine_if_due(self, feed: Feed, client: Client, *, state_generation: str | None) -> None:
        """Examine the lists of a feed if that is due, to notice that the other one has newer logs.

        Unless the generation is configured, that one is read from the next poll on. Errors are left to the polls.
        """
        status, now = self._status(feed.name), self._monotonic()
        is_recent = status.examined_at is not None and now - status.examined_at < EXAMINATION_INTERVAL
        if LATE not in lists_of(feed.name) or is_recent:
            return
        status.examined_at = now
        try:
            answers = await self._examine(feed.name, client)
        except ApiError as exc:
            self._logger.debug("API generation not examined", feed=feed.name, error=str(exc))
            return
        if self.configured == AUTO and answers[feed.generation].error is None:
            status.selected = choose_generation(answers, state_generation)

    async def _examine(self, name: str, client: Client) -> ListAnswers:
        status = self._status(name)
        status.answers = await examine_lists(name, client)
        status.examined_at = self._monotonic()
        status.had_logs = status.answers[LATE].has_logs
        return status.answers

    def _status(self, name: str) -> _FeedLists:
        return self._feeds.setdefault(name, _FeedLists())

    def _configured_feed(self, lists: Mapping[str, Feed], name: str, state_generation: str | None) -> Feed:
        if state_generation == ZERNIO != self.configured:
            raise ApiUnavailable(
                f"the state has logs of API generation {ZERNIO}, which have no ids: use --api.generation {ZERNIO} or "
                "auto, or another --state.url"
            )
        if self.configured not in lists:
            raise ApiUnavailable(f"API generation {self.configured} has no {name} logs; remove it from --poll.feeds")
        return lists[self.configured]
