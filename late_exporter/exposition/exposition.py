"""Bodies of ``/metrics``: text 0.0.4 and OpenMetrics 1.0.0, plain and compressed with gzip.

The series of a family are kept sorted in blocks of some hundred lines, and the compressed lines of a block are cached
until one of its series changes. A publication therefore renders only what has changed, and a scrape only joins bytes.
The design, and the size from which it pays off, are in docs/decisions/0004-cached-exposition.md.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from prometheus_client.core import Metric

from late_exporter.exposition.blocks import FamilyBlocks
from late_exporter.exposition.changes import ChangeQueue, HeldZeros
from late_exporter.exposition.family import Family
from late_exporter.exposition.gzip import Segment, compress, join_segments
from late_exporter.exposition.negotiation import accepts_gzip, select_content_type
from late_exporter.exposition.process_metrics import ProcessMetrics
from late_exporter.exposition.snapshot import Snapshot
from late_exporter.exposition.workspace_lines import WorkspaceLines
from late_exporter.series import Exemplar, Histogram, Labels


class EncodedBody(msgspec.Struct, frozen=True):
    """Response to a scrape."""

    content_type: str
    content_encoding: str | None
    body: bytes


class Exposition:
    """Current values of the visible series, and the bodies rendered from them.

    A change of a series is only noted, in constant time. ``take_changes`` ends a batch of changes, which are published
    together: what is set between two calls is never scraped in part. ``apply_changes`` and ``render`` may run in
    another thread than all other methods.

    Attributes:
        shows_workspaces: Returns whether the series of workspaces may be shown now; may be replaced.

    Args:
        families: Metric families, in the order of the output. Changes of series of other families are ignored.
        created: Whether OpenMetrics carries ``_created`` samples of counters and histograms.
        compress_lines: Compresses the lines of a block.
        zero_hold: Age in seconds until which a new series of a family that starts at zero shows 0.
        clock: Returns the Unix time in seconds.
    """

    def __init__(
        self,
        families: Mapping[str, Family],
        *,
        created: bool = False,
        compress_lines: Callable[[bytes], Segment] = compress,
        zero_hold: float = 0.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._shows_created = created
        self.shows_workspaces: Callable[[], bool] = lambda: True
        self._compress = compress_lines
        self._definitions = families
        self._families = {name: FamilyBlocks(family, compress_lines) for name, family in families.items()}
        self._process_metrics: ProcessMetrics | None = None
        self._end = join_segments([compress_lines(b"# EOF\n")])
        self._workspace_lines = WorkspaceLines(compress_lines)
        self._on_change: Callable[[], None] = lambda: None
        self._changes = ChangeQueue()
        self._zeros = HeldZeros(zero_hold, clock)
        self._render_lock = threading.Lock()
        self._snapshot = Snapshot(0, (), None, self._end, self._workspace_lines)

    @property
    def sample_count(self) -> int:
        """Number of samples without the process metrics, as of the last changes that were applied."""
        return sum(family.series_count * family.lines_per_series for family in self._families.values())

    @property
    def version(self) -> int:
        """Version of the published bodies: the number of the last batch of changes in them."""
        return self._snapshot.version

    def shows(self, family: str) -> bool:
        """Return whether the bodies contain a family."""
        return family in self._families

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` after every change."""
        self._on_change = callback

    def put(self, family: str, labels: Labels, value: float | Histogram, *, created: float | None = None) -> None:
        """Set the value of a series.

        ``created`` is the Unix time at which the series was created; None keeps the time that is already set, and 0
        is unknown. A new series of a family that starts at zero shows 0 until it is ``zero_hold`` seconds old.
        """
        if family not in self._families:
            return
        starts_at_zero = (
            self._definitions[family].starts_at_zero
            and created is not None
            and self._zeros.add((family, labels), created)
        )
        shown_created = created or None if self._shows_created else None
        self._change(self._families[family].put, labels, value, shown_created, starts_at_zero)

    def add_exemplar(self, family: str, labels: Labels, value: float, exemplar: Exemplar) -> None:
        """Attach an exemplar to a counter or to the bucket of ``value``, unless a newer one is attached."""
        if family in self._families:
            self._change(self._families[family].add_exemplar, labels, value, exemplar)

    def remove(self, family: str, labels: Labels) -> None:
        """Remove a series, if it exists."""
        self._zeros.discard((family, labels))
        if family in self._families:
            self._change(self._families[family].remove, labels)

    def remove_workspace(self, workspace: str) -> None:
        """Remove all series of a workspace."""
        families = {name: family for name, family in self._families.items() if family.has_workspaces}
        for family in families.values():
            self._change(family.remove_workspace, workspace)
        self._zeros.discard_workspace(families, workspace)
        self._workspace_lines.discard(workspace)

    def set_process_metrics(self, metrics: Iterable[Metric]) -> None:
        """Replace the metrics of prometheus_client collectors, which come last in the output."""
        self._process_metrics = ProcessMetrics(metrics, self._compress)

    @property
    def is_held(self) -> bool:
        """Whether changes are being made that are published together."""
        return self._changes.is_held

    def hold(self, *, is_held: bool) -> None:
        """Set whether more changes follow that are published together with the last ones."""
        self._changes.is_held = is_held

    def next_zero_end(self) -> float | None:
        """Return the seconds until the next series that shows 0 is to show its value; None if there is none."""
        return self._zeros.next_end()

    def take_changes(self) -> int:
        """Hand over the changes made so far for the next publication, unless held; return their number."""
        for family, labels in self._zeros.pop_ended():
            self._changes.add(self._families[family].end_zero, labels)
        return self._changes.take()

    def apply_changes(self) -> int:
        """Apply the changes that were taken to the blocks; return the number of lines that ``render`` has to render."""
        with self._render_lock:
            self._changes.apply()
            return sum([family.changed_lines for family in self._families.values() if family.changed_blocks])

    def render(self) -> None:
        """Publish the changes that were taken."""
        with self._render_lock:
            self._changes.apply()
            version, process_metrics = self._changes.applied_batch, self._process_metrics
            changed_families = [family for family in self._families.values() if family.changed_blocks]
            for family in changed_families:
                family.publish()
            if changed_families or process_metrics is not self._snapshot.process_metrics:
                sections = tuple([family.section for family in self._families.values() if family.section])
                self._snapshot = Snapshot(version, sections, process_metrics, self._end, self._workspace_lines)

    def publish(self) -> None:
        """Publish the changes made so far."""
        self.take_changes()
        self.render()

    def get_body(
        self, accept: str | None, accept_encoding: str | None, workspaces: Sequence[str] | None = None
    ) -> EncodedBody:
        """Return the published body for the headers ``Accept`` and ``Accept-Encoding``.

        ``workspaces`` limits it to the series of some workspaces, whose names are sorted; without a limit it also has
        the series that belong to no workspace.
        """
        content_type, snapshot = select_content_type(accept), self._snapshot
        encoding = "gzip" if accepts_gzip(accept_encoding) else None
        names = None if workspaces is None else tuple(workspaces)
        if self.shows_workspaces():
            body = snapshot.body(content_type, encoding, names)
            if self.shows_workspaces():  # Making the body takes time.
                return EncodedBody(content_type, encoding, body)
        if names is None:
            return EncodedBody(content_type, encoding, snapshot.body_without_workspaces(content_type, encoding))
        return EncodedBody(content_type, encoding, snapshot.body(content_type, encoding, ()))

    def has_body(self, accept: str | None, accept_encoding: str | None, workspaces: Sequence[str]) -> bool:
        """Return whether the body of some workspaces is ready, so that ``get_body`` takes no time."""
        encoding = "gzip" if accepts_gzip(accept_encoding) else None
        return self._snapshot.has_body(select_content_type(accept), encoding, tuple(workspaces))

    def _change(self, apply: Callable[..., object], *args: Any) -> None:
        self._changes.add(apply, *args)
        self._on_change()
