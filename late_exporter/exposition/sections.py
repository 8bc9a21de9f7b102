"""Published lines of a family, of which those of single workspaces can be cut out."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

import msgspec

from late_exporter.exposition.gzip import BodySection, Segment

SegmentPair: TypeAlias = tuple[Segment, Segment]
"""The same lines as text and as OpenMetrics; both are one object if they do not differ."""

SectionPair: TypeAlias = tuple[BodySection, BodySection]
"""Consecutive lines as text and as OpenMetrics."""


class WorkspaceRange(NamedTuple):
    """The lines of one workspace in a block, which end at these bytes of the block's text and OpenMetrics."""

    workspace: str
    text_end: int
    openmetrics_end: int


class RenderedBlock(msgspec.Struct, frozen=True, eq=False):
    """Lines of a block as of a publication, with the ranges of its workspaces; blocks are equal if they are the same.

    ``ranges`` is empty if the family has no label ``workspace``.
    """

    pair: SegmentPair
    ranges: Sequence[WorkspaceRange] = ()

    def bounds(self, position: int, encoding: int) -> tuple[int, int]:
        """Return the bytes at which a range starts and ends, in the text (0) or in OpenMetrics (1)."""
        ends = [0, *(each.openmetrics_end if encoding else each.text_end for each in self.ranges[: position + 1])]
        return ends[-2], ends[-1]


class FamilySection(msgspec.Struct, frozen=True, eq=False):
    """All lines of a family as of a publication.

    Args:
        name: Name of the family.
        header: The lines HELP and TYPE.
        blocks: All series, in sorted blocks.
        whole: Header and blocks.
    """

    name: str
    header: SectionPair
    blocks: Sequence[RenderedBlock]
    whole: SectionPair

    def blocks_of(self, workspace: str) -> Iterator[tuple[RenderedBlock, int]]:
        """Yield the blocks with series of a workspace, each with the position of its range."""
        if not self.blocks[0].ranges:
            return
        first = bisect_left(self.blocks, workspace, key=lambda block: block.ranges[-1].workspace)
        for block in self.blocks[first:]:
            position = bisect_left(block.ranges, workspace, key=lambda each: each.workspace)
            if position == len(block.ranges) or block.ranges[position].workspace != workspace:
                return
            yield block, position
