"""Tell the creation times of which a page has all logs from those of which it may lack some."""

from __future__ import annotations

from late_exporter.ingest.paging import TIME_FILTER_TOLERANCE
from late_exporter.ingest.steps import FetchPage, FetchPost
from late_exporter.model import LogPage


def find_partial_times(step: FetchPage | FetchPost, page: LogPage) -> frozenset[int]:
    """Return the creation times, in milliseconds, of which a page may lack logs.

    These are the first and the last one of a page that is cut there, and all times of a page that is filtered by
    status or post. A filter by time selects all logs of a time or none. Logs without a time are not in the result.
    """
    times = [entry.created for entry in page.entries]
    if isinstance(step, FetchPage) and step.status is None:
        times = [*(times[:1] if step.skip else ()), *(() if page.is_last else times[-1:])]
    return frozenset(created for created in times if created is not None)


def ignores_time_filter(step: FetchPage, page: LogPage) -> bool:
    """Return whether a page has logs outside of the times that were requested."""
    times = [entry.created for entry in page.entries if entry.created is not None]
    after, before = step.created_after, step.created_before
    return any(
        (after is not None and created < after - TIME_FILTER_TOLERANCE)
        or (before is not None and created > before + TIME_FILTER_TOLERANCE)
        for created in times
    )
