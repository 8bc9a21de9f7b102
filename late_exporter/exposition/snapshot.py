"""Bodies of one publication."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from late_exporter.exposition.gzip import BodySection, decompress, gzip_member
from late_exporter.exposition.negotiation import OPENMETRICS
from late_exporter.exposition.process_metrics import ProcessMetrics
from late_exporter.exposition.sections import FamilySection
from late_exporter.exposition.workspace_lines import WorkspaceLines, join_lines

MAX_CACHED_BYTES = 16 << 20
"""Size of the bodies of workspaces that are cached; beyond it the oldest are dropped."""

BODY_OVERHEAD = 1024
"""Bytes that a cached body takes beyond its own."""

_BodyKey: TypeAlias = tuple[str, str | None, tuple[str, ...] | None]


class Snapshot:
    """Bodies of one publication: sections of gzip members, which are joined on first use.

    ``workspace_lines`` outlives the snapshot. It is not thread-safe: bodies of workspaces are requested one at a time.
    """

    def __init__(
        self,
        version: int,
        families: Sequence[FamilySection],
        process_metrics: ProcessMetrics | None,
        end: BodySection,
        workspace_lines: WorkspaceLines,
    ) -> None:
        self.version = version
        self.process_metrics = process_metrics
        self._families = families
        self._ends: tuple[Sequence[BodySection], ...] = (), (end,)
        self._workspace_lines = workspace_lines
        self._whole_bodies: dict[_BodyKey, bytes] = {}
        self._workspace_bodies: dict[_BodyKey, bytes] = {}
        self._cached_bytes = 0

    def has_body(self, content_type: str, encoding: str | None, workspaces: tuple[str, ...]) -> bool:
        """Return whether the body of some workspaces is cached."""
        return (content_type, encoding, workspaces) in self._workspace_bodies

    def body(self, content_type: str, encoding: str | None, workspaces: tuple[str, ...] | None) -> bytes:
        """Return the body of some workspaces, or the whole if they are None."""
        key = content_type, encoding, workspaces
        bodies = self._whole_bodies if workspaces is None else self._workspace_bodies
        cached = bodies.get(key)
        if cached is not None:
            return cached
        body = _join(self._sections(content_type, workspaces), encoding)
        if workspaces is None:
            self._whole_bodies[key] = body
        else:
            self._cache(key, body)
        return body

    def body_without_workspaces(self, content_type: str, encoding: str | None) -> bytes:
        """Return the body without the series of workspaces."""
        number = int(content_type == OPENMETRICS)
        sections = [family.whole[number] for family in self._families if not family.blocks[0].ranges]
        return _join([*sections, *self._process_sections([None], number), *self._ends[number]], encoding)

    def _cache(self, key: _BodyKey, body: bytes) -> None:
        self._workspace_bodies[key] = body
        self._cached_bytes += len(body) + BODY_OVERHEAD
        while self._cached_bytes > MAX_CACHED_BYTES:
            oldest = next(iter(self._workspace_bodies))
            self._cached_bytes -= len(self._workspace_bodies.pop(oldest)) + BODY_OVERHEAD

    def _sections(self, content_type: str, workspaces: Sequence[str] | None) -> list[BodySection]:
        encoding = int(content_type == OPENMETRICS)
        if workspaces is None:
            process_sections = [self.process_metrics.sections[encoding]] if self.process_metrics else []
            return [*(family.whole[encoding] for family in self._families), *process_sections, *self._ends[encoding]]
        lines = join_lines(self._families, workspaces, self._workspace_lines, encoding)
        return [*lines, *self._process_sections(workspaces, encoding), *self._ends[encoding]]

    def _process_sections(self, workspaces: Sequence[str | None], encoding: int) -> list[BodySection]:
        return self.process_metrics.sections_of(workspaces, encoding) if self.process_metrics else []


def _join(sections: Sequence[BodySection], encoding: str | None) -> bytes:
    pieces = gzip_member(sections)
    return decompress(pieces) if encoding is None else b"".join(pieces)
