"""Which workspaces a scrape gets."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

import pytest

from late_exporter.exposition.exposition import Exposition
from late_exporter.exposition.family import Family
from late_exporter.web.app import HealthSource, create_app
from late_exporter.web.metrics import create_metrics_app
from tests.web.requests import Response, call

NAMES = ("brand-a", "brand-b", "brand-c")


async def scrape(query: str) -> Response:
    """Request the metrics of an exporter with three workspaces."""
    up = Family("up", "gauge", "Up.", ("workspace",))
    build = Family("build_info", "gauge", "Build.", ("version",))
    exposition = Exposition({"up": up, "build_info": build})
    for name in NAMES:
        exposition.put("up", (name,), 1)
    exposition.put("build_info", ("1",), 1)
    other_app = create_app(HealthSource(workspaces=list), version="1")
    app = create_metrics_app("/metrics", exposition, lambda: NAMES, other_app=other_app)
    return await call(app, "/metrics", query=query.encode())


@pytest.mark.parametrize(
    ("query", "seen"),
    [
        ("", NAMES),
        ("workspace=brand-b", ["brand-b"]),
        ("workspace=brand%2Da", ["brand-a"]),
        ("workspace=brand-c&workspace=brand-a&workspace=brand-c", ["brand-a", "brand-c"]),
    ],
)
async def test_metrics(query: str, seen: Sequence[str]) -> None:
    """The metrics are those of the workspaces that are asked for, or of all and of the process."""
    response = await scrape(query)
    assert response.status == HTTPStatus.OK
    lines = [line for line in response.text.splitlines() if line.startswith("up{")]
    assert [f'up{{workspace="{name}"}} 1.0' for name in seen] == lines
    assert (query == "") == ("build_info" in response.text)


@pytest.mark.parametrize("query", ["workspace=", "workspace=elsewhere", "workspace=brand-a&workspace=elsewhere"])
async def test_unknown_workspace(query: str) -> None:
    """An unknown workspace is not found, beside known ones, too."""
    response = await scrape(query)
    assert (response.status, response.text) == (404, "unknown workspace\n")
