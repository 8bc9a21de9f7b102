"""The time of the API, by the dates of its responses."""

from __future__ import annotations

from collections.abc import Callable

DOUBTFUL_SECONDS = 86_400.0
"""Difference to the expected time from which on a date needs another response that agrees."""


class ApiClock:
    """Time of the API: the date of a response, plus the time that has passed since.

    Neither a jump of the local clock nor a single wrong date moves it. It shows the local time until a response has a
    date.
    """

    def __init__(self, clock: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._offset: float | None = None
        self._doubtful_offset: float | None = None

    def now(self) -> float:
        """Return the time in Unix seconds."""
        return self._clock() if self._offset is None else self._monotonic() + self._offset

    def update(self, date: float | None) -> bool:
        """Set the time by the date of a response; return False if the date is doubtful.

        A date that is more than a day off is accepted if the next one agrees with it, by the time between them.
        """
        if date is None:
            return True
        offset = date - self._monotonic()
        is_doubtful = abs(date - self.now()) > DOUBTFUL_SECONDS and (
            self._doubtful_offset is None or abs(offset - self._doubtful_offset) > DOUBTFUL_SECONDS
        )
        self._doubtful_offset = offset if is_doubtful else None
        if not is_doubtful:
            self._offset = offset
        return not is_doubtful
