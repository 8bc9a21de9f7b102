"""Gzip bodies put together from cached segments, so that a new body only compresses what has changed.

A segment ends with a full flush and refers to nothing before it, so segments can be joined into one deflate stream, and
their checksums combined to the one of the whole body. It is one gzip member because httpx and curl stop reading at the
end of the first. See docs/decisions/0004-cached-exposition.md.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from functools import lru_cache

import msgspec

RAW_DEFLATE = -15
GZIP_FORMAT = 31
"""Window bits of zlib for a stream without header, and for one with a gzip header."""

GZIP_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
"""Deflate, without a name and a time, of an unknown system (RFC 1952)."""

LAST_BLOCK = b"\x03\0"
"""Empty deflate block that ends the stream."""

CRC32_POLYNOMIAL = 0xEDB88320


class Segment(msgspec.Struct, frozen=True, gc=False):
    """Part of a deflate stream that can be decoded on its own, with the CRC-32 and the size of its text."""

    deflated: bytes
    crc: int
    size: int


class BodySection(msgspec.Struct, frozen=True, gc=False):
    """Consecutive segments, with the CRC-32 and the size of their whole text."""

    pieces: Sequence[bytes]
    crc: int
    size: int


def compress(text: bytes) -> Segment:
    """Compress a text to a segment; the same text gives the same bytes."""
    stream = zlib.compressobj(1, zlib.DEFLATED, RAW_DEFLATE)
    return Segment(stream.compress(text) + stream.flush(zlib.Z_FULL_FLUSH), zlib.crc32(text), len(text))


def decompress(pieces: Sequence[bytes]) -> bytes:
    """Return the text of a gzip member."""
    return zlib.decompress(b"".join(pieces), GZIP_FORMAT)


def inflate_segment(segment: Segment) -> bytes:
    """Return the text of a segment."""
    return zlib.decompressobj(RAW_DEFLATE).decompress(segment.deflated)


def join_segments(segments: Sequence[Segment]) -> BodySection:
    """Return the section that has the text of the segments."""
    crc = size = 0
    for segment in segments:
        crc = combine_crc32(crc, segment.crc, segment.size)
        size += segment.size
    return BodySection([segment.deflated for segment in segments], crc, size)


def gzip_member(sections: Iterable[BodySection]) -> list[bytes]:
    """Return the pieces of the gzip member that has the text of the sections."""
    crc = size = 0
    pieces = [GZIP_HEADER]
    for section in sections:
        crc = combine_crc32(crc, section.crc, section.size)
        size += section.size
        pieces += section.pieces
    trailer = crc.to_bytes(4, "little") + (size % 2**32).to_bytes(4, "little")
    return [*pieces, LAST_BLOCK, trailer]


def combine_crc32(first: int, second: int, size: int) -> int:
    """Return the CRC-32 of two joined texts, the second of ``size`` bytes, from the CRC-32 of each.

    It is zlib's crc32_combine, which Python does not offer. A CRC is a polynomial over GF(2). Appending ``size`` bytes
    multiplies that of the first text by x^(8 * size).
    """
    return _multiply(_power_of_x(size), first) ^ second


@lru_cache(maxsize=4096)
def _power_of_x(size: int) -> int:
    """Return x^(8 * size) modulo the polynomial of CRC-32, bits reflected."""
    power, square = 1 << 31, 1 << 23
    while size:
        power = _multiply(square, power) if size & 1 else power
        square = _multiply(square, square)
        size >>= 1
    return power


def _multiply(first: int, second: int) -> int:
    product = 0
    for bit in range(31, -1, -1):
        if first >> bit & 1:
            product ^= second
        second = second >> 1 ^ CRC32_POLYNOMIAL if second & 1 else second >> 1
    return product
