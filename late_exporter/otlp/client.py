"""The metric exporter of OpenTelemetry's SDK, which reads its standard variables itself."""

from __future__ import annotations

import logging
from contextlib import suppress
from io import BytesIO

import requests
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from urllib3.exceptions import HTTPError

from late_exporter.api.headers import is_compressed
from late_exporter.exposition.exposition import SeriesCopy
from late_exporter.otlp.conversion import convert

MAX_POINTS = 10_000
"""Data points per request, about 3 MB; collectors limit the size of a request."""

MAX_RESPONSE_BYTES = 65_536


class OtlpClient:
    """Sends series to the endpoint of the environment, in the thread that calls it; the version is this program's."""

    def __init__(self, version: str) -> None:
        self._reason = _LastMessage()
        logger = logging.getLogger("opentelemetry")
        logger.handlers = [self._reason]
        # Its messages are about each attempt, and may contain the headers of the environment.
        logger.propagate = False
        self._version = version
        session = requests.Session()
        session.headers["Accept-Encoding"] = "identity"
        session.hooks["response"].append(_read_response)
        self._exporter = OTLPMetricExporter(session=session)
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
        try:
            if self._exporter.export(data) is MetricExportResult.SUCCESS:
                return None
        except requests.RequestException as exc:  # early versions of the SDK do not catch all of them
            return str(exc)
        return self._reason.text or "the endpoint did not take them"


class _LastMessage(logging.Handler):
    """Keeps the last message of the SDK, which reports the reason of a failure in no other way."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()


def _read_response(response: requests.Response, **_: object) -> None:
    """Read the beginning of a response, before requests reads all of it.

    Raises:
        RequestException: It is a redirect, which the SDK would take for a success.
    """
    if response.status_code in range(300, 400):
        response.close()
        text = f"HTTP {response.status_code}: redirects are not followed; set the URL to which it redirects"
        raise requests.RequestException(text)
    body = b""
    if not is_compressed(response.headers):  # it could decompress to any size
        with suppress(HTTPError):  # the status is enough
            body = response.raw.read(MAX_RESPONSE_BYTES, decode_content=False)
    response.close()
    response.raw = BytesIO(body)
