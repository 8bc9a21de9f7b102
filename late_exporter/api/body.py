"""Read response bodies with bounded memory and time, whatever the API sends."""

from __future__ import annotations

import zlib
from contextlib import suppress

import httpx

from late_exporter.errors import BadPayload

MAX_BODY_BYTES = 8 * 1024**2
"""Size of a decompressed response; a page of 100 logs, each with 15 KB of texts, has 1.5 MB."""

MAX_ERROR_BYTES = 16 * 1024
"""Part of an error response that is read; its message is at the beginning."""


async def read_body(response: httpx.Response) -> bytes:
    """Return the decompressed body of a streamed response, of an error response only what can be read of its beginning.

    Raises:
        BadPayload: The body is too large, compressed in an unsupported way, or continues after its end.
        zlib.error: The body is damaged.
    """
    body = bytearray()
    if response.is_success:
        if _announced_size(response) > MAX_BODY_BYTES:
            raise _too_large()
        await _read(response, body, MAX_BODY_BYTES)
        if len(body) > MAX_BODY_BYTES:
            raise _too_large()
    else:
        # The status counts, whatever follows it.
        with suppress(BadPayload, zlib.error):
            await _read(response, body, MAX_ERROR_BYTES)
    return bytes(body)


async def _read(response: httpx.Response, body: bytearray, limit: int) -> None:
    """Append the body until it is complete or exceeds a number of bytes."""
    decoder = _BodyDecoder(response)
    async for chunk in response.aiter_raw():
        body += decoder.decode(chunk, limit + 1 - len(body))
        if len(body) > limit:
            return


class _BodyDecoder:
    """Decoder of a body in chunks; only gzip is decompressed.

    One byte may expand to a thousand, and httpx would decompress a whole chunk at once.
    """

    def __init__(self, response: httpx.Response) -> None:
        encoding = response.headers.get("Content-Encoding", "").strip().lower()
        is_gzip = encoding in ("gzip", "x-gzip")
        if not is_gzip and encoding not in ("", "identity"):
            raise BadPayload("the response has an unsupported Content-Encoding; only gzip was requested")
        self._gzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16) if is_gzip else None

    def decode(self, chunk: bytes, max_length: int) -> bytes:
        """Return the decoded chunk, at most ``max_length`` bytes."""
        if self._gzip is None:
            return chunk[:max_length]
        if self._gzip.eof:
            raise _trailing_bytes()
        decoded = self._gzip.decompress(chunk, max_length)
        # zlib collects everything after the end, and copies it at each chunk.
        if self._gzip.unused_data:
            raise _trailing_bytes()
        return decoded


def _announced_size(response: httpx.Response) -> int:
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else 0  # noqa: PLR2004 - digits of 64 bits


def _too_large() -> BadPayload:
    return BadPayload(f"the response is larger than {MAX_BODY_BYTES // 1024**2} MiB")


def _trailing_bytes() -> BadPayload:
    return BadPayload("the response continues after the end of its compressed data")
