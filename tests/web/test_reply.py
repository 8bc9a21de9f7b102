"""Parts of responses."""

from __future__ import annotations

import pytest

from late_exporter.web.asgi import Message
from late_exporter.web.reply import PART_BYTES, Reply, send_reply

LARGE = bytes(2 * PART_BYTES + 1)


@pytest.mark.parametrize(
    ("body", "sizes"), [(LARGE, [PART_BYTES, PART_BYTES, 1]), (LARGE[:PART_BYTES], [PART_BYTES]), (b"", [0])]
)
async def test_parts_of_a_response(body: bytes, sizes: list[int]) -> None:
    """A large body is sent in parts, after a head with the date."""
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    await send_reply(Reply(body=body), {"method": "GET", "headers": []}, send)
    start, *parts = messages
    assert b"date" in dict(start["headers"])
    assert sizes == [len(part["body"]) for part in parts]
    assert [True] * (len(sizes) - 1) + [False] == [part["more_body"] for part in parts]
