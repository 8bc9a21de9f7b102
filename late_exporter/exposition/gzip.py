"""Deflate streams that are put together from stretches, so that a gzip body costs only what has changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import msgspec

try:
    from isal import isal_zlib as zlib
except ImportError:  # pragma: no cover - where isal has no wheel
    import zlib  # type: ignore[no-redef]

__all__ = ["Segment", "combine_crc32", "compress", "gzip_member", "inflate"]


class Segment(msgspec.Struct, frozen=True, gc=False):
    """A stretch of a deflate stream that refers to nothing before it, with the checksum and size of its text."""

    deflated: bytes
    crc: int
    size: int


def compress(text: bytes) -> Segment:
    """Deflates a stretch of text; the same text gives the same bytes."""
    stream = zlib.compressobj(1, zlib.DEFLATED, -15)
    return Segment(stream.compress(text) + stream.flush(zlib.Z_FULL_FLUSH), zlib.crc32(text), len(text))


def inflate(pieces: Sequence[bytes]) -> bytes:
    """The text of a gzip member."""
    return zlib.decompress(b"".join(pieces), 31)


def combine_crc32(first: int, second: int, size: int) -> int:
    """The CRC-32 of two stretches, of which the second has this size; for where isal is not there to do it."""
    return _times(_shift(size), first) ^ second


@lru_cache(maxsize=4096)
def _shift(size: int) -> int:
    """x^(8 * size) modulo the CRC's polynomial, bits reflected."""
    power, square = 1 << 31, 1 << 23
    while size:
        power = _times(square, power) if size & 1 else power
        square = _times(square, square)
        size >>= 1
    return power


def _times(first: int, second: int) -> int:
    product = 0
    for bit in range(31, -1, -1):
        if first >> bit & 1:
            product ^= second
        second = second >> 1 ^ 0xEDB88320 if second & 1 else second >> 1
    return product


_combine: Callable[[int, int, int], int] = getattr(zlib, "crc32_combine", combine_crc32)


def gzip_member(segments: Sequence[Segment]) -> list[bytes]:
    """The pieces of the gzip member (RFC 1952) that the segments make, without a name and a time."""
    crc = size = 0
    for segment in segments:
        crc = _combine(crc, segment.crc, segment.size)
        size += segment.size
    head, last_block = b"\x1f\x8b\x08\0\0\0\0\0\0\xff", b"\x03\0"
    tail = crc.to_bytes(4, "little") + (size % 2**32).to_bytes(4, "little")
    return [head, *(segment.deflated for segment in segments), last_block, tail]
