"""Distinguish the creation times of which a page has all logs from those of which it may lack some."""

from __future__ import annotations

from late_exporter.ingest.paging import TIME_FILTER_TOLERANCE
from late_exporter.ingest.steps import FetchedPage, FetchPage, FetchPost
from late_exporter.model import LogPage, creation_times


def find_partial_times(step: FetchPage | FetchPost, page: LogPage) -> frozenset[int]:
    """Return the creation times, in milliseconds, of which a page may lack logs.

    These are the first and the last one of a page that is cut there, and all times of a page that is filtered by
    status or post. A filter by time selects all logs of a time or none. Logs without a time are not in the result.
    """
    entries = page.entries
    if isinstance(step, FetchPage) and step.status is None:
        entries = (*(entries[:1] if step.skip else ()), *(() if page.is_last else entries[-1:]))
    return frozenset(creation_times(entries))


def ignores_time_filter(step: FetchPage, page: LogPage | FetchedPage) -> bool:
    """Return whether a page has logs outside of the times that were requested."""
    after, before = step.created_after, step.created_before
    return any(
        (after is not None and created < after - TIME_FILTER_TOLERANCE)
        or (before is not None and created > before + TIME_FILTER_TOLERANCE)
        for created in page.times
    )
