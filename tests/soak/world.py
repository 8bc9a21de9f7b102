"""World of a soak: the simulated world at an exact rate, with late logs, and the faults of its API."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from random import Random
from types import MappingProxyType
from typing import TypeAlias

from late_exporter.errors import ConfigError
from late_exporter.simulator import LogList, SimulatedWorld, StaticLogs
from late_exporter.simulator.log_list import DAY, LogRow, timestamp
from tests.e2e.late import HttpExchange, LateServer, hang, respond_with

__all__ = ["FAULTS", "LogCounts", "SoakWorld"]

LogCounts: TypeAlias = Counter[tuple[str, str, str]]
"""Number of logs by platform, action and status."""

HISTORY_SECONDS = 120.0
TRIAL_SECONDS = 120.0
LATE_LOG_INTERVAL = 10.0
"""Seconds between two late logs."""

MAX_LATENESS = 20.0
"""Maximum age of a late log, in seconds."""


class RecordingLogList(LogList):
    """Log list that keeps deleted rows."""

    def __init__(self) -> None:
        super().__init__()
        self.deleted: dict[str, LogRow] = {}

    def delete(self, log_id: str) -> bool:
        """Delete a row and keep a copy of it."""
        row = self.get(log_id)
        if row is not None:
            self.deleted[log_id] = dict(row)
        return super().delete(log_id)


class SoakWorld(StaticLogs):
    """Simulated world of a soak. Hold the API server's lock to use it.

    Args:
        seed: Seed of the logs.
        rate: Approximate number of publishing logs per second.
    """

    def __init__(self, seed: int, rate: float) -> None:
        self._random = Random(seed)
        now = time.time()
        self._log_list = RecordingLogList()
        self._world = SimulatedWorld(
            seed,
            now,
            logs_per_day=_logs_per_day(seed, now, rate),
            history=HISTORY_SECONDS,
            publishing=self._log_list,
        )
        super().__init__(self._log_list, self._world.connections)
        self.activity = self._world.activity
        self._late_log_count = 0
        self._next_late_log = now + LATE_LOG_INTERVAL
        self.is_stopped = False

    def advance(self, now: float) -> None:
        """Advance to a Unix time, unless the world is stopped."""
        if self.is_stopped:
            return
        self._world.advance(now)
        if now >= self._next_late_log:
            self._next_late_log = now + LATE_LOG_INTERVAL
            self._insert_late_log(now)

    def _insert_late_log(self, now: float) -> None:
        """Insert a log with an older creation time than logs that have been read."""
        rows, _ = self.publishing.page(self._random.randrange(50), 1, status="success")
        created_at = now - self._random.uniform(1, MAX_LATENESS)
        self._late_log_count += 1
        for row in rows:
            late_id = f"{int(created_at):08x}1a7e{self._late_log_count:012x}"
            self.publishing.insert({**row, "_id": late_id, "createdAt": timestamp(created_at)})

    def start_incident(self, name: str, seconds: float) -> None:
        """Start an incident of the simulated world."""
        with suppress(ConfigError):  # no account is connected
            self._world.start_incident(name, duration=seconds)

    @property
    def deleted(self) -> dict[str, LogRow]:
        """Return the deleted logs by id, as they were when they were deleted."""
        return self._log_list.deleted

    @property
    def rows(self) -> dict[str, LogRow]:
        """Return all logs by id, including the deleted ones."""
        return self.deleted | {row["_id"]: row for row in self.publishing.rows}


def _logs_per_day(seed: int, now: float, rate: float) -> float:
    """Return the logs per day that give a rate at the current time of day, whose traffic differs from the mean."""
    trial = SimulatedWorld(seed, now, logs_per_day=rate * DAY, history=TRIAL_SECONDS)
    _, log_count = trial.publishing.page(0, 1, since=now - TRIAL_SECONDS / 2)
    return rate * DAY * rate / max(log_count / (TRIAL_SECONDS / 2), 1e-9)


def _rate_limited(_late: LateServer, _random: Random) -> Callable[[HttpExchange], None]:
    # With the headers of a quota that others have used up, the exporter would send a request per minute for minutes.
    return respond_with(429, {"error": "Rate limit exceeded. Please try again later."}, {"Retry-After": "1"})


def _flaky(late: LateServer, random: Random) -> Callable[[HttpExchange], None]:
    """Return a fault in which three of four requests fail, each in another way."""
    handlers = [truncate(late), hang(late, 0.5), respond_with(502, "<html>Bad gateway</html>"), late.respond]

    def handle(exchange: HttpExchange) -> None:
        random.choice(handlers)(exchange)

    return handle


def truncate(late: LateServer) -> Callable[[HttpExchange], None]:
    """Return a fault in which response bodies are truncated."""

    def handle(exchange: HttpExchange) -> None:
        with late.lock:
            response = late.api.handle("GET", exchange.path, exchange.query, exchange.headers)
        half = response.body[: len(response.body) // 2]
        exchange.send(response.status, half, response.headers, length=len(response.body))
        exchange.close()

    return handle


FAULTS: Mapping[str, Callable[[LateServer, Random], Callable[[HttpExchange], None]]] = MappingProxyType(
    {
        "429": _rate_limited,
        "500": lambda _late, _random: respond_with(500, {"error": "Internal server error"}),
        "503": lambda _late, _random: respond_with(503),
        "cut off": lambda late, _random: truncate(late),
        "hanging": lambda late, _random: hang(late),
        "flaky": _flaky,
    }
)
"""Faults of the API by name, each active for a few seconds."""
