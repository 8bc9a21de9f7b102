"""Bodies of ``/metrics``: text 0.0.4 and OpenMetrics 1.0.0, plain and compressed with gzip.

The series of a family are kept sorted in blocks of some hundred lines, and the compressed lines of a block are cached
until one of its series changes. A publication therefore renders only what has changed, and a scrape only joins bytes.
The design, and from which size on it pays, is in docs/decisions/0004-cached-exposition.md.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from late_exporter.exposition.blocks import FamilyBlocks, SectionPair
from late_exporter.exposition.changes import ChangeQueue, InitialZeros
from late_exporter.exposition.family import Family
from late_exporter.exposition.gzip import BodySection, Segment, compress, decompress, gzip_member, join_segments
from late_exporter.exposition.negotiation import OPENMETRICS, accepts_gzip, select_content_type
from late_exporter.series import Exemplar, Histogram, Labels, Series


class EncodedBody(msgspec.Struct, frozen=True):
    """Response to a scrape.

    ``version`` is that of the snapshot, for ``Exposition.mark_served``; 0 if the series of workspaces are left out.
    """

    content_type: str
    content_encoding: str | None
    body: bytes
    version: int


class Exposition:
    """Current values of the visible series, and the bodies rendered from them.

    A change of a series is only noted, in constant time. ``take_changes`` ends a batch of changes, which are published
    together: what is set between two calls is never scraped in part. ``apply_changes`` and ``render`` may run in
    another thread than all other methods.

    Args:
        families: Metric families, in the order of the output.
        created: Whether OpenMetrics carries ``_created`` samples of counters and histograms.
        compress_lines: Compresses the lines of a block.

    Attributes:
        shows_workspaces: Returns whether the series of workspaces may be shown now; may be replaced.
    """

    def __init__(
        self,
        families: Mapping[str, Family],
        *,
        created: bool = False,
        compress_lines: Callable[[bytes], Segment] = compress,
    ) -> None:
        self.shows_workspaces: Callable[[], bool] = lambda: True
        self._created = created
        self._compress = compress_lines
        self._families = {name: FamilyBlocks(family, compress_lines) for name, family in families.items()}
        self._workspace_families = [name for name, family in families.items() if family.labels[:1] == ("workspace",)]
        self._process_metrics: SectionPair | None = None
        self._end = join_segments([compress_lines(b"# EOF\n")])
        self._on_change: Callable[[], None] = lambda: None
        self._on_served: Callable[[], None] = lambda: None
        self._changes = ChangeQueue()
        self._zeros = InitialZeros()
        self._render_lock = threading.Lock()
        self._snapshot = _Snapshot(0, (), (), None, self._end)

    @property
    def sample_count(self) -> int:
        """Number of samples without the process metrics, as of the last changes that were applied."""
        return sum(family.series_count * family.lines_per_series for family in self._families.values())

    @property
    def version(self) -> int:
        """Version of the published bodies: the number of the last batch of changes in them."""
        return self._snapshot.version

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` after every change."""
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
        if start_at_zero:
            self._zeros.add((family, labels), self._changes.batch + 1)
        self._change(self._families[family].put, labels, value, created if self._created else None, start_at_zero)

    def add_exemplar(self, family: str, labels: Labels, value: float, exemplar: Exemplar) -> None:
        """Attach an exemplar to a counter or to the bucket of ``value``, unless a newer one is attached."""
        self._change(self._families[family].add_exemplar, labels, value, exemplar)

    def remove(self, family: str, labels: Labels) -> None:
        """Remove a series, if it exists."""
        self._zeros.discard((family, labels))
        self._change(self._families[family].remove, labels)

    def remove_workspace(self, workspace: str) -> None:
        """Remove all series of a workspace."""
        for name in self._workspace_families:
            self._change(self._families[name].remove_workspace, workspace)
        self._zeros.discard_workspace(self._workspace_families, workspace)

    def set_process_metrics(self, metrics: Iterable[Metric]) -> None:
        """Replace the metrics of prometheus_client collectors, which come last in the output."""
        collector = _CollectedMetrics(metrics)
        text = generate_latest(collector)
        openmetrics: bytes = generate_openmetrics(collector)  # type: ignore[no-untyped-call]
        segments = self._compress(text), self._compress(openmetrics.removesuffix(b"# EOF\n"))
        self._process_metrics = join_segments(segments[:1]), join_segments(segments[1:])

    def take_changes(self) -> int:
        """Hand over the changes made so far for the next publication; return their number."""
        return self._changes.take()

    def apply_changes(self) -> int:
        """Apply the changes that were taken to the blocks; return the number of lines that ``render`` has to render."""
        with self._render_lock:
            self._changes.apply()
            return sum(family.changed_lines for family in self._families.values())

    def render(self) -> None:
        """Publish the changes that were taken."""
        with self._render_lock:
            self._changes.apply()
            version, process_metrics = self._changes.applied_batch, self._process_metrics
            changed = [family.publish() for family in self._families.values()]
            if any(changed) or process_metrics is not self._snapshot.process_metrics:
                sections = {name: family.sections for name, family in self._families.items() if family.sections}
                own_pairs = [pair for name, pair in sections.items() if name not in self._workspace_families]
                pairs = list(sections.values())
                self._snapshot = _Snapshot(version, pairs, own_pairs, process_metrics, self._end)

    def publish(self) -> None:
        """Publish the changes made so far."""
        self.take_changes()
        self.render()

    def get_body(self, accept: str | None, accept_encoding: str | None) -> EncodedBody:
        """Return the published body for the headers ``Accept`` and ``Accept-Encoding``."""
        content_type, snapshot = select_content_type(accept), self._snapshot
        encoding = "gzip" if accepts_gzip(accept_encoding) else None
        if self.shows_workspaces():
            body = snapshot.body(content_type, encoding)
            if self.shows_workspaces():  # Making the body takes time.
                return EncodedBody(content_type, encoding, body, snapshot.version)
        return EncodedBody(content_type, encoding, snapshot.body_without_workspaces(content_type, encoding), 0)

    def mark_served(self, version: int) -> None:
        """Record that the body of a version was sent, with the series that it showed as 0."""
        self._zeros.mark_served(version)
        if self._zeros.served():
            self._on_served()

    def shows_zero(self, family: str, labels: Labels) -> bool:
        """Return whether a series has started at zero and still shows that."""
        return (family, labels) in self._zeros

    def served_zeros(self) -> list[Series]:
        """Return the series that show 0 although a body that showed it was sent."""
        return self._zeros.served()

    def end_zeros(self, series: Iterable[Series]) -> None:
        """Let series that show 0 show their values from the next publication on."""
        for family, labels in series:
            if self._zeros.discard((family, labels)):
                self._change(self._families[family].end_zero, labels)

    def _change(self, apply: Callable[..., object], *args: Any) -> None:
        self._changes.add(apply, *args)
        self._on_change()


class _Snapshot:
    """Bodies of one publication: sections of gzip members, which are joined on first use."""

    def __init__(
        self,
        version: int,
        pairs: Sequence[SectionPair],
        own_pairs: Sequence[SectionPair],
        process_metrics: SectionPair | None,
        end: BodySection,
    ) -> None:
        self.version = version
        self.process_metrics = process_metrics
        self._pairs = (*pairs, process_metrics) if process_metrics else pairs
        self._own_pairs = (*own_pairs, process_metrics) if process_metrics else own_pairs
        self._end = end
        self._bodies: dict[tuple[str, str | None], bytes] = {}

    def body(self, content_type: str, encoding: str | None) -> bytes:
        key = content_type, encoding
        if key not in self._bodies:
            self._bodies[key] = self._join(self._pairs, *key)
        return self._bodies[key]

    def body_without_workspaces(self, content_type: str, encoding: str | None) -> bytes:
        return self._join(self._own_pairs, content_type, encoding)

    def _join(self, pairs: Sequence[SectionPair], content_type: str, encoding: str | None) -> bytes:
        if content_type == OPENMETRICS:
            sections = [*(openmetrics for _, openmetrics in pairs), self._end]
        else:
            sections = [text for text, _ in pairs]
        pieces = gzip_member(sections)
        return decompress(pieces) if encoding is None else b"".join(pieces)


class _CollectedMetrics(Collector):
    """Metrics that have been collected already, in the form that prometheus_client renders."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> list[Metric]:
        return self._metrics
