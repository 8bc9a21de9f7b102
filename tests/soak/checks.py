"""Counters that Prometheus saw fall or vanish."""

from __future__ import annotations

from collections.abc import Iterator

from tests.e2e.prometheus import PrometheusApi

__all__ = ["find_falls", "find_missing"]

COUNTER_SUFFIXES = ("_total", "_bucket", "_count", "_sum")


def find_falls(database: PrometheusApi, seconds: float, selector: str) -> Iterator[str]:
    """Yield the counters with some labels, in braces, that fell in the last seconds."""
    for name in _counters(database):
        for row in database.query(f"resets({name}{selector}[{round(seconds)}s]) > 0"):
            yield f"{name}{row['metric']} fell {row['value'][1]} times"


def find_missing(database: PrometheusApi, seconds: float, selector: str) -> Iterator[str]:
    """Yield the counters of the last seconds that are missing now; arguments as above."""
    for name in _counters(database):
        family = f"{name}{selector}"
        for row in database.query(f"last_over_time({family}[{round(seconds)}s]) unless {family}"):
            yield f"{name}{row['metric']} vanished"


def _counters(database: PrometheusApi) -> list[str]:
    names = database.call_api("label/__name__/values")
    return [name for name in names if name.startswith("late_") and name.endswith(COUNTER_SUFFIXES)]
