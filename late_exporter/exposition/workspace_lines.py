"""Lines of single workspaces, cut out of the published blocks and cached until one of these changes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from late_exporter.exposition.gzip import BodySection, Segment, inflate_segment, join_segments
from late_exporter.exposition.sections import FamilySection, RenderedBlock, SectionPair, SegmentPair

MAX_WORKSPACES = 1024
"""Maximum number of workspaces whose lines are cached; further ones replace the least recently requested."""


class _CachedLines(NamedTuple):
    blocks: Sequence[tuple[RenderedBlock, int]]
    sections: SectionPair | None


class WorkspaceLines:
    """Cache of the lines of workspaces, by family.

    Most series of a large workspace are in blocks of their own, whose compressed lines are used as they are. From a
    block that it shares with its neighbours, its lines are cut out and compressed again; no line is rendered.

    ``discard`` may run in another thread than ``sections``.
    """

    def __init__(self, compress_lines: Callable[[bytes], Segment]) -> None:
        self._compress = compress_lines
        self._lines: OrderedDict[str, dict[str, _CachedLines]] = OrderedDict()

    def sections(self, family: FamilySection, workspace: str) -> SectionPair | None:
        """Return the lines of a workspace without their header; None if there are none."""
        lines = self._lines[workspace] = self._lines.pop(workspace, {})
        if len(self._lines) > MAX_WORKSPACES:
            self._lines.popitem(last=False)
        blocks = tuple(family.blocks_of(workspace))
        cached = lines.get(family.name)
        if cached is None or cached.blocks != blocks:
            cached = lines[family.name] = _CachedLines(blocks, self._join(blocks))
        return cached.sections

    def discard(self, workspace: str) -> None:
        self._lines.pop(workspace, None)

    def _join(self, blocks: Sequence[tuple[RenderedBlock, int]]) -> SectionPair | None:
        if not blocks:
            return None
        texts, openmetrics = zip(*(self._cut(block, position) for block, position in blocks), strict=True)
        text = join_segments(texts)
        return text, text if texts == openmetrics else join_segments(openmetrics)

    def _cut(self, block: RenderedBlock, position: int) -> SegmentPair:
        if len(block.ranges) == 1:
            return block.pair
        text = self._cut_segment(block, position, 0)
        return text, text if block.pair[0] is block.pair[1] else self._cut_segment(block, position, 1)

    def _cut_segment(self, block: RenderedBlock, position: int, encoding: int) -> Segment:
        start, end = block.bounds(position, encoding)
        return self._compress(inflate_segment(block.pair[encoding])[start:end])


def join_lines(
    families: Sequence[FamilySection], workspaces: Sequence[str], lines: WorkspaceLines, encoding: int
) -> Sequence[BodySection]:
    """Return the sections with the lines of sorted workspaces, as text (0) or as OpenMetrics (1)."""
    sections: list[BodySection] = []
    for family in families:
        pairs = [pair for workspace in workspaces if (pair := lines.sections(family, workspace)) is not None]
        if pairs:
            sections += [family.header[encoding], *(pair[encoding] for pair in pairs)]
    return sections
