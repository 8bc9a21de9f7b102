"""Bodies of ``/metrics``: text 0.0.4 and OpenMetrics 1.0.0, plain and compressed with gzip.

The lines of a series are rendered once per change, and joined and compressed at the first scrape
after it, in the thread of the scrape; the thread that changes series only hands the changes over.
prometheus_client renders the same families at 18 times the cost: see docs/development/decisions.md.
"""

from __future__ import annotations

import threading
import time
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain
from typing import NamedTuple

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from late_exporter.exposition.family import Family
from late_exporter.exposition.family_lines import (
    NO_EXEMPLARS,
    Exemplars,
    FamilyLines,
    SeriesLines,
)
from late_exporter.model import Exemplar, Histogram, Labels, Series

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

MAX_EXEMPLARS = 2048
"""Maximum number of series with exemplars.

Beyond it the least recently updated series loses its own.
"""

MAX_CACHED_BYTES = 16 << 20
"""Maximum size of all cached bodies, beyond which the oldest are dropped."""

REFRESH_SECONDS = 15.0
"""Age up to which the metrics of the process are shown: most servers scrape as often."""

CLOCK_ERROR_SECONDS = 2.0
"""Difference of two readings of the API's clock.

Its responses have whole seconds, and take some time.
"""

GZIP_FORMAT = 31
"""Window bits of zlib for a stream with a gzip header."""


class BodyRequest(NamedTuple):
    """The workspaces and the format that a scrape asks for.

    Args:
        content_type: ``TEXT`` or ``OPENMETRICS``.
        is_compressed: Whether the body is compressed with gzip.
        workspaces: Sorted names of the workspaces whose series it has; None for all.
        is_whole: Whether it has the series without a workspace, too.
    """

    content_type: str = TEXT
    is_compressed: bool = False
    workspaces: tuple[str, ...] | None = None
    is_whole: bool = True

    @classmethod
    def of(
        cls,
        accept: str,
        accept_encoding: str,
        selected: AbstractSet[str] | None = None,
        visible: AbstractSet[str] | None = None,
    ) -> BodyRequest:
        """Return the request with the headers ``Accept`` and ``Accept-Encoding``.

        ``selected`` are the workspaces that it is about, ``visible`` those that may be shown; None
        means all.
        """
        content_type = TEXT
        if _lists(accept, "application/openmetrics-text"):
            content_type = OPENMETRICS
        workspaces = visible if selected is None else selected
        if selected is not None and visible is not None:
            workspaces = selected & visible
        return cls(
            content_type,
            _lists(accept_encoding, "gzip"),
            None if workspaces is None else tuple(sorted(workspaces)),
            selected is None,
        )

    def includes(self, workspace: str | None) -> bool:
        """Return whether the body has the series of a workspace, or those without one."""
        if workspace is None:
            return self.is_whole
        return self.workspaces is None or workspace in self.workspaces


def _lists(header: str, name: str) -> bool:
    """Return whether a header with a list of names has one.

    Weights are ignored, as in prometheus_client: clients name what they can read.
    """
    return name in [element.partition(";")[0].strip().lower() for element in header.split(",")]


class _InitialZeros:
    """The new series that show 0 instead of their value, by the time until which they do.

    The age of a series is measured by the API's clock, which all processes of a state share: one
    with a slower clock would show 0 again.

    Args:
        seconds: Age until which a series shows 0.
        monotonic: Returns the monotonic time in seconds.
    """

    def __init__(self, seconds: float, monotonic: Callable[[], float]) -> None:
        self._seconds = seconds
        self._monotonic = monotonic
        self._until: dict[Series, float] = {}
        self._api_offsets: dict[str, float] = {}

    def __contains__(self, series: Series) -> bool:
        return series in self._until

    def expired(self) -> set[Series]:
        """Return the series that are to show their value now; may be called in any thread."""
        now = self._monotonic()
        return {series for series, until in tuple(self._until.items()) if now >= until}

    def set_api_time(self, workspace: str, now: float) -> None:
        self._api_offsets[workspace] = now - self._monotonic()

    def add(self, series: Series, created: float) -> None:
        """Add a series by its creation time, if it is young enough by the clock of its API."""
        offset = self._api_offsets.get(series[1][0])
        if offset is None or not self._seconds:
            return
        now = self._monotonic()
        age = now + offset - created
        is_created_now = abs(age) <= CLOCK_ERROR_SECONDS
        # Another process may have shown the value of one that is about to be old enough.
        if is_created_now or 0 < age < self._seconds - CLOCK_ERROR_SECONDS:
            self._until[series] = now + self._seconds - max(0.0, age)

    def discard(self, series: Series) -> None:
        self._until.pop(series, None)


class Exposition:
    """The visible series, and the bodies rendered from them.

    One thread changes the series; ``get_body`` may run in any thread.

    Attributes:
        changing: Lock to hold while several series are set, so that they are never scraped in part.

    Args:
        families: Metric families, in the order of the output. Changes of series of other families
            are ignored.
        created: Whether OpenMetrics carries ``_created`` samples of counters and histograms.
        zero_hold: Age in seconds until which a new series of a family that starts at zero shows 0.
        monotonic: Returns the monotonic time in seconds.
        collectors: Collectors of prometheus_client, whose families come last, as of REFRESH_SECONDS
            ago at most.
    """

    def __init__(
        self,
        families: Mapping[str, Family],
        *,
        created: bool = False,
        zero_hold: float = 0.0,
        monotonic: Callable[[], float] = time.monotonic,
        collectors: Sequence[Collector] = (),
    ) -> None:
        self._families = {
            name: FamilyLines(family, has_created=created) for name, family in families.items()
        }
        self._zeros = _InitialZeros(zero_hold, monotonic)
        self._collectors = collectors
        self.changing = threading.RLock()
        self._changes: dict[Series, SeriesLines | None] = {}
        self._exemplars: dict[Series, Exemplars] = {}
        self._changed_exemplars: set[Series] = set()
        self._render_lock = threading.Lock()
        self._bodies: dict[BodyRequest, bytes] = {}
        self._refresh_at = 0.0

    def set_api_time(self, workspace: str, now: float) -> None:
        """Set the clock by which the ages of a workspace's series are measured.

        Until then, they show their values at once. ``now`` is in Unix seconds.
        """
        self._zeros.set_api_time(workspace, now)

    def put(
        self, family: str, labels: Labels, value: float | Histogram, *, created: float | None = None
    ) -> None:
        """Set the value of a series.

        A new series of a family that starts at zero shows 0 until it is ``zero_hold`` seconds old.

        Args:
            family: Name of the family.
            labels: Label values.
            value: Value to show.
            created: Unix time by the API's clock at which the series was created; None or 0 if that
                is unknown.
        """
        if family in self._families:
            with self.changing:
                self._changes[family, labels] = SeriesLines(value, created)

    def add_exemplar(self, family: str, labels: Labels, exemplar: Exemplar) -> None:
        """Attach an exemplar to the bucket of its value, unless a newer one is attached."""
        if family not in self._families:
            return
        series = (family, labels)
        bucket = bisect_left(self._families[family].family.buckets, exemplar.value)
        with self.changing:
            exemplars = self._exemplars.pop(series, NO_EXEMPLARS)
            last = exemplars.get(bucket)
            if last is None or last.timestamp <= exemplar.timestamp:
                # Not changed in place: a scrape may be rendering them.
                exemplars = {**exemplars, bucket: exemplar}
                self._changed_exemplars.add(series)
            self._exemplars[series] = exemplars  # the last key is the newest
            if len(self._exemplars) > MAX_EXEMPLARS:
                oldest = next(iter(self._exemplars))
                del self._exemplars[oldest]
                self._changed_exemplars.add(oldest)

    def remove(self, family: str, labels: Labels) -> None:
        """Remove a series, if it exists."""
        if family in self._families:
            with self.changing:
                self._exemplars.pop((family, labels), None)
                self._changes[family, labels] = None

    def find_body(self, request: BodyRequest) -> bytes | None:
        """Return a body if it is cached, without waiting for other threads."""
        return None if self._is_outdated else self._bodies.get(request)

    def get_body(self, request: BodyRequest) -> bytes:
        """Return the body as of now; other threads wait for it."""
        with self._render_lock:
            self._render_changes()
            body = self._bodies.get(request)
            if body is not None:
                return body
            families = [*self._texts(request), [self._render_others(request)]]
            body = _compress(families) if request.is_compressed else b"".join(chain(*families))
            self._bodies[request] = body
            while sum(map(len, self._bodies.values())) > MAX_CACHED_BYTES:
                del self._bodies[next(iter(self._bodies))]
            return body

    @property
    def _is_outdated(self) -> bool:
        """Whether a series has changed, or the metrics of the process are old."""
        has_changes = self._changes or self._changed_exemplars or self._zeros.expired()
        return bool(has_changes) or time.monotonic() >= self._refresh_at

    def _render_changes(self) -> None:
        """Render the series that have changed, or that show 0 no more."""
        if not self._is_outdated:
            return
        with self.changing:
            changes = self._changes
            changed = changes.keys() | self._changed_exemplars
            self._changes = {}
            self._changed_exemplars = set()
        expired = self._zeros.expired()
        for series in expired:
            self._zeros.discard(series)
        self._refresh_at = time.monotonic() + REFRESH_SECONDS
        self._bodies.clear()
        for series, lines in changes.items():
            self._set(series, lines)
        for series in changed | expired:
            name, labels = series
            exemplars = self._exemplars.get(series, NO_EXEMPLARS)
            self._families[name].render(labels, exemplars, is_zero=series in self._zeros)

    def _set(self, series: Series, lines: SeriesLines | None) -> None:
        """Set a series, without rendering it; None removes it."""
        name, labels = series
        family = self._families[name]
        if lines is None:
            family.remove(labels)
            self._zeros.discard(series)
            return
        if family.family.starts_at_zero and labels not in family:
            self._zeros.add(series, lines.created or 0.0)
        family.set(labels, lines)

    def _texts(self, request: BodyRequest) -> Iterator[list[bytes]]:
        """Yield the lines of each family."""
        is_openmetrics = request.content_type == OPENMETRICS
        for family in self._families.values():
            if family.has_workspaces:
                yield family.lines(request.workspaces, is_openmetrics=is_openmetrics)
            elif request.is_whole:
                yield family.lines(None, is_openmetrics=is_openmetrics)

    def _render_others(self, request: BodyRequest) -> bytes:
        """Return the lines of the other collectors, and the end of the body.

        They make their metrics anew for each body.
        """
        others = _Others(self._collectors, request)
        if request.content_type != OPENMETRICS:
            return generate_latest(others)
        openmetrics: bytes = generate_openmetrics(others)  # type: ignore[no-untyped-call]
        return openmetrics


class _Others(Collector):
    """Metrics of some collectors, without the samples that a request does not include."""

    def __init__(self, collectors: Sequence[Collector], request: BodyRequest) -> None:
        self._collectors = collectors
        self._request = request

    def collect(self) -> Iterator[Metric]:
        for metric in chain.from_iterable(each.collect() for each in self._collectors):
            metric.samples = [
                each
                for each in metric.samples
                if self._request.includes(each.labels.get("workspace"))
            ]
            if metric.samples:
                yield metric


def _compress(texts: Iterable[Sequence[bytes]]) -> bytes:
    stream = zlib.compressobj(1, zlib.DEFLATED, GZIP_FORMAT)
    return b"".join([*(stream.compress(b"".join(family)) for family in texts), stream.flush()])
