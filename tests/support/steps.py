"""Run coroutines step by step, without an event loop, so that a test can kill them at any step."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Sequence
from typing import Any, Self, TypeVar

ResultT = TypeVar("ResultT")


class Checkpoint:
    """A step at which a coroutine can be killed."""

    def __await__(self) -> Generator[Self, None, None]:
        """Return control to ``drive``."""
        yield self


class Killed(Exception):
    """The coroutines were killed at a step."""


def drive(work: Coroutine[Any, Any, ResultT], steps: int | None = None) -> ResultT:
    """Run a coroutine that awaits checkpoints only; raise Killed if it takes more steps than allowed."""
    (result,) = drive_together([work], steps)
    return result


def drive_together(works: Sequence[Coroutine[Any, Any, ResultT]], steps: int | None = None) -> list[ResultT]:
    """Run coroutines in turns, as an event loop does; raise Killed if they take more steps than allowed together."""
    results: dict[int, ResultT] = {}
    running = dict(enumerate(works))
    count = 0
    while running:
        for number, work in list(running.items()):
            if count == steps:
                for each in running.values():
                    each.close()
                raise Killed
            try:
                work.send(None)
            except StopIteration as exc:
                results[number] = exc.value
                del running[number]
            count += 1
    return [results[number] for number in range(len(works))]


async def offload_in_steps(call: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
    """Run a call of the store, with a checkpoint before and after it."""
    await Checkpoint()
    result = call(*args, **keywords)
    await Checkpoint()
    return result
