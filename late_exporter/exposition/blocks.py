"""Series of one family in sorted blocks, whose compressed lines are cached until one of their series changes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate

from late_exporter.exposition.family import Family
from late_exporter.exposition.gzip import Segment, compress, join_segments
from late_exporter.exposition.sections import FamilySection, RenderedBlock, SegmentPair, WorkspaceRange
from late_exporter.exposition.text import ExemplarsByLine, FamilyFormatter, PackedValue, format_exemplar
from late_exporter.series import Exemplar, Histogram, Labels

BLOCK_LINES = 512
"""Maximum number of lines in a block of logs; larger blocks are split."""

OWN_BLOCK_LINES = 128
"""The same for metrics of the exporter: each poll of a workspace changes them, and renders those of its neighbours."""

MAX_EXEMPLARS = 2048
"""Maximum number of series per family with exemplars; beyond it the least recently updated series loses its own."""

_EMPTY = RenderedBlock((compress(b""), compress(b"")))


@dataclass(slots=True, eq=False)
class _Block:
    """Consecutive series of a family, column by column, and their lines as of the last publication."""

    labels: list[Labels]
    values: list[PackedValue]
    rendered: RenderedBlock = _EMPTY

    def insert(self, index: int, labels: Labels, value: PackedValue) -> None:
        self.labels.insert(index, labels)
        self.values.insert(index, value)

    def delete(self, index: int) -> None:
        del self.labels[index], self.values[index]

    def split(self) -> _Block:
        half = len(self.labels) // 2
        upper = _Block(self.labels[half:], self.values[half:])
        del self.labels[half:], self.values[half:]
        return upper

    def extend(self, upper: _Block) -> None:
        self.labels += upper.labels
        self.values += upper.values


class FamilyBlocks:
    """Series of a family in sorted blocks.

    Attributes:
        section: The published lines; None if there are none.
        changed_blocks: Blocks that the next publication renders.
    """

    def __init__(self, family: Family, compress_lines: Callable[[bytes], Segment]) -> None:
        self._family = family
        self._formatter = FamilyFormatter(family)
        self._compress = compress_lines
        self._created: dict[Labels, float] = {}
        self._exemplars: dict[Labels, ExemplarsByLine] = {}
        text, openmetrics = self._formatter.header()
        segments = compress_lines(text), compress_lines(openmetrics)
        self._header = segments, (join_segments(segments[:1]), join_segments(segments[1:]))
        self.lines_per_series = self._formatter.line_count
        self._capacity = max((BLOCK_LINES if family.feeds else OWN_BLOCK_LINES) // self.lines_per_series, 2)
        self.series_count = 0
        self._blocks: list[_Block] = []
        self.changed_blocks: dict[_Block, None] = {}
        self.section: FamilySection | None = None
        self._zeros: set[Labels] = set()

    @property
    def has_workspaces(self) -> bool:
        """Whether the first label of the series is a workspace."""
        return self._family.labels[:1] == ("workspace",)

    @property
    def changed_lines(self) -> int:
        """Number of lines that the next publication renders."""
        return sum([len(block.labels) for block in self.changed_blocks]) * self.lines_per_series

    def put(self, labels: Labels, value: float | Histogram, created: float | None, start_at_zero: bool) -> None:  # noqa: FBT001 - called by position
        """Set a series; a new one shows 0 first if ``start_at_zero`` is true."""
        packed = self._formatter.pack(value)
        block_index, index, exists = self._find(labels)
        if not self._blocks:
            self._blocks.append(_Block([], []))
        block = self._blocks[block_index]
        if created is not None and self._family.kind != "gauge" and self._created.get(labels) != created:
            self._created[labels] = created
            self.changed_blocks[block] = None
        if exists:
            if block.values[index] != packed:
                self.changed_blocks[block] = None
            block.values[index] = packed
            return
        self.changed_blocks[block] = None
        block.insert(index, labels, packed)
        self.series_count += 1
        if start_at_zero:
            self._zeros.add(labels)
        if len(block.labels) > self._capacity:
            upper = block.split()
            self._blocks.insert(block_index + 1, upper)
            self.changed_blocks[upper] = None

    def remove(self, labels: Labels) -> None:
        self._zeros.discard(labels)
        self._exemplars.pop(labels, None)
        self._created.pop(labels, None)
        block_index, index, exists = self._find(labels)
        if not exists:
            return
        block = self._blocks[block_index]
        self.changed_blocks[block] = None
        block.delete(index)
        self.series_count -= 1
        if not block.labels:
            del self._blocks[block_index]
        for lower in (block_index - 1, block_index):
            self._merge_with_next(lower)

    def remove_workspace(self, workspace: str) -> None:
        """Remove the series whose first label is the workspace."""
        for labels in list(self._labels_from((workspace,))):
            self.remove(labels)

    def add_exemplar(self, labels: Labels, value: float, exemplar: Exemplar) -> None:
        text = format_exemplar(value, exemplar)
        if text is None or self._family.kind == "gauge":
            return
        exemplars = self._exemplars[labels] = self._exemplars.pop(labels, {})  # the last key is the newest
        line = bisect_left(self._family.buckets, value)
        if line in exemplars and exemplars[line][0] > exemplar.timestamp:
            return
        exemplars[line] = exemplar.timestamp, text
        if len(self._exemplars) > MAX_EXEMPLARS:
            oldest = next(iter(self._exemplars))
            del self._exemplars[oldest]
            self._mark_changed(oldest)
        self._mark_changed(labels)

    def end_zero(self, labels: Labels) -> None:
        """Let a series that shows 0 show its value."""
        self._zeros.discard(labels)
        self._mark_changed(labels)

    def publish(self) -> None:
        """Render the blocks that have changed."""
        changed_blocks, self.changed_blocks = self.changed_blocks, {}
        for block in changed_blocks:
            block.rendered = self._render(block)
        self.section = self._join() if self._blocks else None

    def _join(self) -> FamilySection:
        blocks = [block.rendered for block in self._blocks]
        segments, sections = self._header
        texts, openmetrics = zip(segments, *(block.pair for block in blocks), strict=True)
        return FamilySection(self._family.name, sections, blocks, (join_segments(texts), join_segments(openmetrics)))

    def _render(self, block: _Block) -> RenderedBlock:
        if not self.has_workspaces or not block.labels:
            return RenderedBlock(self._compress_pair(*self._lines(block, 0, len(block.labels))))
        first, last = block.labels[0][0], block.labels[-1][0]
        if first == last:  # as always with a single workspace
            text, openmetrics = self._lines(block, 0, len(block.labels))
            pair = self._compress_pair(text, openmetrics)
            return RenderedBlock(pair, (WorkspaceRange(first, len(text), len(openmetrics)),))
        ends = list(_range_ends(block.labels))
        ranges = [self._lines(block, start, end) for start, end in zip((0, *ends), ends, strict=False)]
        text_ends = accumulate(len(text) for text, _ in ranges)
        openmetrics_ends = accumulate(len(openmetrics) for _, openmetrics in ranges)
        workspaces = [block.labels[end - 1][0] for end in ends]
        text, openmetrics = (b"".join(texts) for texts in zip(*ranges, strict=True))
        pair = self._compress_pair(text, openmetrics)
        return RenderedBlock(pair, tuple(map(WorkspaceRange, workspaces, text_ends, openmetrics_ends)))

    def _compress_pair(self, text: bytes, openmetrics: bytes) -> SegmentPair:
        segment = self._compress(text)
        return segment, segment if openmetrics == text else self._compress(openmetrics)

    def _lines(self, block: _Block, start: int, end: int) -> tuple[bytes, bytes]:
        """Return the lines of some series of a block as text and as OpenMetrics."""
        rows = zip(block.labels[start:end], block.values[start:end], strict=True)
        text: list[str] = []
        if not self._zeros and not self._exemplars and not self._created:
            for labels, value in rows:
                text += self._formatter.text_lines(labels, value)
            text_bytes = "".join(text).encode(errors="replace")
            return text_bytes, text_bytes
        openmetrics: list[str] = []
        for labels, stored in rows:
            is_zero = labels in self._zeros
            value = self._formatter.zero if is_zero else stored
            has_exemplars = not is_zero and self._formatter.matches_buckets(value)
            exemplars = self._exemplars.get(labels, {}) if has_exemplars else {}
            created = self._created.get(labels)
            lines = self._formatter.text_lines(labels, value)
            text += lines
            openmetrics += self._formatter.openmetrics_lines(lines, labels, created, exemplars)
        text_bytes = "".join(text).encode(errors="replace")
        return text_bytes, text_bytes if openmetrics == text else "".join(openmetrics).encode(errors="replace")

    def _merge_with_next(self, index: int) -> None:
        blocks = self._blocks[max(index, 0) : index + 2]
        if len(blocks) > 1 and sum(len(block.labels) for block in blocks) <= self._capacity // 2:
            blocks[0].extend(blocks[1])
            self.changed_blocks[blocks[0]] = None
            self.changed_blocks.pop(blocks[1], None)
            del self._blocks[index + 1]

    def _mark_changed(self, labels: Labels) -> None:
        block_index, _, exists = self._find(labels)
        if exists:
            self.changed_blocks[self._blocks[block_index]] = None

    def _labels_from(self, first: Labels) -> Iterator[Labels]:
        """Yield the labels of the series from ``first`` on that begin with it."""
        block_index, index, _ = self._find(first)
        for block in self._blocks[block_index:]:
            for labels in block.labels[index:]:
                if labels[: len(first)] != first:
                    return
                yield labels
            index = 0

    def _find(self, labels: Labels) -> tuple[int, int, bool]:
        """Return the index of the block, the index in it, and whether the series exists there."""
        if not self._blocks:
            return 0, 0, False
        block_index = max(bisect_right(self._blocks, labels, key=_first_labels) - 1, 0)
        block_labels = self._blocks[block_index].labels
        index = bisect_left(block_labels, labels)
        return block_index, index, index < len(block_labels) and block_labels[index] == labels


def _first_labels(block: _Block) -> Labels:
    return block.labels[0]


def _range_ends(labels: list[Labels]) -> Iterator[int]:
    """Yield the index at which the series of each workspace end in sorted labels."""
    end = 0
    while end < len(labels):
        end = bisect_right(labels, labels[end][0], lo=end, key=_workspace)
        yield end


def _workspace(labels: Labels) -> str:
    return labels[0]
