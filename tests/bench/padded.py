"""The afternoon's script with so many samples that a scrape of it can be compared: python -m tests.bench.padded N."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from tests.bench import afternoon
from tests.bench.naming import ACTIONS, STATUSES, account, platform

OF_COUNTER = 2
"""Samples of a counter: the total, and when it was created."""

OF_HISTOGRAM = len(afternoon.BUCKETS) + 4


def pad(samples: int) -> None:
    """Bring series into being: half of the samples are durations and counts by platform, half are of accounts."""
    left = samples // 2
    for labels in _platforms():
        if left <= 0:
            break
        afternoon.LOGS.labels(*labels).inc()
        afternoon.DURATION.labels(*labels).observe(1.5)
        left -= OF_COUNTER + OF_HISTOGRAM
    for number in range((left + samples - samples // 2) // (OF_COUNTER * len(STATUSES))):
        for status in STATUSES:
            afternoon.ACCOUNT_LOGS.labels(platform(number), account(number), status).inc()


def _platforms() -> Iterator[tuple[str, str, str]]:
    number = 0
    while True:
        yield from ((platform(number), action, status) for action in ACTIONS for status in STATUSES)
        number += 1


if __name__ == "__main__":
    pad(int(sys.argv[1]))
    afternoon.main()
