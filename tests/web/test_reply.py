"""Parts of responses."""

from __future__ import annotations

import pytest

from late_exporter.web import reply
from late_exporter.web.asgi import Message
from late_exporter.web.reply import PART_BYTES, Reply, send_reply

LARGE = bytes(2 * PART_BYTES + 1)


async def send_parts(body: bytes, scheme: str) -> list[int]:
    """Send a response; return the sizes of its parts."""
    sizes: list[int] = []

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            sizes.append(len(message["body"]))

    await send_reply(Reply(body=body), {"method": "GET", "scheme": scheme, "headers": []}, send)
    return sizes


@pytest.mark.parametrize(
    ("copies_unsent", "scheme", "body", "sizes"),
    [
        (False, "http", LARGE, [len(LARGE), 0]),
        (False, "https", LARGE, [PART_BYTES, PART_BYTES, 1]),
        (True, "http", LARGE, [PART_BYTES, PART_BYTES, 1]),
        (False, "http", LARGE[:PART_BYTES], [PART_BYTES]),
        (False, "http", b"", [0]),
    ],
)
async def test_parts_of_a_response(
    monkeypatch: pytest.MonkeyPatch, *, copies_unsent: bool, scheme: str, body: bytes, sizes: list[int]
) -> None:
    """The last part of a large body is small: it waits until the client has read most of the others."""
    monkeypatch.setattr(reply, "COPIES_UNSENT", copies_unsent)
    assert sizes == await send_parts(body, scheme)
