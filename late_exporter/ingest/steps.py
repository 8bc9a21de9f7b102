"""Steps that the pure parts of a poll yield, and the loop that performs them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import Any, Literal, TypeAlias, TypeVar

import msgspec

from late_exporter.errors import REQUEST_FAILURES, ApiError
from late_exporter.ingest.sweep import FetchPage
from late_exporter.model import LogEntry
from late_exporter.store.records import Coverage

RequestKind: TypeAlias = Literal["post", "pending", "window", "scan"]
"""Logs of a post, list of pending logs, logs of a time, page of a late window or a scan."""

REQUEST_KINDS: tuple[RequestKind, ...] = ("post", "pending", "window", "scan")

StepT = TypeVar("StepT")
ResultT = TypeVar("ResultT")


class FetchPost(msgspec.Struct, frozen=True):
    """A request for the logs of a post."""

    post_id: str


class Record(msgspec.Struct, frozen=True):
    """Logs that were read, and what is true once they are committed.

    Recording them twice changes nothing.

    Args:
        coverage: New coverage; None leaves it.
        deleted_keys: Keys of pending logs that the API no longer has.
        missed_before: Creation time in milliseconds; polls had missed the older ones of the logs.
    """

    entries: tuple[LogEntry, ...] = ()
    coverage: Coverage | None = None
    deleted_keys: tuple[str, ...] = ()
    missed_before: int = 0


class ReportFailure(msgspec.Struct, frozen=True):
    """A request that failed without failing the poll."""

    kind: RequestKind
    error: ApiError


Step: TypeAlias = FetchPage | FetchPost | Record | ReportFailure
StepsTo: TypeAlias = Generator[Step, Any, ResultT]
"""Steps that lead to a result."""


async def perform(
    steps: Generator[StepT, Any, ResultT], perform_step: Callable[[StepT], Awaitable[object]]
) -> ResultT:
    """Perform each step, send its result back, and return the result of all.

    The failure of a request is thrown into the steps.
    """
    resume = partial(steps.send, None)
    while True:
        try:
            step = resume()
        except StopIteration as done:
            result: ResultT = done.value
            return result
        try:
            resume = partial(steps.send, await perform_step(step))
        except REQUEST_FAILURES as exc:
            resume = partial(steps.throw, exc.without_frames())
