"""The bodies of ``/metrics``: text 0.0.4 and OpenMetrics 1.0.0, plain and gzipped.

The series of a family stand sorted in blocks of some hundred lines. Of a block's text only the deflated form is kept,
closed by a full flush, so that a body is one gzip member put together from blocks, and a publication costs what has
changed. One member, because httpx, curl and Chrome stop at the end of the first.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import TypeAlias

import msgspec
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from late_exporter.metrics import Family
from late_exporter.model import Exemplar, Histogram, Labels
from late_exporter.negotiation import OPENMETRICS, TEXT, content_type, takes_gzip

try:
    from isal import isal_zlib as zlib
except ImportError:  # pragma: no cover - where isal has no wheel
    import zlib  # type: ignore[no-redef]

__all__ = ["Answer", "Exposition", "Segment", "combine", "compress", "number"]

BLOCK_LINES = 512
"""A block with more lines is split."""

MAX_EXEMPLARS = 2048
"""Series of a family that keep exemplars; past it those that got theirs longest ago lose them."""

MAX_EXEMPLAR_CHARACTERS = 128

EXPONENTS_FROM = 1_000_000
"""Go writes numbers from here on with an exponent; Python does so from 1e16 on."""


class Answer(msgspec.Struct, frozen=True):
    """What to send to a scraper.

    Args:
        content_type: Value of ``Content-Type``.
        content_encoding: Value of ``Content-Encoding``; None: no such header.
        body: The body.
        version: The publication it is from, for ``Exposition.served``.
    """

    content_type: str
    content_encoding: str | None
    body: bytes
    version: int = 0


class Segment(msgspec.Struct, frozen=True, gc=False):
    """A stretch of a deflate stream that refers to nothing before it, with the checksum and size of its text."""

    deflated: bytes
    crc: int
    size: int


Pair: TypeAlias = tuple[Segment, Segment]
"""The same lines as text and as OpenMetrics; one object where they do not differ."""


def compress(text: bytes) -> Segment:
    """Deflates a stretch of text; the same text gives the same bytes."""
    stream = zlib.compressobj(1, zlib.DEFLATED, -15)
    return Segment(stream.compress(text) + stream.flush(zlib.Z_FULL_FLUSH), zlib.crc32(text), len(text))


class Exposition:
    """The current value of every series, and the bodies that show them.

    One thread, the event loop's, calls everything but ``publish``; that one may run in another thread meanwhile, and
    shows the values of the moment at which it began.

    Args:
        families: In the order in which they are shown.
        created: OpenMetrics carries ``_created`` of counters and histograms.
        deflate: Makes a stretch of a deflate stream from a block's text.
    """

    def __init__(
        self,
        families: Mapping[str, Family],
        *,
        created: bool = False,
        deflate: Callable[[bytes], Segment] = compress,
    ) -> None:
        self._created = created
        self._deflate = deflate
        self._sections = {name: _Section(family, deflate) for name, family in families.items()}
        self._extra: tuple[Pair, ...] = ()
        self._end = deflate(b"# EOF\n")
        self._dirty = False
        self._answered = 0
        self._changing = threading.Lock()
        self._publishing = threading.Lock()
        self._edition = _Edition(0, {TEXT: _member(()), OPENMETRICS: _member((self._end,))})

    @property
    def samples(self) -> int:
        """How many samples there are, those of ``extra`` left out."""
        return sum(section.size * section.lines for section in self._sections.values())

    @property
    def dirty(self) -> bool:
        """Whether there is something to publish."""
        return self._dirty

    def put(
        self,
        family: str,
        labels: Labels,
        value: float | Histogram,
        *,
        created: float | None = None,
        newborn: bool = False,
    ) -> None:
        """Sets a series.

        Args:
            family: Name of its family.
            labels: Its label values.
            value: Its value.
            created: Unix time at which it began; None leaves what is known.
            newborn: If there is no such series yet, it shows 0 until that has been served.
        """
        section = self._sections[family]
        with self._changing:
            if section.put(labels, value, created if self._created else None) and newborn:
                section.hidden[labels] = 0
            self._dirty = True

    def exemplar(self, family: str, labels: Labels, value: float, exemplar: Exemplar) -> None:
        """Attaches an exemplar to a counter or to the bucket of an observation, unless a newer one is there."""
        with self._changing:
            self._dirty |= self._sections[family].exemplar(labels, value, exemplar)

    def drop(self, family: str, labels: Labels) -> None:
        """Removes a series."""
        with self._changing:
            self._dirty |= self._sections[family].drop(labels)

    def extra(self, metrics: Iterable[Metric]) -> None:
        """Replaces the families that come from other collectors and stand last."""
        foreign = _Foreign(metrics)
        text = generate_latest(foreign)
        openmetrics: bytes = generate_openmetrics(foreign)  # type: ignore[no-untyped-call]
        pair = self._deflate(text), self._deflate(openmetrics.removesuffix(b"# EOF\n"))
        with self._changing:
            self._extra = (pair,)
            self._dirty = True

    def publish(self) -> None:
        """Renders what has changed and replaces the bodies."""
        with self._publishing:
            version = self._edition.version + 1
            with self._changing:
                self._dirty = False
                extra = self._extra
                sections = [section for section in self._sections.values() if section.blocks]
                layout = [(section.head, section.blocks.copy()) for section in sections]
                work = [(section, *taken) for section in sections for taken in section.take(version)]
            for section, block, rows in work:
                block.pair = section.render(rows)
            pairs = [pair for head, blocks in layout for pair in (head, *(block.pair for block in blocks))]
            pairs += extra
            text, openmetrics = [segment for segment, _ in pairs], [segment for _, segment in pairs]
            members = {TEXT: _member(text), OPENMETRICS: _member([*openmetrics, self._end])}
            self._edition = _Edition(version, members)

    def answer(self, accept: str | None, accept_encoding: str | None) -> Answer:
        """The body for a request with these headers."""
        media, edition = content_type(accept), self._edition
        self._answered = edition.version
        if takes_gzip(accept_encoding):
            return Answer(media, "gzip", edition.gzipped(media), edition.version)
        return Answer(media, None, edition.plain(media), edition.version)

    def served(self, version: int | None = None) -> bool:
        """Lets series that were sent as 0 show their value; call it once a body has been sent.

        Args:
            version: Of the answer that was sent; None: the last answer's.

        Returns:
            Whether there are such series, so that it is time to publish.
        """
        version = self._answered if version is None else version
        with self._changing:
            released = [section.release(version) for section in self._sections.values()]
            self._dirty |= any(released)
        return any(released)


class _Edition:
    """The bodies of one publication, as pieces of their gzip members: none is put together before it is asked for."""

    def __init__(self, version: int, members: Mapping[str, Sequence[bytes]]) -> None:
        self.version = version
        self._members = members
        self._gzipped: dict[str, bytes] = {}
        self._plain: dict[str, bytes] = {}

    def gzipped(self, media: str) -> bytes:
        if media not in self._gzipped:
            self._gzipped[media] = b"".join(self._members[media])
        return self._gzipped[media]

    def plain(self, media: str) -> bytes:
        if media not in self._plain:
            self._plain[media] = zlib.decompress(b"".join(self._members[media]), 31)
        return self._plain[media]


class _Foreign(Collector):
    """Metrics that others have collected."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> list[Metric]:
        return self._metrics


_Held: TypeAlias = float | bytes | Histogram
"""A value as it is kept: a histogram with its family's bounds is packed, to a tenth of its size."""

_Marks: TypeAlias = dict[int, tuple[float, str]]
"""Time and text of exemplars by the line they stand on."""

_Row: TypeAlias = tuple[Labels, _Held, float | None, _Marks | None]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[int]).decode
_NOTHING = compress(b"")


@dataclass(slots=True, eq=False)
class _Block:
    """Neighbouring series of a family in columns, and their lines as of the last publication."""

    labels: list[Labels]
    values: list[_Held]
    births: list[float | None]
    dirty: bool = True
    pair: Pair = (_NOTHING, _NOTHING)

    def insert(self, place: int, labels: Labels, value: _Held, born: float | None) -> None:
        self.labels.insert(place, labels)
        self.values.insert(place, value)
        self.births.insert(place, born)

    def delete(self, place: int) -> None:
        del self.labels[place], self.values[place], self.births[place]

    def split(self) -> _Block:
        half = len(self.labels) // 2
        upper = _Block(self.labels[half:], self.values[half:], self.births[half:])
        del self.labels[half:], self.values[half:], self.births[half:]
        return upper

    def absorb(self, upper: _Block) -> None:
        self.labels += upper.labels
        self.values += upper.values
        self.births += upper.births
        self.dirty = True


class _Section:
    """The series of a family."""

    def __init__(self, family: Family, deflate: Callable[[bytes], Segment]) -> None:
        self._kind = family.kind
        self._buckets = family.buckets
        self._writer = _Writer(family)
        self._deflate = deflate
        self._exemplars: dict[Labels, _Marks] = {}
        text, openmetrics = self._writer.heads()
        self.head = deflate(text), deflate(openmetrics)
        self.lines = self._writer.lines
        self._capacity = max(BLOCK_LINES // self.lines, 2)
        self.size = 0
        self.blocks: list[_Block] = []
        self.hidden: dict[Labels, int] = {}  # to the publication that shows them as 0; 0: none yet

    def put(self, labels: Labels, value: float | Histogram, born: float | None) -> bool:
        """Sets a series and tells whether it is new."""
        held = self._writer.hold(value)
        born = None if self._kind == "gauge" else born
        at, place, found = self._find(labels)
        if not self.blocks:
            self.blocks.append(_Block([], [], []))
        block = self.blocks[at]
        block.dirty = True
        if found:
            block.values[place] = held
            block.births[place] = block.births[place] if born is None else born
            return False
        block.insert(place, labels, held, born)
        self.size += 1
        if len(block.labels) > self._capacity:
            self.blocks.insert(at + 1, block.split())
        return True

    def drop(self, labels: Labels) -> bool:
        """Removes a series and tells whether there was one."""
        self.hidden.pop(labels, None)
        self._exemplars.pop(labels, None)
        at, place, found = self._find(labels)
        if not found:
            return False
        block = self.blocks[at]
        block.dirty = True
        block.delete(place)
        self.size -= 1
        if not block.labels:
            del self.blocks[at]
        for lower in (at - 1, at):
            self._merge(lower)
        return True

    def exemplar(self, labels: Labels, value: float, exemplar: Exemplar) -> bool:
        """Keeps an exemplar and tells whether that changes what is shown."""
        text = _exemplar(value, exemplar)
        if text is None or self._kind == "gauge":
            return False
        marks = self._exemplars[labels] = self._exemplars.pop(labels, {})
        line = bisect_left(self._buckets, value)
        if line in marks and marks[line][0] > exemplar.timestamp:
            return False
        marks[line] = exemplar.timestamp, text
        if len(self._exemplars) > MAX_EXEMPLARS:
            oldest = next(iter(self._exemplars))
            del self._exemplars[oldest]
            self._touch(oldest)
        return self._touch(labels)

    def release(self, version: int) -> bool:
        """Stops hiding what a publication, or one before it, showed as 0, and tells whether there was any."""
        released = [labels for labels, shown in self.hidden.items() if 0 < shown <= version]
        for labels in released:
            del self.hidden[labels]
            self._touch(labels)
        return bool(released)

    def take(self, version: int) -> list[tuple[_Block, Iterator[_Row]]]:
        """What a publication has to render, as of now."""
        dirty = [block for block in self.blocks if block.dirty]
        return [(block, self._rows(block, version)) for block in dirty]

    def render(self, rows: Iterable[_Row]) -> Pair:
        """The lines of a block."""
        text: list[str] = []
        openmetrics: list[str] = []
        for labels, held, born, marks in rows:
            lines = self._writer.text(labels, held)
            text += lines
            openmetrics += self._writer.openmetrics(lines, labels, born, marks or {})
        plain = self._deflate("".join(text).encode(errors="replace"))
        if openmetrics == text:
            return plain, plain
        return plain, self._deflate("".join(openmetrics).encode(errors="replace"))

    def _rows(self, block: _Block, version: int) -> Iterator[_Row]:
        block.dirty = False
        values = block.values.copy()
        marks: list[_Marks | None] = [None] * len(values)
        if self.hidden or self._exemplars:
            for place, labels in enumerate(block.labels):
                if labels in self.hidden:
                    self.hidden[labels] = self.hidden[labels] or version
                    values[place] = self._writer.zero
                elif labels in self._exemplars and self._writer.fits(values[place]):
                    marks[place] = self._exemplars[labels].copy()
        return zip(block.labels.copy(), values, block.births.copy(), marks, strict=True)

    def _merge(self, lower: int) -> None:
        """Makes one block of two small neighbours."""
        blocks = self.blocks[max(lower, 0) : lower + 2]
        if len(blocks) > 1 and sum(len(block.labels) for block in blocks) <= self._capacity // 2:
            blocks[0].absorb(blocks[1])
            del self.blocks[lower + 1]

    def _touch(self, labels: Labels) -> bool:
        at, _, found = self._find(labels)
        if found:
            self.blocks[at].dirty = True
        return found

    def _find(self, labels: Labels) -> tuple[int, int, bool]:
        """The block and the place in it that a series has or would have, and whether it is there."""
        if not self.blocks:
            return 0, 0, False
        at = max(bisect_right(self.blocks, labels, key=_first) - 1, 0)
        known = self.blocks[at].labels
        place = bisect_left(known, labels)
        return at, place, place < len(known) and known[place] == labels


class _Writer:
    """How the series of a family are written."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._stem = family.name.removesuffix("_total") if family.kind == "counter" else family.name
        self._name = f"{self._stem}_total" if family.kind == "counter" else family.name
        # prometheus_client sorts labels by name, le among them.
        self._order = sorted(range(len(family.labels)), key=family.labels.__getitem__)
        self._names = [family.labels[place] for place in self._order]
        self._le = bisect_left(self._names, "le")
        self._les = _les(family.buckets)
        self.lines = len(self._les) + 2 if family.kind == "histogram" else 1
        self.zero = self.hold(Histogram(family.buckets, (0,) * len(self._les))) if family.kind == "histogram" else 0

    def heads(self) -> tuple[bytes, bytes]:
        """HELP and TYPE, as text and as OpenMetrics."""
        kind, help_ = self._family.kind, self._family.help.replace("\\", r"\\").replace("\n", r"\n")
        text = f"# HELP {self._name} {help_}\n# TYPE {self._name} {kind}\n"
        openmetrics = f"# HELP {self._stem} {_escape(self._family.help)}\n# TYPE {self._stem} {kind}\n"
        return text.encode(errors="replace"), openmetrics.encode(errors="replace")

    def hold(self, value: float | Histogram) -> _Held:
        """A value as it is kept."""
        if isinstance(value, Histogram) and self.fits(value):
            with suppress(OverflowError):
                return _encode((value.micros, *value.counts))
        return value

    def fits(self, held: _Held) -> bool:
        """Whether a value has the buckets of its family: the state may hold histograms of another configuration."""
        return not isinstance(held, Histogram) or held.bounds == self._family.buckets

    def text(self, labels: Labels, held: _Held) -> list[str]:
        """The lines of a series."""
        if isinstance(held, bytes):
            micros, *counts = _decode(held)
            return self._histogram(labels, self._les, counts, micros)
        if isinstance(held, Histogram):
            return self._histogram(labels, _les(held.bounds), held.counts, held.micros)
        return [f"{self._name}{_braces(self._pairs(labels))} {number(held)}\n"]

    def openmetrics(self, lines: list[str], labels: Labels, born: float | None, marks: _Marks) -> list[str]:
        """The same lines with what only OpenMetrics has."""
        if born is None and not marks:
            return lines
        lines = lines.copy()
        for line, (_, exemplar) in marks.items():
            lines[line] = f"{lines[line][:-1]}{exemplar}\n"
        if born is not None:
            lines.append(f"{self._stem}_created{_braces(self._pairs(labels))} {number(born)}\n")
        return lines

    def _histogram(self, labels: Labels, les: Sequence[str], counts: Sequence[int], micros: int) -> list[str]:
        pairs = self._pairs(labels)
        head = "".join((self._family.name, "_bucket{", *(f"{pair}," for pair in pairs[: self._le])))
        tail = "".join((*(f",{pair}" for pair in pairs[self._le :]), "} "))
        numbers = [number(count) for count in accumulate(counts)]
        lines = [f"{head}{le}{tail}{count}\n" for le, count in zip(les, numbers, strict=True)]
        braces = _braces(pairs)
        lines.append(f"{self._family.name}_count{braces} {numbers[-1]}\n")
        lines.append(f"{self._family.name}_sum{braces} {_seconds(micros)}\n")
        return lines

    def _pairs(self, labels: Labels) -> list[str]:
        values = [labels[place] for place in self._order]
        return [f'{name}="{_escape(value)}"' for name, value in zip(self._names, values, strict=True)]


def number(value: float) -> str:
    """A number as Go and prometheus_client write it; an integer too large for a float is infinite."""
    if type(value) is int and 0 <= value < EXPONENTS_FROM:
        return f"{value}.0"
    try:
        value = float(value)
    except OverflowError:
        return "+Inf" if value > 0 else "-Inf"
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    text = repr(value)
    if value >= EXPONENTS_FROM and "e" not in text:
        whole, _, fraction = text.partition(".")
        mantissa = f"{whole[0]}.{whole[1:]}{fraction}".rstrip("0.")
        return f"{mantissa}e+{len(whole) - 1:02d}"
    return text


def combine(first: int, second: int, size: int) -> int:
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


_combine: Callable[[int, int, int], int] = getattr(zlib, "crc32_combine", combine)


def _member(segments: Sequence[Segment]) -> list[bytes]:
    """The pieces of the gzip member (RFC 1952) that the segments make, without a name and a time."""
    crc = size = 0
    for segment in segments:
        crc = _combine(crc, segment.crc, segment.size)
        size += segment.size
    head, last_block = b"\x1f\x8b\x08\0\0\0\0\0\0\xff", b"\x03\0"
    tail = crc.to_bytes(4, "little") + (size % 2**32).to_bytes(4, "little")
    return [head, *(segment.deflated for segment in segments), last_block, tail]


def _exemplar(value: float, exemplar: Exemplar) -> str | None:
    """What stands behind a sample; None where it could not be read again."""
    pairs = sorted(dict(exemplar.labels).items())
    characters = sum(len(name) + len(text) for name, text in pairs)
    if characters > MAX_EXEMPLAR_CHARACTERS or math.isnan(value) or not math.isfinite(exemplar.timestamp):
        return None
    labels = ",".join(f'{name}="{_escape(text)}"' for name, text in pairs)
    return f" # {{{labels}}} {number(value)} {exemplar.timestamp}"


def _les(bounds: Sequence[float]) -> list[str]:
    return [f'le="{number(bound)}"' for bound in (*bounds, math.inf)]


def _seconds(micros: int) -> str:
    try:
        return number(micros / 1e6)
    except OverflowError:
        return "+Inf"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _braces(pairs: Sequence[str]) -> str:
    return f"{{{','.join(pairs)}}}" if pairs else ""


def _first(block: _Block) -> Labels:
    return block.labels[0]
