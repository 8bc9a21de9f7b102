"""Read response bodies with bounded memory and time, whatever the API sends."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from contextlib import suppress

from late_exporter.errors import BadPayload, ResponseTooLarge

MAX_BODY_BYTES = 8 * 1024**2
"""Maximum size of a decompressed response; a page of 100 logs, each with 15 KB of text, has 1.5 MB."""

MAX_RATIO = 100
"""Maximum ratio of decompressed to received bytes, beyond UNLIMITED_BYTES. Pages of logs have 40 to 80;
repetitive texts, such as one letter again and again, have up to 700."""

UNLIMITED_BYTES = 1024**2
"""Decompressed size up to which the ratio does not matter."""

DECODING_BYTES = 64 * 1024
"""Bytes that are decompressed at a time."""

SMALL_BODY_BYTES = 256 * 1024
"""Size up to which any number of responses may be read at the same time; few pages are larger."""

MAX_LARGE_BODIES = 3
"""Maximum number of larger responses that are read at the same time; further ones wait."""

MAX_PIECES = 8 * 1024
"""Maximum number of pieces of a response, because each takes far more time than its bytes.

8 MiB in the smallest packets of IPv6 are fewer.
"""

PIECES_AT_A_TIME = 16
"""Pieces after which other tasks run, if several have been received together."""

MAX_ERROR_BYTES = 16 * 1024
"""Part of an error response that is read; its message is at the beginning."""


async def read_body(
    chunks: AsyncIterable[bytes],
    headers: Mapping[str, str],
    *,
    is_success: bool,
    wait_for_memory: Callable[[], Awaitable[object]],
) -> bytes:
    """Return the decompressed body of a streamed response; for an error, as much of its beginning as can be read.

    Args:
        chunks: The body as received.
        headers: Response headers, by names in any case.
        is_success: Whether the status is 2xx.
        wait_for_memory: Called before more than SMALL_BODY_BYTES are read.

    Raises:
        ResponseTooLarge: The body is too large, much larger than its compressed form, or in too many pieces.
        BadPayload: It is compressed in an unsupported way, or continues after its end.
        zlib.error: The body is damaged.
    """
    encoding = headers.get("Content-Encoding", "")
    if not is_success:
        body = bytearray()
        # The status counts, whatever follows it.
        with suppress(BadPayload, zlib.error):
            await _BodyReader(chunks, encoding, body).read(MAX_ERROR_BYTES)
        return bytes(body)
    if _announced_size(headers) > MAX_BODY_BYTES:
        raise _too_large()
    reader = _BodyReader(chunks, encoding, bytearray())
    try:
        await reader.read(SMALL_BODY_BYTES)
        if len(reader.body) > SMALL_BODY_BYTES:
            await wait_for_memory()
            await reader.read(MAX_BODY_BYTES)
    except BaseException:
        reader.body.clear()  # The frames of an error live on until it is handled.
        raise
    if len(reader.body) > MAX_BODY_BYTES:
        reader.body.clear()
        raise _too_large()
    return bytes(reader.body)


class _BodyReader:
    """Reader of a body in parts; only gzip is decompressed.

    One byte may expand to a thousand, and httpx would decompress a whole chunk at once.
    """

    def __init__(self, chunks: AsyncIterable[bytes], content_encoding: str, body: bytearray) -> None:
        encoding = content_encoding.strip().lower()
        is_gzip = encoding in ("gzip", "x-gzip")
        if not is_gzip and encoding not in ("", "identity"):
            raise BadPayload("the response has an unsupported Content-Encoding; only gzip was requested")
        self.body = body
        self._chunks = aiter(chunks)
        self._gzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16) if is_gzip else None
        self._unread = memoryview(b"")
        self._decoded_size = 0
        self._piece_count = 0

    async def read(self, limit: int) -> None:
        """Read until the body is complete or exceeds a number of bytes."""
        while len(self.body) <= limit:
            part = self._decode(limit + 1 - len(self.body))
            self.body += part
            if len(self.body) > UNLIMITED_BYTES + MAX_RATIO * self._decoded_size:
                raise ResponseTooLarge(f"the response decompresses to more than {MAX_RATIO} times its size")
            if not part:
                chunk = await anext(self._chunks, None)
                if chunk is None:
                    return
                await self._receive(chunk)

    async def _receive(self, chunk: bytes) -> None:
        self._piece_count += 1
        if self._piece_count > MAX_PIECES:
            raise ResponseTooLarge(f"the response arrives in more than {MAX_PIECES:,} pieces")
        if self._piece_count % PIECES_AT_A_TIME == 0:
            await asyncio.sleep(0)
        if chunk and self._gzip is not None and self._gzip.eof:
            raise _trailing_bytes()
        self._unread = memoryview(chunk)

    def _decode(self, max_length: int) -> bytes | memoryview:
        """Return a part of the received bytes, decoded; empty if more have to be received."""
        part: bytes | memoryview
        if self._gzip is None:
            part, self._unread = self._unread[:max_length], self._unread[max_length:]
            self._decoded_size += len(part)
            return part
        part = self._gzip.decompress(self._unread, min(max_length, DECODING_BYTES))
        self._decoded_size += len(self._unread)
        self._unread = memoryview(self._gzip.unconsumed_tail)
        self._decoded_size -= len(self._unread)
        # zlib collects everything after the end, and copies it at each chunk.
        if self._gzip.unused_data:
            raise _trailing_bytes()
        return part


def _announced_size(headers: Mapping[str, str]) -> int:
    text = headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else 0  # noqa: PLR2004 - digits of 64 bits


def _too_large() -> ResponseTooLarge:
    return ResponseTooLarge(f"the response is larger than {MAX_BODY_BYTES // 1024**2} MiB")


def _trailing_bytes() -> BadPayload:
    return BadPayload("the response continues after the end of its compressed data")
