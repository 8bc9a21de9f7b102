"""The script of afternoon.py with many samples from its start: python -m tests.bench.padded SAMPLES."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from tests.bench import afternoon
from tests.bench.naming import ACTIONS, STATUSES, account_id, platform_name

SAMPLES_PER_COUNTER = 2
"""Samples of a counter: its total and its creation time."""

SAMPLES_PER_HISTOGRAM = len(afternoon.BUCKETS) + 4


def add_series(samples: int) -> None:
    """Create series: half of the samples by platform, half by account."""
    remaining = samples // 2
    for labels in _label_sets():
        if remaining <= 0:
            break
        afternoon.LOGS.labels(*labels).inc()
        afternoon.DURATION.labels(*labels).observe(1.5)
        remaining -= SAMPLES_PER_COUNTER + SAMPLES_PER_HISTOGRAM
    for number in range((remaining + samples - samples // 2) // (SAMPLES_PER_COUNTER * len(STATUSES))):
        for status in STATUSES:
            afternoon.ACCOUNT_LOGS.labels(platform_name(number), account_id(number), status).inc()


def _label_sets() -> Iterator[tuple[str, str, str]]:
    number = 0
    while True:
        yield from ((platform_name(number), action, status) for action in ACTIONS for status in STATUSES)
        number += 1


if __name__ == "__main__":
    add_series(int(sys.argv[1]))
    afternoon.main()
