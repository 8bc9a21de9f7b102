"""What a scraper wants: the format by ``Accept``, the encoding by ``Accept-Encoding`` (RFC 9110, section 12.5).

Neither ever refuses: a header that is missing, malformed or asks for what is not there gets what everyone reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["OPENMETRICS", "TEXT", "accepts_gzip", "select_content_type"]

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

MAX_HEADER = 4096
"""A longer header counts as missing; Prometheus sends about 200 characters."""

# Media ranges that name a format, the least specific first. Wildcards never ask for OpenMetrics: who sends `*/*` need
# not know it. A reader of 0.0.1 reads 1.0.0, and one of text 1.0.0 reads 0.0.4.
_OPENMETRICS_RANGES = (
    "application/openmetrics-text;version=0.0.1",
    "application/openmetrics-text",
    "application/openmetrics-text;version=1.0.0",
)
_TEXT_RANGES = (
    "*/*",
    "text/*",
    "text/plain;version=1.0.0",
    "text/plain",
    "text/plain;version=0.0.4",
)

_QUOTED = re.compile(r'"(?:\\.|[^"\\])*+"?', re.DOTALL)
_WEIGHT = re.compile(r"0(\.[0-9]*)?|1(\.0*)?|\.[0-9]+")


def select_content_type(accept: str | None) -> str:
    """The format to answer with: ``OPENMETRICS`` where it is named and nothing is liked better, else ``TEXT``."""
    ranges = [
        (f"{name};version={parameters['version']}" if "version" in parameters else name, weight)
        for name, parameters, weight in _elements(accept)
    ]
    wanted = _weight(_OPENMETRICS_RANGES, ranges)
    return OPENMETRICS if wanted > 0 and wanted >= _weight(_TEXT_RANGES, ranges) else TEXT


def accepts_gzip(accept_encoding: str | None) -> bool:
    """Whether gzip is acceptable and nothing is liked better."""
    weights = {name: weight for name, _, weight in _elements(accept_encoding)}
    identity = weights.get("identity")
    gzip = weights.get("gzip", weights.get("x-gzip", weights.get("*")))
    if gzip is None:
        return identity == 0
    return gzip > 0 and gzip >= (identity or 0)


def _elements(header: str | None) -> Iterator[tuple[str, dict[str, str], float]]:
    """Name, parameters and weight of each element; those whose weight is none are left out."""
    if header is None or len(header) > MAX_HEADER:
        return
    for element in _QUOTED.sub(_flatten, header).lower().split(","):
        name, *rest = (part.strip() for part in element.split(";"))
        pairs = (part.partition("=") for part in rest)
        parameters = {key.strip(): value.strip().strip('"') for key, _, value in pairs}
        weight = parameters.pop("q", "1")
        if _WEIGHT.fullmatch(weight):
            yield name, parameters, float(weight)


def _flatten(quoted: re.Match[str]) -> str:
    return quoted[0].replace(",", " ").replace(";", " ")


def _weight(known: tuple[str, ...], ranges: list[tuple[str, float]]) -> float:
    """The weight that the most specific of the ranges gives."""
    return max(((known.index(name), weight) for name, weight in ranges if name in known), default=(0, 0.0))[1]
