from __future__ import annotations

import logging

from late_exporter.web.rate import LOG_RATE, LineLimiter
from tests.support.clock import VirtualClock


def record(level: int) -> logging.LogRecord:
    """Return a log record of a library."""
    return logging.LogRecord("uvicorn.error", level, "", 1, "Invalid HTTP request received.", (), None)


def test_line_limiter() -> None:
    """Warnings are dropped beyond the rate, and errors are kept."""
    clock = VirtualClock()
    limiter = LineLimiter(clock.monotonic)
    kept = sum(limiter.filter(record(logging.WARNING)) for _ in range(1000))
    assert LOG_RATE.burst == kept
    assert all(limiter.filter(record(logging.ERROR)) for _ in range(20))
    clock.advance(LOG_RATE.interval)
    assert limiter.filter(record(logging.WARNING))
    assert not limiter.filter(record(logging.WARNING))
