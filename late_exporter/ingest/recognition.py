"""Check that the list of another API generation has the logs that were counted, before any of its logs is counted.

If the other list reported times or fields differently, none of its logs would be matched, and a week would be counted
twice. Counted logs that are missing may have been deleted in the API, so the list is also searched for them at other
times. See docs/design/generation-matching.md.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from late_exporter.api.pages import fetch_page
from late_exporter.errors import BadRequest, GenerationMismatch
from late_exporter.feeds.feed import Feed
from late_exporter.format import human_duration
from late_exporter.ingest.paging import time_above
from late_exporter.ingest.time_shift import MAX_SHIFT, find_shift
from late_exporter.model import MAX_CLOCK_SKEW_MS, Coverage, Gap, LogEntry, StoredLog, creation_times
from late_exporter.protocols import Client
from late_exporter.store.matching import interim_key, match_logs

SAMPLE_SIZE = 500
"""Newest counted logs that are looked for."""

MAX_PAGES = 50
"""Pages that are read to find them; more are needed only if the API ignores or rejects the time filter."""

TIME_MARGIN = 1000
"""Milliseconds added to the time filter on both sides, which may be exclusive or round to seconds."""

MIN_SHARE = 0.9
MIN_LOGS = 10
"""Share of the logs that has to be recognised, and the number of logs from which the share is meaningful."""

MIN_UNRECOGNISED = 3
"""Number of listed logs from which it is a mismatch if no counted log is recognised; fewer may be late rows."""


class LoadLogs(Protocol):
    """Returns the newest counted logs until a time in milliseconds, newest first."""

    def __call__(self, *, until: int, limit: int) -> Awaitable[Sequence[StoredLog]]:
        """Return at most ``limit`` logs."""


class Recognition(NamedTuple):
    """Result of the comparison, within the time range that both lists cover.

    Args:
        recognised: Counted logs that the list has.
        stored: Counted logs.
        listed: Logs of the list.
        request_count: Requests sent for it.
        shift: Milliseconds by which the list has the logs later, 0 if its times have another precision; None if it does
            not have them at other times. If there is a shift, the numbers are those of the range that was searched.
        newest_listed: Creation time of the newest log of the list in milliseconds.
        api_time: Clock of the API in milliseconds, None if unknown.
    """

    recognised: int
    stored: int
    listed: int
    request_count: int
    shift: int | None = None
    newest_listed: int = 0
    api_time: int | None = None

    @property
    def comparable(self) -> int:
        """Logs that could be recognised: those deleted in the API cannot be, nor those never counted."""
        return min(self.stored, self.listed)

    @property
    def is_sufficient(self) -> bool:
        if self.shift is not None:
            return False
        if not self.recognised:
            return not self.stored or self.listed < MIN_UNRECOGNISED
        return self.comparable < MIN_LOGS or self.recognised >= MIN_SHARE * self.comparable

    def describe(self, feed: Feed) -> str:
        """Return the result of an insufficient recognition in the list of a feed."""
        result = (
            f"only {self.recognised:,} of {self.comparable:,} counted {feed.name} logs were recognised in {feed.path} "
            f"of API generation {feed.generation}"
        )
        if self.shift is None:
            return result
        if self.shift == 0:
            return f"{result}, whose times have another precision"
        direction = "later" if self.shift > 0 else "earlier"
        return f"{result}, whose times are {human_duration(abs(self.shift) / 1000)} {direction}"


def require_recognition(recognition: Recognition, feed: Feed) -> None:
    """Raise GenerationMismatch unless enough of the counted logs are in the list of a feed."""
    if not recognition.is_sufficient:
        raise GenerationMismatch(
            f"{recognition.describe(feed)}, so nothing is counted, because its logs would count twice: use "
            "--api.generation late while the API has its lists; otherwise use --api.switch newer-only to count only "
            "what is newer than the last counted log, or --api.switch trust to count all unrecognised logs as new"
        )


async def skip_counted(
    recognition: Recognition, feed: Feed, load_logs: LoadLogs, *, coverage: Coverage, now: int
) -> Coverage:
    """Return the coverage with which no log is counted that is as old as the newest counted one, or older.

    The two lists may round times differently, so neither is a log that is newer by less than about a second. Gaps are
    given up, because only unrecognised logs could fill them.

    Args:
        recognition: Result of the comparison with the list of the feed.
        feed: List of the other generation.
        load_logs: Loads the newest counted logs.
        coverage: Coverage of the counted logs.
        now: Time in milliseconds, by which the time of a counted log is plausible.

    Raises:
        GenerationMismatch: The list has logs in the future, so their times say nothing about which logs are newer.
        StoreError: The counted logs cannot be read.
    """
    if recognition.newest_listed > now + MAX_CLOCK_SKEW_MS:
        raise GenerationMismatch(
            f"{recognition.describe(feed)}, and it has logs in the future, so --api.switch newer-only has no time from "
            "which on to count, and nothing is counted: use --api.generation late while the API has its lists"
        )
    newest_logs = await load_logs(until=now + MAX_CLOCK_SKEW_MS, limit=1)
    return msgspec.structs.replace(
        coverage,
        retention_floor=max([coverage.retention_floor, *(time_above(log.created) for log in newest_logs)]),
        complete_since=max([coverage.complete_since, *(gap.upper.created for gap in coverage.gaps)]),
        gaps=(),
    )


async def recognise_logs(client: Client, feed: Feed, load_logs: LoadLogs, *, gaps: Sequence[Gap]) -> Recognition:
    """Look for counted logs of another API generation in the list of a feed.

    Args:
        client: API client of the workspace.
        feed: List of the other generation.
        load_logs: Loads the newest counted logs.
        gaps: Ranges in which logs were not read yet.

    Raises:
        ApiError: A request failed.
        StoreError: The counted logs cannot be read.
    """
    head = await fetch_page(client, feed)
    head_times = head.page.times
    if not head_times:
        return Recognition(0, 0, 0, request_count=1)
    search = _LogSearch(client, feed, gaps)
    newest_listed, api_time = max(head_times), None if head.date is None else int(head.date * 1000)
    recognition = await search.compare(await load_logs(until=newest_listed, limit=SAMPLE_SIZE))
    stored_logs = await load_logs(until=newest_listed + MAX_SHIFT + TIME_MARGIN, limit=SAMPLE_SIZE)
    if recognition.is_sufficient and recognition.recognised < MIN_SHARE * len(stored_logs):
        # The others have been deleted, or are listed at other times.
        shifted = await search.compare_shifted(stored_logs)
        recognition = recognition if shifted.shift is None else shifted
    return recognition._replace(request_count=1 + search.request_count, newest_listed=newest_listed, api_time=api_time)


class _LogSearch:
    """Looks for stored logs in the list of a feed."""

    def __init__(self, client: Client, feed: Feed, gaps: Sequence[Gap]) -> None:
        self._client = client
        self._feed = feed
        self._gaps = gaps
        self.request_count = 0

    async def compare(self, stored_logs: Sequence[StoredLog]) -> Recognition:
        """Return how many of the logs have their times in the list, within the range that both cover."""
        if not stored_logs:
            return Recognition(0, 0, 0, request_count=0)
        matcher = _LogMatcher(stored_logs, self._gaps, has_pending=self._feed.has_pending)
        await self._read(matcher, stored_logs[-1].created - TIME_MARGIN, stored_logs[0].created + TIME_MARGIN)
        return matcher.result()

    async def compare_shifted(self, stored_logs: Sequence[StoredLog]) -> Recognition:
        """Return the comparison with the logs at any time, with the shift that explains which are missing."""
        matcher = _LogMatcher(stored_logs, self._gaps, has_pending=self._feed.has_pending)
        margin = MAX_SHIFT + TIME_MARGIN
        await self._read(matcher, stored_logs[-1].created - margin, stored_logs[0].created + margin)
        return matcher.shifted_result()

    async def _read(self, matcher: _LogMatcher, lower: int, upper: int) -> None:
        """Match the pages of a time range, newest first."""
        after: int | None = lower
        before: int | None = upper
        skip, last_request = 0, self.request_count + MAX_PAGES
        previous: tuple[LogEntry, ...] = ()
        while self.request_count < last_request:
            self.request_count += 1
            try:
                response = await fetch_page(
                    self._client, self._feed, skip=skip, created_after=after, created_before=before
                )
            except BadRequest:
                if after is None:
                    raise
                after = before = None  # The API rejects the time filter.
                continue
            page = response.page
            if page.entries == previous:
                break
            matcher.match_page(page.entries)
            skip, previous = skip + len(page.entries), page.entries
            if page.has_more is False or max(page.times, default=lower) < lower:
                break


class _LogMatcher:
    """Matches some stored logs to the pages of a list."""

    def __init__(self, stored_logs: Sequence[StoredLog], gaps: Sequence[Gap], *, has_pending: bool) -> None:
        self._range = stored_logs[-1].created, stored_logs[0].created
        self._gaps = gaps
        self._has_pending = has_pending
        self._stored_times = [log.created for log in stored_logs]
        self._unmatched: dict[int, dict[str, Mapping[str, str | None]]] = {}
        for log in stored_logs:
            key = interim_key(log.key, log.created, log.fingerprint)
            self._unmatched.setdefault(log.created, {})[key] = log.statuses
        self._recognised_times: list[int] = []
        self._unknown_times: list[int] = []

    def match_page(self, entries: Sequence[LogEntry]) -> None:
        times = set(creation_times(entries))
        candidates = {key: created for created in times for key in self._unmatched.get(created, ())}
        statuses = {key: self._unmatched[created][key] for key, created in candidates.items()}
        matches = match_logs(entries, statuses, has_pending=self._has_pending)
        for key in matches:
            del self._unmatched[candidates[key]][key]
        matched_entries = {(entry.key, entry.status) for entry in matches.values()}
        self._recognised_times += [candidates[key] for key in matches]
        unknown = [entry for entry in entries if (entry.key, entry.status) not in matched_entries]
        self._unknown_times += creation_times(unknown)

    def result(self) -> Recognition:
        """Return the comparison within the time range that both lists cover."""
        listed_times = self._select([*self._recognised_times, *self._unknown_times])
        if not listed_times:
            return Recognition(0, 0, 0, request_count=0)
        lower, upper = min(listed_times), max(listed_times)
        recognised, stored, listed = (
            sum(lower <= created <= upper for created in times)
            for times in (self._select(self._recognised_times), self._select(self._stored_times), listed_times)
        )
        return Recognition(recognised, stored, listed, request_count=0)

    def shifted_result(self) -> Recognition:
        """Return the comparison of all logs, with the shift that explains those without a match."""
        recognised = len(self._recognised_times)
        missing_times = [created for created, logs in self._unmatched.items() for _ in logs]
        shift = find_shift(missing_times, self._unknown_times, min_count=MIN_UNRECOGNISED if recognised else 1)
        stored, listed = recognised + len(missing_times), recognised + len(self._unknown_times)
        return Recognition(recognised, stored, listed, request_count=0, shift=shift)

    def _select(self, times: Iterable[int]) -> list[int]:
        """Return the times that are within the range of the stored logs and outside of gaps."""
        lower, upper = self._range
        return [
            created
            for created in times
            if lower <= created <= upper and not any(gap.lower < created < gap.upper.created for gap in self._gaps)
        ]
