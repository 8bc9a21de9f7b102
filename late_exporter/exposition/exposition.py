"""The bodies of ``/metrics``: text 0.0.4 and OpenMetrics 1.0.0, plain and gzipped.

The series of a family stand sorted in blocks of some hundred lines. Of a block's text only the deflated form is kept,
closed by a full flush, so that a body is one gzip member put together from blocks, and a publication costs what has
changed. One member, because httpx and curl stop at the end of the first.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import msgspec
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from late_exporter.exposition.family import Family
from late_exporter.exposition.gzip import Segment, compress, gzip_member, inflate
from late_exporter.exposition.negotiation import OPENMETRICS, TEXT, accepts_gzip, select_content_type
from late_exporter.exposition.text import ExemplarsByLine, FamilyFormatter, PackedValue, format_exemplar
from late_exporter.model import Exemplar, Histogram, Labels

__all__ = ["EncodedBody", "Exposition"]

BLOCK_LINES = 512
"""A block with more lines is split."""

MAX_EXEMPLARS = 2048
"""Series of a family that keep exemplars; past it those that got theirs longest ago lose them."""


class EncodedBody(msgspec.Struct, frozen=True):
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


SegmentPair: TypeAlias = tuple[Segment, Segment]
"""The same lines as text and as OpenMetrics; one object where they do not differ."""


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
        self._sections = {name: _FamilyBlocks(family, deflate) for name, family in families.items()}
        self._appended: tuple[SegmentPair, ...] = ()
        self._end = deflate(b"# EOF\n")
        self._dirty = False
        self._on_change: Callable[[], None] = _ignore_change
        self._answered = 0
        self._changing = threading.Lock()
        self._publishing = threading.Lock()
        self._edition = _Snapshot(0, {TEXT: gzip_member(()), OPENMETRICS: gzip_member((self._end,))})

    @property
    def sample_count(self) -> int:
        """How many samples there are, those of ``append`` left out."""
        return sum(section.size * section.lines for section in self._sections.values())

    @property
    def dirty(self) -> bool:
        """Whether there is something to publish."""
        return self._dirty

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` after every change of a series."""
        self._on_change = callback

    def put(
        self,
        family: str,
        labels: Labels,
        value: float | Histogram,
        *,
        created: float | None = None,
        start_at_zero: bool = False,
    ) -> None:
        """Sets a series.

        Args:
            family: Name of its family.
            labels: Its label values.
            value: Its value.
            created: Unix time at which it began; None leaves what is known.
            start_at_zero: If there is no such series yet, it shows 0 until that has been served.
        """
        section = self._sections[family]
        with self._changing:
            if section.put(labels, value, created if self._created else None) and start_at_zero:
                section.hidden[labels] = 0
        self._mark_dirty(changed=True)

    def add_exemplar(self, family: str, labels: Labels, value: float, exemplar: Exemplar) -> None:
        """Attaches an exemplar to a counter or to the bucket of an observation, unless a newer one is there."""
        with self._changing:
            changed = self._sections[family].exemplar(labels, value, exemplar)
        self._mark_dirty(changed=changed)

    def remove(self, family: str, labels: Labels) -> None:
        """Removes a series."""
        with self._changing:
            changed = self._sections[family].drop(labels)
        self._mark_dirty(changed=changed)

    def set_process_metrics(self, metrics: Iterable[Metric]) -> None:
        """Replaces the families that come from other collectors and stand last."""
        foreign = _CollectedMetrics(metrics)
        text = generate_latest(foreign)
        openmetrics: bytes = generate_openmetrics(foreign)  # type: ignore[no-untyped-call]
        pair = self._deflate(text), self._deflate(openmetrics.removesuffix(b"# EOF\n"))
        with self._changing:
            self._appended = (pair,)
            self._dirty = True

    def publish(self) -> None:
        """Renders what has changed and replaces the bodies."""
        with self._publishing:
            version = self._edition.version + 1
            with self._changing:
                self._dirty = False
                appended = self._appended
                sections = [section for section in self._sections.values() if section.blocks]
                layout = [(section.head, section.blocks.copy()) for section in sections]
                work = [(section, *taken) for section in sections for taken in section.take(version)]
            for section, block, rows in work:
                block.pair = section.render(rows)
            pairs = [pair for head, blocks in layout for pair in (head, *(block.pair for block in blocks))]
            pairs += appended
            text, openmetrics = [segment for segment, _ in pairs], [segment for _, segment in pairs]
            members = {TEXT: gzip_member(text), OPENMETRICS: gzip_member([*openmetrics, self._end])}
            self._edition = _Snapshot(version, members)

    def get_body(self, accept: str | None, accept_encoding: str | None) -> EncodedBody:
        """The body for a request with these headers."""
        media, edition = select_content_type(accept), self._edition
        self._answered = edition.version
        if accepts_gzip(accept_encoding):
            return EncodedBody(media, "gzip", edition.gzipped(media), edition.version)
        return EncodedBody(media, None, edition.plain(media), edition.version)

    def mark_served(self, version: int | None = None) -> bool:
        """Lets series that were sent as 0 show their value; call it once a body has been sent.

        Args:
            version: Of the answer that was sent; None: the last answer's.

        Returns:
            Whether there are such series, so that it is time to publish.
        """
        version = self._answered if version is None else version
        with self._changing:
            released = [section.release(version) for section in self._sections.values()]
        self._mark_dirty(changed=any(released))
        return any(released)

    def _mark_dirty(self, *, changed: bool) -> None:
        if changed:
            self._dirty = True
            self._on_change()


class _Snapshot:
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
            self._plain[media] = inflate(self._members[media])
        return self._plain[media]


class _CollectedMetrics(Collector):
    """Metrics that others have collected."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> list[Metric]:
        return self._metrics


_SeriesRow: TypeAlias = tuple[Labels, PackedValue, float | None, ExemplarsByLine | None]

_NOTHING = compress(b"")


@dataclass(slots=True, eq=False)
class _Block:
    """Neighbouring series of a family in columns, and their lines as of the last publication."""

    labels: list[Labels]
    values: list[PackedValue]
    births: list[float | None]
    dirty: bool = True
    pair: SegmentPair = (_NOTHING, _NOTHING)

    def insert(self, place: int, labels: Labels, value: PackedValue, born: float | None) -> None:
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


class _FamilyBlocks:
    """The series of a family."""

    def __init__(self, family: Family, deflate: Callable[[bytes], Segment]) -> None:
        self._kind = family.kind
        self._buckets = family.buckets
        self._writer = FamilyFormatter(family)
        self._deflate = deflate
        self._exemplars: dict[Labels, ExemplarsByLine] = {}
        text, openmetrics = self._writer.header()
        self.head = deflate(text), deflate(openmetrics)
        self.lines = self._writer.line_count
        self._capacity = max(BLOCK_LINES // self.lines, 2)
        self.size = 0
        self.blocks: list[_Block] = []
        self.hidden: dict[Labels, int] = {}  # to the publication that shows them as 0; 0: none yet

    def put(self, labels: Labels, value: float | Histogram, born: float | None) -> bool:
        """Sets a series and tells whether it is new."""
        held = self._writer.pack(value)
        born = None if self._kind == "gauge" else born
        at, place, found = self._find(labels)
        if not self.blocks:
            self.blocks.append(_Block([], [], []))
        block = self.blocks[at]
        if found:
            born = block.births[place] if born is None else born
            block.dirty |= (block.values[place], block.births[place]) != (held, born)
            block.values[place], block.births[place] = held, born
            return False
        block.dirty = True
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
        text = format_exemplar(value, exemplar)
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

    def take(self, version: int) -> list[tuple[_Block, Iterator[_SeriesRow]]]:
        """What a publication has to render, as of now."""
        dirty = [block for block in self.blocks if block.dirty]
        return [(block, self._rows(block, version)) for block in dirty]

    def render(self, rows: Iterable[_SeriesRow]) -> SegmentPair:
        """The lines of a block."""
        text: list[str] = []
        openmetrics: list[str] = []
        for labels, held, born, marks in rows:
            lines = self._writer.text_lines(labels, held)
            text += lines
            openmetrics += self._writer.openmetrics_lines(lines, labels, born, marks or {})
        plain = self._deflate("".join(text).encode(errors="replace"))
        if openmetrics == text:
            return plain, plain
        return plain, self._deflate("".join(openmetrics).encode(errors="replace"))

    def _rows(self, block: _Block, version: int) -> Iterator[_SeriesRow]:
        block.dirty = False
        values = block.values.copy()
        marks: list[ExemplarsByLine | None] = [None] * len(values)
        if self.hidden or self._exemplars:
            for place, labels in enumerate(block.labels):
                if labels in self.hidden:
                    self.hidden[labels] = self.hidden[labels] or version
                    values[place] = self._writer.zero
                elif labels in self._exemplars and self._writer.matches_buckets(values[place]):
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


def _first(block: _Block) -> Labels:
    return block.labels[0]


def _ignore_change() -> None:
    pass
