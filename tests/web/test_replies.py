"""Parts of replies, and replies that requests share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from late_exporter.web.replies import (
    MAX_KEPT_REPLIES,
    PART_BYTES,
    AccessError,
    Message,
    Reply,
    SharedReplies,
    send_reply,
    text_reply,
)

LARGE = bytes(2 * PART_BYTES + 1)


@pytest.mark.parametrize(
    ("body", "sizes"), [(LARGE, [PART_BYTES, PART_BYTES, 1]), (LARGE[:PART_BYTES], [PART_BYTES]), (b"", [0])]
)
async def test_parts_of_a_response(body: bytes, sizes: list[int]) -> None:
    """A large body is sent in parts, after a head with the date; between two parts others have a turn."""
    messages: list[Message] = []
    turns = 0

    async def send(message: Message) -> None:
        messages.append({**message, "turns": turns})

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    await asyncio.sleep(0)
    await send_reply(Reply(body=body), {"method": "GET", "headers": []}, send)
    counting.cancel()
    start, *parts = messages
    assert b"date" in dict(start["headers"])
    assert [len(part["body"]) for part in parts] == sizes
    assert [part["more_body"] for part in parts] == [True] * (len(sizes) - 1) + [False]
    assert len({part["turns"] for part in parts}) == len(parts)


class Maker:
    """Makes replies when it is allowed to; records which."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.may_end = asyncio.Event()
        self.replies = SharedReplies(max_waiting=3)

    def request(self, name: str) -> asyncio.Task[Reply]:
        """Request the reply of a name."""
        return asyncio.ensure_future(self.replies.get(name, self._make(name)))

    def _make(self, name: str) -> Callable[[], Coroutine[Any, Any, Reply]]:
        async def make() -> Reply:
            self.made.append(name)
            await self.may_end.wait()
            return text_reply(name)

        return make


async def turns() -> None:
    """Let all tasks run until they wait."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_few_replies_wait() -> None:
    """Beyond a limit requests are rejected, except for a reply that waits already."""
    maker = Maker()
    requests = [maker.request(name) for name in ("a", "b", "c", "c")]
    rejected = maker.request("d")
    await turns()
    assert rejected.done()
    with pytest.raises(AccessError, match="too many requests") as rejection:
        rejected.result()
    assert rejection.value.status == 503
    maker.may_end.set()
    await asyncio.gather(*requests)
    assert (await maker.request("d")).body == b"d\n"


async def test_a_client_that_leaves_takes_the_reply_from_no_other() -> None:
    """A reply is completed for the clients that still wait for it."""
    maker = Maker()
    requests = [maker.request("a") for _ in range(3)]
    await turns()
    requests.pop().cancel()
    maker.may_end.set()
    assert {reply.body for reply in await asyncio.gather(*requests)} == {b"a\n"}
    assert maker.made == ["a"]


async def test_an_error_of_a_reply() -> None:
    """All who wait get the error, and the next request tries again."""
    replies = SharedReplies(max_waiting=1)

    async def fail() -> Reply:
        raise ZeroDivisionError

    async def succeed() -> Reply:
        return text_reply("ok")

    results = await asyncio.gather(replies.get("a", fail), replies.get("a", fail), return_exceptions=True)
    assert [type(result) for result in results] == [ZeroDivisionError] * 2
    assert (await replies.get("a", succeed)).body == b"ok\n"


async def test_few_replies_are_kept() -> None:
    """Strangers who ask for many different pages fill no memory."""
    made: list[int] = []
    replies = SharedReplies(max_waiting=1, seconds=1.0, monotonic=lambda: 0.0)

    async def make() -> Reply:
        made.append(1)
        return text_reply("a page")

    for number in (*range(MAX_KEPT_REPLIES + 1), MAX_KEPT_REPLIES, 0):
        await replies.get(number, make)
    assert len(made) == MAX_KEPT_REPLIES + 2
