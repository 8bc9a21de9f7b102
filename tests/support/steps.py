"""Run coroutines step by step, without an event loop, so that a test can kill them at any step."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any, Self, TypeVar

ResultT = TypeVar("ResultT")


class Checkpoint:
    """A step at which a coroutine can be killed."""

    def __await__(self) -> Generator[Self, None, None]:
        """Return control to ``drive``."""
        yield self


class Killed(Exception):
    """The coroutine was killed at a step."""


def drive(work: Coroutine[Any, Any, ResultT], steps: int | None = None) -> ResultT:
    """Run a coroutine that awaits checkpoints only; raise Killed if it takes more steps than allowed."""
    count = 0
    while steps is None or count < steps:
        try:
            work.send(None)
        except StopIteration as exc:
            result: ResultT = exc.value
            return result
        count += 1
    work.close()
    raise Killed


async def offload_in_steps(call: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
    """Run a call of the store, with a checkpoint before and after it."""
    await Checkpoint()
    result = call(*args, **keywords)
    await Checkpoint()
    return result
