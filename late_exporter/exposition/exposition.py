"""Bodies of ``/metrics``: text 0.0.4 and OpenMetrics 1.0.0, plain and compressed with gzip.

The series of a family are kept sorted in blocks of a few hundred lines, and the compressed lines of a block are cached
until one of its series changes. A publication therefore renders only what has changed, and a scrape only joins bytes.
The design, and from which size on it pays, is in docs/decisions/0004-cached-exposition.md.
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
from late_exporter.exposition.gzip import Segment, compress, decompress, gzip_member
from late_exporter.exposition.negotiation import OPENMETRICS, TEXT, accepts_gzip, select_content_type
from late_exporter.exposition.text import ExemplarsByLine, FamilyFormatter, PackedValue, format_exemplar
from late_exporter.model import Exemplar, Histogram, Labels, Series

BLOCK_LINES = 512
"""Maximum number of lines in a block; larger blocks are split."""

MAX_EXEMPLARS = 2048
"""Maximum number of series per family with exemplars; beyond it the least recently updated series loses its own."""


class EncodedBody(msgspec.Struct, frozen=True):
    """Response to a scrape. ``version`` is that of the snapshot, for ``Exposition.mark_served``."""

    content_type: str
    content_encoding: str | None
    body: bytes
    version: int


SegmentPair: TypeAlias = tuple[Segment, Segment]
"""The same lines as text and as OpenMetrics; both are one object if they do not differ."""


class Exposition:
    """Current values of the visible series, and the bodies rendered from them.

    All methods run in one thread, except that ``publish`` may run in another one. It renders the values of the moment
    at which it starts.

    Args:
        families: Metric families, in the order of the output.
        created: Whether OpenMetrics carries ``_created`` samples of counters and histograms.
        compress_lines: Compresses the lines of a block.
    """

    def __init__(
        self,
        families: Mapping[str, Family],
        *,
        created: bool = False,
        compress_lines: Callable[[bytes], Segment] = compress,
    ) -> None:
        self._created = created
        self._compress = compress_lines
        self._families = {name: _FamilyBlocks(family, compress_lines) for name, family in families.items()}
        self._process_metrics: tuple[SegmentPair, ...] = ()
        self._end = compress_lines(b"# EOF\n")
        self._on_change: Callable[[], None] = lambda: None
        self._on_served: Callable[[], None] = lambda: None
        self._change_lock = threading.Lock()
        self._publish_lock = threading.Lock()
        self._snapshot = _Snapshot(0, {TEXT: gzip_member(()), OPENMETRICS: gzip_member((self._end,))})

    @property
    def sample_count(self) -> int:
        """Number of samples without the process metrics."""
        return sum(family.series_count * family.lines_per_series for family in self._families.values())

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` after every change of a series."""
        self._on_change = callback

    def on_served(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever a body was sent and ``served_zeros`` is not empty."""
        self._on_served = callback

    def put(
        self,
        family: str,
        labels: Labels,
        value: float | Histogram,
        *,
        created: float | None = None,
        start_at_zero: bool = False,
    ) -> None:
        """Set the value of a series.

        ``created`` is the Unix time at which the series was created; None keeps the time that is already set. With
        ``start_at_zero`` a new series shows 0 until ``end_zeros``.
        """
        blocks = self._families[family]
        with self._change_lock:
            if blocks.put(labels, value, created if self._created else None) and start_at_zero:
                blocks.zero_versions[labels] = 0
        self._on_change()

    def add_exemplar(self, family: str, labels: Labels, value: float, exemplar: Exemplar) -> None:
        """Attach an exemplar to a counter or to the bucket of ``value``, unless a newer one is attached."""
        with self._change_lock:
            changed = self._families[family].add_exemplar(labels, value, exemplar)
        if changed:
            self._on_change()

    def remove(self, family: str, labels: Labels) -> None:
        with self._change_lock:
            changed = self._families[family].remove(labels)
        if changed:
            self._on_change()

    def set_process_metrics(self, metrics: Iterable[Metric]) -> None:
        """Replace the metrics of prometheus_client collectors, which come last in the output."""
        collector = _CollectedMetrics(metrics)
        text = generate_latest(collector)
        openmetrics: bytes = generate_openmetrics(collector)  # type: ignore[no-untyped-call]
        pair = self._compress(text), self._compress(openmetrics.removesuffix(b"# EOF\n"))
        with self._change_lock:
            self._process_metrics = (pair,)

    def publish(self) -> None:
        with self._publish_lock:
            version = self._snapshot.version + 1
            with self._change_lock:
                process_metrics = self._process_metrics
                families = [family for family in self._families.values() if family.blocks]
                layout = [(family.header, family.blocks.copy()) for family in families]
                work = [(family, *dirty) for family in families for dirty in family.take_dirty(version)]
            for family, block, rows in work:
                block.pair = family.render(rows)
            pairs = [pair for header, blocks in layout for pair in (header, *(block.pair for block in blocks))]
            pairs += process_metrics
            text, openmetrics = [segment for segment, _ in pairs], [segment for _, segment in pairs]
            members = {TEXT: gzip_member(text), OPENMETRICS: gzip_member([*openmetrics, self._end])}
            self._snapshot = _Snapshot(version, members)

    def get_body(self, accept: str | None, accept_encoding: str | None) -> EncodedBody:
        """Return the published body for the headers ``Accept`` and ``Accept-Encoding``."""
        content_type, snapshot = select_content_type(accept), self._snapshot
        encoding = "gzip" if accepts_gzip(accept_encoding) else None
        return EncodedBody(content_type, encoding, snapshot.body(content_type, encoding), snapshot.version)

    def mark_served(self, version: int) -> None:
        """Record that the body of a version was sent, with the series that it showed as 0."""
        with self._change_lock:
            for family in self._families.values():
                family.mark_served(version)
        if any(family.served_zeros for family in self._families.values()):
            self._on_served()

    def shows_zero(self, family: str, labels: Labels) -> bool:
        """Return whether a series has started at zero and still shows that."""
        return labels in self._families[family].zero_versions

    def served_zeros(self) -> list[Series]:
        """Return the series that show 0 although a body that showed it was sent."""
        with self._change_lock:
            return [(name, labels) for name, family in self._families.items() for labels in family.served_zeros]

    def end_zeros(self, series: Iterable[Series]) -> None:
        """Let series that show 0 show their values from the next publication on."""
        with self._change_lock:
            changed = [self._families[family].end_zero(labels) for family, labels in series]
        if any(changed):
            self._on_change()


class _Snapshot:
    """Bodies of one publication as pieces of their gzip members, which are joined on first use."""

    def __init__(self, version: int, members: Mapping[str, Sequence[bytes]]) -> None:
        self.version = version
        self._members = members
        self._bodies: dict[tuple[str, str | None], bytes] = {}

    def body(self, content_type: str, encoding: str | None) -> bytes:
        key = content_type, encoding
        if key not in self._bodies:
            pieces = self._members[content_type]
            self._bodies[key] = decompress(pieces) if encoding is None else b"".join(pieces)
        return self._bodies[key]


class _CollectedMetrics(Collector):
    """Metrics that have been collected already, in the form that prometheus_client renders."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> list[Metric]:
        return self._metrics


_SeriesRow: TypeAlias = tuple[Labels, PackedValue, float | None, ExemplarsByLine | None]
"""Labels, value, creation time and exemplars of a series."""

_EMPTY = compress(b"")


@dataclass(slots=True, eq=False)
class _Block:
    """Consecutive series of a family, column by column, and their lines as of the last publication."""

    labels: list[Labels]
    values: list[PackedValue]
    created: list[float | None]
    dirty: bool = True
    pair: SegmentPair = (_EMPTY, _EMPTY)

    def insert(self, index: int, labels: Labels, value: PackedValue, created: float | None) -> None:
        self.labels.insert(index, labels)
        self.values.insert(index, value)
        self.created.insert(index, created)

    def delete(self, index: int) -> None:
        del self.labels[index], self.values[index], self.created[index]

    def split(self) -> _Block:
        half = len(self.labels) // 2
        upper = _Block(self.labels[half:], self.values[half:], self.created[half:])
        del self.labels[half:], self.values[half:], self.created[half:]
        return upper

    def extend(self, upper: _Block) -> None:
        self.labels += upper.labels
        self.values += upper.values
        self.created += upper.created
        self.dirty = True


class _FamilyBlocks:
    """Series of a family in sorted blocks.

    ``zero_versions`` has the series that show 0, each with the version that first showed it as 0, or 0 if no version
    has. ``served_zeros`` has those of them whose 0 was sent.
    """

    def __init__(self, family: Family, compress_lines: Callable[[bytes], Segment]) -> None:
        self._family = family
        self._formatter = FamilyFormatter(family)
        self._compress = compress_lines
        self._exemplars: dict[Labels, ExemplarsByLine] = {}
        text, openmetrics = self._formatter.header()
        self.header = compress_lines(text), compress_lines(openmetrics)
        self.lines_per_series = self._formatter.line_count
        self._capacity = max(BLOCK_LINES // self.lines_per_series, 2)
        self.series_count = 0
        self.blocks: list[_Block] = []
        self.zero_versions: dict[Labels, int] = {}
        self.served_zeros: set[Labels] = set()

    def put(self, labels: Labels, value: float | Histogram, created: float | None) -> bool:
        """Set a series and return whether it is new."""
        packed = self._formatter.pack(value)
        created = None if self._family.kind == "gauge" else created
        block_index, index, exists = self._find(labels)
        if not self.blocks:
            self.blocks.append(_Block([], [], []))
        block = self.blocks[block_index]
        if exists:
            created = block.created[index] if created is None else created
            block.dirty |= (block.values[index], block.created[index]) != (packed, created)
            block.values[index], block.created[index] = packed, created
            return False
        block.dirty = True
        block.insert(index, labels, packed, created)
        self.series_count += 1
        if len(block.labels) > self._capacity:
            self.blocks.insert(block_index + 1, block.split())
        return True

    def remove(self, labels: Labels) -> bool:
        """Remove a series and return whether it existed."""
        self.zero_versions.pop(labels, None)
        self.served_zeros.discard(labels)
        self._exemplars.pop(labels, None)
        block_index, index, exists = self._find(labels)
        if not exists:
            return False
        block = self.blocks[block_index]
        block.dirty = True
        block.delete(index)
        self.series_count -= 1
        if not block.labels:
            del self.blocks[block_index]
        for lower in (block_index - 1, block_index):
            self._merge_with_next(lower)
        return True

    def add_exemplar(self, labels: Labels, value: float, exemplar: Exemplar) -> bool:
        """Store an exemplar and return whether that changes the output."""
        text = format_exemplar(value, exemplar)
        if text is None or self._family.kind == "gauge":
            return False
        exemplars = self._exemplars[labels] = self._exemplars.pop(labels, {})  # the last key is the newest
        line = bisect_left(self._family.buckets, value)
        if line in exemplars and exemplars[line][0] > exemplar.timestamp:
            return False
        exemplars[line] = exemplar.timestamp, text
        if len(self._exemplars) > MAX_EXEMPLARS:
            oldest = next(iter(self._exemplars))
            del self._exemplars[oldest]
            self._mark_dirty(oldest)
        return self._mark_dirty(labels)

    def mark_served(self, version: int) -> None:
        """Record that the series were sent that ``version`` or an earlier one showed as 0."""
        self.served_zeros.update(labels for labels, zero in self.zero_versions.items() if 0 < zero <= version)

    def end_zero(self, labels: Labels) -> bool:
        """Let a series show its value; return whether it showed 0."""
        self.served_zeros.discard(labels)
        return self.zero_versions.pop(labels, None) is not None and self._mark_dirty(labels)

    def take_dirty(self, version: int) -> list[tuple[_Block, Iterator[_SeriesRow]]]:
        """Return the blocks to render, each with a copy of its series, and mark them as clean."""
        dirty_blocks = [block for block in self.blocks if block.dirty]
        return [(block, self._copy_rows(block, version)) for block in dirty_blocks]

    def render(self, rows: Iterable[_SeriesRow]) -> SegmentPair:
        text: list[str] = []
        openmetrics: list[str] = []
        for labels, value, created, exemplars in rows:
            lines = self._formatter.text_lines(labels, value)
            text += lines
            openmetrics += self._formatter.openmetrics_lines(lines, labels, created, exemplars or {})
        text_segment = self._compress("".join(text).encode(errors="replace"))
        if openmetrics == text:
            return text_segment, text_segment
        return text_segment, self._compress("".join(openmetrics).encode(errors="replace"))

    def _copy_rows(self, block: _Block, version: int) -> Iterator[_SeriesRow]:
        block.dirty = False
        values = block.values.copy()
        exemplars: list[ExemplarsByLine | None] = [None] * len(values)
        if self.zero_versions or self._exemplars:
            for index, labels in enumerate(block.labels):
                if labels in self.zero_versions:
                    self.zero_versions[labels] = self.zero_versions[labels] or version
                    values[index] = self._formatter.zero
                elif labels in self._exemplars and self._formatter.matches_buckets(values[index]):
                    exemplars[index] = self._exemplars[labels].copy()
        return zip(block.labels.copy(), values, block.created.copy(), exemplars, strict=True)

    def _merge_with_next(self, index: int) -> None:
        blocks = self.blocks[max(index, 0) : index + 2]
        if len(blocks) > 1 and sum(len(block.labels) for block in blocks) <= self._capacity // 2:
            blocks[0].extend(blocks[1])
            del self.blocks[index + 1]

    def _mark_dirty(self, labels: Labels) -> bool:
        block_index, _, exists = self._find(labels)
        if exists:
            self.blocks[block_index].dirty = True
        return exists

    def _find(self, labels: Labels) -> tuple[int, int, bool]:
        """Return the index of the block, the index in it, and whether the series exists there."""
        if not self.blocks:
            return 0, 0, False
        block_index = max(bisect_right(self.blocks, labels, key=_first_labels) - 1, 0)
        block_labels = self.blocks[block_index].labels
        index = bisect_left(block_labels, labels)
        return block_index, index, index < len(block_labels) and block_labels[index] == labels


def _first_labels(block: _Block) -> Labels:
    return block.labels[0]
