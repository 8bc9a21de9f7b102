"""Read response bodies with bounded memory and time, whatever the API sends."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import AsyncExitStack, aclosing

import httpx

from late_exporter.errors import BadPayload, ResponseTooLarge

MAX_BODY_BYTES = 2 * 1024**2
"""Maximum size of a decompressed response, of which Python can make at most about 40 times as much.

A page of 100 logs, each with 15 KB of text, has 1.5 MB; a larger one is read in parts.
"""

DECODING_BYTES = 64 * 1024
"""Bytes that are decompressed at a time."""

PIECE_BYTES = 16
PIECES_AT_A_TIME = 256
"""Bytes for which a piece of a response counts at least, and pieces after which other tasks run."""

SMALL_BODY_BYTES = 256 * 1024
"""Size up to which any number of responses may be read at the same time; few pages are larger."""

MAX_LARGE_BODIES = 2
"""Maximum number of larger responses that are read at the same time; further ones wait."""

MAX_ERROR_BYTES = 16 * 1024
"""Part of an error response that is read; its message is at the beginning."""


async def read_body(response: httpx.Response, large_bodies: asyncio.Semaphore) -> bytes:
    """Return the decompressed body of a streamed response.

    For an error, as much of its beginning as can be read.

    The response is closed. ``large_bodies`` limits how many with more than SMALL_BODY_BYTES are
    read at the same time.

    Raises:
        ResponseTooLarge: The body is too large, or in too many pieces.
        BadPayload: It is damaged, compressed in an unsupported way, or continues after its end.
    """
    body = bytearray()
    has_memory = False
    piece_count = 0
    limit = MAX_BODY_BYTES + 1 if response.is_success else MAX_ERROR_BYTES
    parts = _decode(
        response.aiter_raw(), response.headers.get("Content-Encoding", "").strip().lower()
    )
    try:
        # The memory is free once the body is decoded, which happens before another task can wake
        # up.
        async with AsyncExitStack() as memory, aclosing(response), aclosing(parts):
            async for part in parts:
                piece_count += 1
                if piece_count % PIECES_AT_A_TIME == 0:
                    await asyncio.sleep(0)
                body += part[: limit - len(body)]
                if max(len(body), PIECE_BYTES * piece_count) > MAX_BODY_BYTES:
                    raise ResponseTooLarge(
                        f"the response is larger than {MAX_BODY_BYTES // 1024**2} MiB"
                    )
                if len(body) == limit:
                    break
                if len(body) > SMALL_BODY_BYTES and not has_memory:
                    await memory.enter_async_context(large_bodies)
                    has_memory = True
        return bytes(body)
    except BadPayload:
        if response.is_success:
            raise
        return bytes(body)  # The status counts, whatever follows it.
    finally:
        body.clear()  # The frames of an error live on until it is handled.


async def _decode(chunks: AsyncIterable[bytes], encoding: str) -> AsyncGenerator[bytes]:
    """Yield the decompressed parts of a body; only gzip is decompressed.

    One byte may expand to a thousand, and httpx would decompress a whole chunk at once.
    """
    if encoding in ("", "identity"):
        async for chunk in chunks:
            yield chunk
        return
    if encoding not in ("gzip", "x-gzip"):
        raise BadPayload(
            "the response has an unsupported Content-Encoding; only gzip was requested"
        )
    gzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    async for chunk in chunks:
        rest = chunk
        part = b"-"
        while part:
            try:
                part = gzip.decompress(rest, DECODING_BYTES)
            except zlib.error as exc:
                raise BadPayload(f"the response cannot be decompressed: {exc}") from exc
            rest = gzip.unconsumed_tail
            if gzip.unused_data:
                raise BadPayload("the response continues after the end of its compressed data")
            yield part
