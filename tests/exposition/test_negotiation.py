from __future__ import annotations

import pytest

from late_exporter.exposition.negotiation import MAX_HEADER, OPENMETRICS, TEXT, accepts_gzip, select_content_type

PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,"
    "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
PROTOBUF = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,"
OM = "application/openmetrics-text"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (PROMETHEUS_3, OPENMETRICS),
        (PROTOBUF + PROMETHEUS_3, OPENMETRICS),
        (f"{OM.upper()};VERSION=1.0.0;Q=0.5", OPENMETRICS),
        (f"{OM};q=0.4,text/plain;q=0,*/*", OPENMETRICS),
        (f"{OM};version=0.0.1;q=0,{OM};version=1.0.0", OPENMETRICS),
        (f"{OM};version=1.0.0;q=0,{OM};version=0.0.1", TEXT),
        (f"{OM};q=0.5,*/*;q=0.6", TEXT),
        (f"{OM};q=abc", TEXT),
        (f"{OM};version=9.9.9", TEXT),
        (f'text/plain;note=",{OM},"', TEXT),
        (",;=,;;q", TEXT),
        (f"{OM},".ljust(MAX_HEADER + 1), TEXT),
        (f"{OM},".ljust(MAX_HEADER), OPENMETRICS),
    ],
)
def test_format_by_accept(accept: str | None, expected: str) -> None:
    """OpenMetrics is selected if a readable version is named and nothing is preferred, otherwise text."""
    assert expected == select_content_type(accept)


@pytest.mark.parametrize(
    ("accept_encoding", "expected"),
    [
        ("gzip", True),
        ("GZip;q=0.5", True),
        ("deflate, gzip;q=1.0, *;q=0.5", True),
        ("*;q=0, gzip", True),
        ("gzip;q=0", False),
        ("gzip;q=0.5, identity", False),
        ("gzipped", False),
        (None, False),
        ("gzip,".ljust(MAX_HEADER + 1), False),
    ],
)
def test_encoding_by_accept_encoding(accept_encoding: str | None, *, expected: bool) -> None:
    """Gzip is selected if it is accepted and no uncompressed body is preferred."""
    assert expected is accepts_gzip(accept_encoding)
