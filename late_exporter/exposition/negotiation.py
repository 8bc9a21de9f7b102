"""Content negotiation: format by ``Accept``, encoding by ``Accept-Encoding`` (RFC 9110, 12.5).

No header is an error: if it is missing, malformed or asks for something else, the response is the
plain text format.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

MAX_HEADER = 4096
"""Longer headers are ignored; Prometheus sends about 200 characters."""

# Media ranges of a format, the least specific first. Wildcards do not select OpenMetrics, because
# clients that send `*/*` need not know it. Clients of OpenMetrics 0.0.1 can read 1.0.0, and those
# of text 1.0.0 can read 0.0.4.
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
    """Return ``OPENMETRICS`` if the header names it and prefers nothing else, else ``TEXT``."""
    ranges = [
        (f"{name};version={parameters['version']}" if "version" in parameters else name, weight)
        for name, parameters, weight in _elements(accept)
    ]
    weight = _specific_weight(_OPENMETRICS_RANGES, ranges)
    return OPENMETRICS if weight > 0 and weight >= _specific_weight(_TEXT_RANGES, ranges) else TEXT


def accepts_gzip(accept_encoding: str | None) -> bool:
    """Return whether the header accepts gzip and does not prefer an uncompressed body."""
    weights = {name: weight for name, _, weight in _elements(accept_encoding)}
    identity = weights.get("identity")
    gzip = weights.get("gzip", weights.get("x-gzip", weights.get("*")))
    if gzip is None:
        return identity == 0
    return gzip > 0 and gzip >= (identity or 0)


def _elements(header: str | None) -> Iterator[tuple[str, dict[str, str], float]]:
    """Yield name, parameters and weight of each element, without those whose weight is invalid."""
    if header is None or len(header) > MAX_HEADER:
        return
    for element in _QUOTED.sub(_remove_separators, header).lower().split(","):
        name, *rest = (part.strip() for part in element.split(";"))
        pairs = (part.partition("=") for part in rest)
        parameters = {key.strip(): value.strip().strip('"') for key, _, value in pairs}
        weight = parameters.pop("q", "1")
        if _WEIGHT.fullmatch(weight):
            yield name, parameters, float(weight)


def _remove_separators(match: re.Match[str]) -> str:
    return match[0].replace(",", " ").replace(";", " ")


def _specific_weight(format_ranges: tuple[str, ...], ranges: list[tuple[str, float]]) -> float:
    """Return the weight of the most specific range of a format, 0 if there is none."""
    weights = [
        (format_ranges.index(name), weight) for name, weight in ranges if name in format_ranges
    ]
    return max(weights, default=(0, 0.0))[1]
