"""Positions of pages in a log list, counted from its newest end or from a time.

APIs limit how many rows a request may skip. Further down in a list that can be filtered by time, a position therefore
counts from a time just above the previous page. See docs/design/page-seeking.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from late_exporter.errors import BadRequest
from late_exporter.model import DAY_MS

MAX_SKIP = 300
"""Rows to skip before positions count from a time."""

MAX_WHOLE_SKIP = 10_000
"""Rows to skip in a whole list to look for logs without a time; the API documents this limit for another list."""

MIN_STEP, DENSE_PAGES = 10_000, 10
"""Milliseconds by which a bound moves, unless that many times the rows to skip are within them."""

SECOND_MS = 1000

TIME_FILTER_TOLERANCE = SECOND_MS
"""Milliseconds beyond a requested time within which the API may return logs."""

MAX_MARGIN = 100 * DAY_MS
"""Milliseconds above a log, beyond every retention, at which the whole list is read instead."""


def time_above(created: int) -> int:
    """Return a bound above a time, in milliseconds: logs created then are below it, however the API reads a bound.

    The API may truncate or round times to seconds, and may exclude the bound itself.
    """
    return (created // SECOND_MS + 2) * SECOND_MS


def time_below(created: int) -> int:
    """Return a bound below a time, in milliseconds, as ``time_above`` does above it."""
    return (created // SECOND_MS - 1) * SECOND_MS


class PagePosition(msgspec.Struct, frozen=True):
    """Start of a page: a number of rows below the newest log, or below a time.

    Args:
        before: Bound in milliseconds from which ``skip`` counts; None for the newest end of the list.
        above: Estimated number of rows above the bound.
        margin: Milliseconds by which the bound had to be raised, as the API reads bounds coarsely; 0 if it was not.
    """

    skip: int = 0
    before: int | None = None
    above: int = 0
    margin: int = 0

    @property
    def depth(self) -> int:
        """Estimated number of rows above the position in the whole list."""
        return self.above + self.skip

    @property
    def is_top(self) -> bool:
        return self.before is None and self.skip == 0

    @property
    def in_whole_list(self) -> PagePosition:
        """The same position, counted from the newest end."""
        return PagePosition(self.depth)

    def advance(self, times: Sequence[int], row_count: int, max_skip: int | None) -> PagePosition:
        """Return the position a number of rows below this one.

        Args:
            times: Creation times of the page at this position, in its order.
            row_count: Number of rows to go down.
            max_skip: Rows to skip before the position counts from a time; None if the list has no time filter.
        """
        following = msgspec.structs.replace(self, skip=self.skip + row_count)
        # In a list that is not sorted by time, logs further down may be newer than the bound.
        if max_skip is None or following.skip <= max_skip or not times or list(times) != sorted(times, reverse=True):
            return following
        before = time_above(times[0] + self.margin)
        if self.before is not None:
            # Pages of a dense list begin far above the expected row, so that a small step would not pay.
            min_step = MIN_STEP if following.skip <= DENSE_PAGES * max_skip else 0
            if before >= self.before - min_step:
                return following
        return PagePosition(row_count, before, self.depth, self.margin)

    def raised(self, created: int) -> PagePosition:
        """Return a position above this one, at the top of its list, given the time of a log that must be below it."""
        if self.before is None:
            return PagePosition()
        margin = 8 * max(self.before - created, SECOND_MS)
        if margin > MAX_MARGIN:
            return PagePosition()
        return PagePosition(0, time_above(created + margin), self.above, margin)

    def avoid(self, error: BadRequest, created: int, *, by_time: bool) -> PagePosition:
        """Return another position for the page at this one, which the API rejects.

        Args:
            error: Response of the API.
            created: Time of the log after which the page must begin, in milliseconds; 0 if it has none.
            by_time: Whether the list can be filtered by time.

        Raises:
            BadRequest: There is no other position.
        """
        before = time_above(created)
        if by_time and created and self.skip and (self.before is None or before < self.before):
            return PagePosition(0, before, self.depth)
        if self.before is not None:
            return self.in_whole_list
        if self.is_top:
            raise error
        raise BadRequest(
            f"{error}; logs below the newest {self.depth:,} cannot be read, because the API limits skip and a filter "
            "by time does not help; read less with a shorter --poll.lookback and a new --state.url, or --since"
        ) from error

    def is_ignored(self, times: Sequence[int]) -> bool:
        """Return whether the API ignored the bound, judged by the creation times of the page."""
        return self.before is not None and any(created > self.before + TIME_FILTER_TOLERANCE for created in times)
