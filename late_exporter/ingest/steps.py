"""Steps that the reader yields, and the pages that it is sent."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import cached_property
from typing import TypeAlias

import msgspec

from late_exporter.errors import ApiError
from late_exporter.ingest.request_queue import RequestKind
from late_exporter.model import PAGE_SIZE, Coverage, KnownLogs, ListedMinutes, LogEntry, LogPage

NO_STATUSES: frozenset[str] = frozenset()


class FetchPage(msgspec.Struct, frozen=True):
    """Step: fetch a page of the list; send back the FetchedPage, or throw one of REQUEST_FAILURES.

    Args:
        skip: Rows to skip, among those that the filters select.
        status: Only logs in this status; None selects all.
        created_after: Only logs created after about this time, in milliseconds; None selects all.
        created_before: Only logs created before about this time, in milliseconds; None selects all.
        limit: Maximum number of rows.
        window: First and last millisecond of a time range whose stored logs are counted as ``window_count``; None if
            not needed.
        in_parts: Whether to read the page in ever smaller parts, and to leave out the rows that the API cannot deliver.
    """

    skip: int = 0
    status: str | None = None
    created_after: int | None = None
    created_before: int | None = None
    limit: int = PAGE_SIZE
    window: tuple[int, int] | None = None
    in_parts: bool = False


class FetchPost(msgspec.Struct, frozen=True):
    """Step: fetch the logs of one post; send back the FetchedPage, or None if the post does not exist.

    One of REQUEST_FAILURES is thrown if the request fails.
    """

    post_id: str


class FetchTime(msgspec.Struct, frozen=True):
    """Step: fetch all logs that were created at a time, in milliseconds; send back the FetchedPage.

    One of REQUEST_FAILURES is thrown if a request fails, or the API lists them in another order each time.
    """

    created: int


class ReportFailure(msgspec.Struct, frozen=True):
    """Step: report a request that failed without failing the poll; send back None."""

    request: RequestKind
    error: ApiError


class Record(msgspec.Struct, frozen=True):
    """Step: record new entries, together with the coverage that is true once they are recorded; send back None.

    Args:
        entries: New observations.
        coverage: New coverage; None leaves it as it is.
        deleted_keys: Keys of pending logs that the API no longer has.
        listed_minutes: Minutes that were read completely, so that logs that are not listed are marked as deleted.
        by_reconciliation: Whether earlier polls missed the entries, so that only a scan found them.
        shrinks_gap: Whether the poll has come below the time at which it began to read a gap. Otherwise the next poll
            would repeat what this one has read.
    """

    entries: tuple[LogEntry, ...]
    coverage: Coverage | None = None
    deleted_keys: tuple[str, ...] = ()
    listed_minutes: ListedMinutes | None = None
    by_reconciliation: bool = False
    shrinks_gap: bool = False


class FetchedPage(msgspec.Struct, frozen=True, dict=True):
    """A page of the list, and which of its logs the store knows.

    Args:
        has_unreadable: Whether rows are left out that the API cannot deliver.
    """

    page: LogPage
    known_logs: KnownLogs
    has_unreadable: bool = False

    @classmethod
    def identified(cls, page: LogPage, known_logs: KnownLogs) -> FetchedPage:
        """Return a page whose logs have the keys that the store gave them."""
        if known_logs.entries is not None and known_logs.entries is not page.entries:
            page = msgspec.structs.replace(page, entries=known_logs.entries)
        return cls(page, known_logs)

    @property
    def entries(self) -> tuple[LogEntry, ...]:
        return self.page.entries

    @property
    def times(self) -> tuple[int, ...]:
        return self.page.times

    @property
    def total(self) -> int | None:
        return self.page.total

    @property
    def without_ids(self) -> bool:
        return self.page.without_ids

    @property
    def is_last(self) -> bool:
        """Whether the page is empty, or shorter than requested without an announcement of more."""
        return self.page.is_last

    @cached_property
    def known_entries(self) -> Sequence[LogEntry]:
        """The logs of the page that were recorded, or are left out."""
        statuses = self.known_logs.statuses
        return [entry for entry in self.entries if entry.is_own or entry.key in statuses]

    def recorded_statuses(self, entry: LogEntry) -> frozenset[str]:
        """Return the counted statuses of a log of the page."""
        return self.known_logs.statuses.get(entry.key, NO_STATUSES)

    def new_entries(self, retention_floor: int) -> tuple[LogEntry, ...]:
        """Return the observations that the store does not have yet, except of logs that are left out or too old."""
        statuses = self.known_logs.statuses
        return tuple(
            [
                entry
                for entry in self.entries
                if entry.status not in statuses.get(entry.key, NO_STATUSES)
                and not entry.is_own
                and (entry.created is None or entry.created >= retention_floor)
            ]
        )


ReaderStep: TypeAlias = FetchPage | FetchPost | FetchTime | Record | ReportFailure
ReaderSteps: TypeAlias = Generator[ReaderStep, FetchedPage | None, None]
