"""The metric exporter of OpenTelemetry's SDK, which reads its standard variables itself."""

from __future__ import annotations

import logging

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData
from opentelemetry.sdk.resources import OTELResourceDetector, Resource

from late_exporter.exposition.exposition import SeriesCopy
from late_exporter.otlp.conversion import convert

MAX_POINTS = 10_000
"""Data points per request, about 3 MB; collectors limit the size of a request."""


class OtlpClient:
    """Sends series to the endpoint of the environment, in the thread that calls it; the version is this program's."""

    def __init__(self, version: str) -> None:
        self._reason = _LastMessage()
        logger = logging.getLogger("opentelemetry")
        logger.handlers = [self._reason]
        # Its messages are about each attempt, and may contain the headers of the environment.
        logger.propagate = False
        self._version = version
        self._exporter = OTLPMetricExporter()
        defaults = Resource({"service.name": "late-exporter", "service.version": version})
        self._resource = defaults.merge(OTELResourceDetector().detect())

    def export(self, series: SeriesCopy, now: float) -> str | None:
        """Send all series as of a time in Unix seconds; return None, or why the endpoint did not take them."""
        parts = convert(series, now=now, resource=self._resource, version=self._version, max_points=MAX_POINTS)
        return next(filter(None, map(self._send, parts)), None)

    def try_endpoint(self) -> str | None:
        """Send a request without series; return None, or why the endpoint did not take it."""
        return self._send(MetricsData([]))

    def close(self) -> None:
        """End the connection, and the pauses of a request that is repeated in another thread."""
        self._exporter.shutdown()

    def _send(self, data: MetricsData) -> str | None:
        self._reason.text = ""
        if self._exporter.export(data) is MetricExportResult.SUCCESS:
            return None
        return self._reason.text or "the endpoint did not take them"


class _LastMessage(logging.Handler):
    """Keeps the last message of the SDK, which reports the reason of a failure in no other way."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()
