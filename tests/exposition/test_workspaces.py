"""Bodies of some workspaces."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Sequence

import pytest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from late_exporter.exposition.exposition import MAX_CACHED_BYTES, OPENMETRICS, TEXT, BodyRequest, Exposition
from late_exporter.exposition.family import Family
from late_exporter.model import Exemplar, Histogram
from tests.support.exposition import read_body

POSTS = Family("posts_total", "counter", "Posts.", ("workspace", "platform"))
SECONDS = Family("wait_seconds", "histogram", "Wait.", ("workspace", "feed"), (0.5, 1.0))
UP = Family("up", "gauge", "Up.", ("workspace",))
BUILD = Family("build_info", "gauge", "Build.", ("version",))
FAMILIES = {family.name: family for family in (POSTS, SECONDS, UP, BUILD)}

NAMES = ("a", "a-b", "b", 'quoted"workspace="b', "z")


class Others(Collector):
    """Collector of a metric of the process, and of one of workspaces."""

    def collect(self) -> Iterable[Metric]:
        """Yield both."""
        info = GaugeMetricFamily("late_workspace_info", "Labels.")
        info.add_sample("late_workspace_info", {"workspace": "a", "team": "social"}, 1)
        info.add_sample("late_workspace_info", {"workspace": "b", "secret_label": "brand"}, 1)
        return [GaugeMetricFamily("process_threads", "Threads.", 3), info]


def body(exposition: Exposition, *workspaces: str, media: str = TEXT, visible: frozenset[str] | None = None) -> str:
    """Return the uncompressed body of some workspaces."""
    return exposition.get_body(BodyRequest.of(media, "", {*workspaces}, visible)).decode()


def fill(exposition: Exposition, workspaces: Sequence[str], platforms: int = 1) -> None:
    """Set some series of each workspace."""
    for index, workspace in enumerate(workspaces):
        for number in range(platforms):
            exposition.put("posts_total", (workspace, f"p{number}"), index)
            exposition.put("wait_seconds", (workspace, f"f{number}"), Histogram(SECONDS.buckets, (1, 0, index), 5))
        exposition.put("up", (workspace,), index)
    exposition.put("build_info", ("1",), 1)


def limited(text: str, workspaces: Sequence[str]) -> str:
    """Return the lines of a whole body that belong to some workspaces, and the headers of their families."""
    lines: list[str] = []
    header: list[str] = []
    for line in text.splitlines(keepends=True):
        if line.startswith("# EOF"):
            lines.append(line)
        elif line.startswith("#"):
            header = [*header, line] if line.startswith("# TYPE") else [line]
        elif any(f'{{workspace="{name}"' in line for name in workspaces):
            lines += [*header, line]
            header = []
    return "".join(lines)


@pytest.mark.parametrize("media", [TEXT, OPENMETRICS])
@pytest.mark.parametrize("platforms", [1, 40])
def test_a_body_has_the_lines_of_its_workspaces_only(platforms: int, media: str) -> None:
    """The body of workspaces is the whole body without the lines of others."""
    exposition = Exposition(FAMILIES, created=True)
    names = [f"w{number}" for number in range(5)]
    fill(exposition, names, platforms)
    exposition.put("posts_total", ("w2", "p0"), 7, created=9.5)
    exposition.add_exemplar("wait_seconds", ("w3", "f0"), Exemplar((("log_id", "4"),), 0.7, 1.5))
    whole = read_body(exposition, media)
    for chosen in (["w0"], ["w2"], ["w3"], ["w4"], ["w1", "w3"], names):
        expected = limited(whole, chosen)
        assert 'workspace="w' in expected
        assert expected == body(exposition, *chosen, media=media)
        assert expected == gzip.decompress(exposition.get_body(BodyRequest.of(media, "gzip", {*chosen}))).decode()


@pytest.mark.parametrize("media", [TEXT, OPENMETRICS])
def test_workspaces_that_may_not_be_shown(media: str) -> None:
    """They are in no body, whether it is about them or about everything; what has no workspace is in the latter."""
    exposition = Exposition(FAMILIES, collectors=[Others()])
    fill(exposition, NAMES)
    whole = exposition.get_body(BodyRequest.of(media, "", None, {"a", "z", "unknown"})).decode()
    assert limited(read_body(exposition, media), ["a", "z"]) == limited(whole, NAMES)
    assert "build_info" in whole
    assert "process_threads" in whole
    assert "brand" not in whole
    assert body(exposition, "a", media=media) == body(exposition, "a", "b", media=media, visible=frozenset("a"))
    nothing = exposition.get_body(BodyRequest.of(media, "", None, set())).decode()
    assert "workspace" not in nothing
    assert "build_info" in nothing
    assert ("" if media == TEXT else "# EOF\n") == body(exposition, "a", media=media, visible=frozenset())


def test_the_cache_is_bounded() -> None:
    """However many sets of workspaces are requested, only the last bodies are kept."""
    exposition = Exposition(FAMILIES)
    fill(exposition, ["a", "b"], platforms=300)
    size = len(body(exposition, "a"))
    requests = [BodyRequest.of("", "", {"a", f"unknown{number}"}) for number in range(MAX_CACHED_BYTES // size + 3)]
    for request in requests:
        assert size == len(exposition.get_body(request))
    cached = [request for request in requests if exposition.find_body(request) is not None]
    assert MAX_CACHED_BYTES // size == len(cached)
    assert requests[-1] in cached
