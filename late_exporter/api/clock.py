"""The time of the API, by the dates of its responses."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

DOUBTFUL_SECONDS = 86_400.0
"""Seconds by which a date may differ from the expected time; beyond them another response has to agree with it."""

MAX_DOUBTFUL_DATES = 3
"""Number of doubtful dates that are kept, because a later one may agree with them."""


class ApiClock:
    """Time of the API: the date of a response, plus the time that has passed since.

    Neither a jump of the local clock nor a single wrong date moves it. It shows the local time until a date is
    accepted.
    """

    def __init__(self, clock: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._offset: float | None = None
        self._doubtful_offsets: deque[float] = deque(maxlen=MAX_DOUBTFUL_DATES)

    def now(self) -> float:
        """Return the time in Unix seconds."""
        return self._clock() if self._offset is None else self._monotonic() + self._offset

    def update(self, date: float | None) -> bool:
        """Set the time by the date of a response; return False if the date is doubtful.

        A date that is more than a day off is accepted once another one agrees with it, given the time between them. The
        local time decides nothing after a date has contradicted it: a wrong date may agree with a wrong local clock.
        """
        if date is None:
            return True
        offset = date - self._monotonic()
        is_expected = abs(date - self.now()) <= DOUBTFUL_SECONDS
        has_reference = self._offset is not None or not self._doubtful_offsets
        is_confirmed = any(abs(offset - other) <= DOUBTFUL_SECONDS for other in self._doubtful_offsets)
        if not is_confirmed and not (is_expected and has_reference):
            self._doubtful_offsets.append(offset)
            return False
        self._offset = offset
        self._doubtful_offsets.clear()
        return True
