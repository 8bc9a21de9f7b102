"""Bodies of single workspaces."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import GaugeMetricFamily

from late_exporter.exposition.exposition import Exposition
from late_exporter.exposition.family import Family
from late_exporter.exposition.gzip import Segment, compress
from late_exporter.exposition.negotiation import OPENMETRICS, TEXT
from late_exporter.exposition.snapshot import MAX_CACHED_BYTES
from late_exporter.exposition.workspace_lines import MAX_WORKSPACES
from late_exporter.series import Exemplar, Histogram

POSTS = Family("posts_total", "counter", "Posts.", ("workspace", "platform"), feeds=("publishing",))
SECONDS = Family("wait_seconds", "histogram", "Wait.", ("workspace", "feed"), (0.5, 1.0), ("publishing",))
UP = Family("up", "gauge", "Up.", ("workspace",))
BUILD = Family("build_info", "gauge", "Build.", ("version",))
FAMILIES = {family.name: family for family in (POSTS, SECONDS, UP, BUILD)}

NAMES = ("a", "a-b", "b", 'quoted"workspace="b', "z")


class CountedCompression:
    """Compression of lines that records the texts."""

    def __init__(self) -> None:
        self.texts: list[bytes] = []

    def __call__(self, text: bytes) -> Segment:
        """Compress a text."""
        self.texts.append(text)
        return compress(text)


def body(exposition: Exposition, *workspaces: str, media: str = TEXT) -> str:
    """Return the uncompressed body of some workspaces."""
    return exposition.get_body(media, None, workspaces).body.decode()


def fill(exposition: Exposition, workspaces: Sequence[str], platforms: int = 1) -> None:
    """Set some series of each workspace."""
    for index, workspace in enumerate(workspaces):
        for number in range(platforms):
            exposition.put("posts_total", (workspace, f"p{number}"), index)
            exposition.put("wait_seconds", (workspace, f"f{number}"), Histogram(SECONDS.buckets, (1, 0, index), 5))
        exposition.put("up", (workspace,), index)
    exposition.put("build_info", ("1",), 1)
    exposition.publish()


def limited(text: str, workspaces: Sequence[str]) -> str:
    """Return the lines of a whole body that belong to some workspaces, and the headers of their families."""
    lines: list[str] = []
    header: list[str] = []
    for line in text.splitlines(keepends=True):
        if line.startswith("# EOF"):
            lines.append(line)
        elif line.startswith("#"):
            header = [*header, line] if line.startswith("# TYPE") else [line]
        elif any(f'workspace="{name}"}}' in line or f'workspace="{name}"}} ' in line for name in workspaces):
            lines += [*header, line]
            header = []
    return "".join(lines)


@pytest.mark.parametrize("media", [TEXT, OPENMETRICS])
@pytest.mark.parametrize("platforms", [1, 40, 700])
def test_a_body_has_the_lines_of_its_workspaces_only(platforms: int, media: str) -> None:
    """The body of workspaces is the whole body without the lines of others, however the blocks are divided."""
    exposition = Exposition(FAMILIES, created=True)
    names = [f"w{number}" for number in range(5)]
    fill(exposition, names, platforms)
    exposition.put("posts_total", ("w2", "p0"), 7, created=9.5)
    exposition.add_exemplar("wait_seconds", ("w3", "f0"), 0.7, Exemplar((("log_id", "4"),), 1.5))
    exposition.publish()
    whole = exposition.get_body(media, None).body.decode()
    for chosen in (["w0"], ["w2"], ["w3"], ["w4"], ["w1", "w3"], names):
        expected = limited(whole, chosen)
        assert 'workspace="w' in expected
        assert expected == body(exposition, *chosen, media=media)
        assert expected == gzip.decompress(exposition.get_body(media, "gzip", chosen).body).decode()


Step = tuple[str, int, int]
steps = st.lists(st.tuples(st.sampled_from(NAMES[:3]), st.integers(0, 80), st.integers(0, 3)), max_size=30)
SMALL_BLOCKS = FAMILIES | {"posts_total": Family("posts_total", "counter", "Posts.", ("workspace", "platform"))}


@given(st.lists(steps, max_size=4))
def test_any_changes(batches: Sequence[Sequence[Step]]) -> None:
    """After any puts and removals, a cached body of a workspace equals its part of the whole."""
    exposition = Exposition(SMALL_BLOCKS)
    fill(exposition, NAMES[:3], platforms=50)
    for batch in batches:
        for workspace, number, action in batch:
            if action:
                exposition.put("posts_total", (workspace, f"p{number}"), action)
            else:
                exposition.remove("posts_total", (workspace, f"p{number}"))
        exposition.publish()
        whole = exposition.get_body(TEXT, None).body.decode()
        for name in NAMES[:3]:
            assert limited(whole, [name]) == body(exposition, name)


def test_names_are_not_compared_as_text() -> None:
    """A name that contains another one, or looks like a label, belongs to its own body only."""
    exposition = Exposition(FAMILIES)
    fill(exposition, NAMES)
    assert ["up 2"] == [line[:2] + line[-4:-2] for line in body(exposition, "b").splitlines() if line[:3] == "up{"]
    assert "a-b" not in body(exposition, "a")
    assert "quoted" not in body(exposition, "b")


def test_series_without_a_workspace_are_in_the_whole_only() -> None:
    """Neither the build of the exporter nor process metrics are in the body of a workspace; its labels are."""
    exposition = Exposition(FAMILIES)
    fill(exposition, ["a", "b"])
    info = GaugeMetricFamily("late_workspace_info", "Labels.", labels=["workspace", "team", "secret_label"])
    info.add_metric(["a", "social", ""], 1)
    info.add_metric(["b", "", "brand"], 1)
    exposition.set_process_metrics([GaugeMetricFamily("process_threads", "Threads.", 3), info])
    exposition.publish()
    whole, text = exposition.get_body(TEXT, None).body.decode(), body(exposition, "a")
    assert all(name in whole for name in ("build_info", "process_threads", "secret_label"))
    assert not any(name in text for name in ("build_info", "process_threads", "secret_label", "brand"))
    assert text.endswith('late_workspace_info{team="social",workspace="a"} 1.0\n')
    assert body(exposition, "a", media=OPENMETRICS).endswith('workspace="a"} 1.0\n# EOF\n')


def test_a_workspace_without_series() -> None:
    """The body of a workspace without series is empty, with the end marker in OpenMetrics."""
    exposition = Exposition(FAMILIES)
    fill(exposition, ["a"])
    assert ("", "# EOF\n") == (body(exposition, "b"), body(exposition, "b", media=OPENMETRICS))


@pytest.mark.parametrize("encoding", [None, "gzip"])
@pytest.mark.parametrize("media", [TEXT, OPENMETRICS])
def test_a_replica_without_a_lease_shows_no_workspaces(media: str, encoding: str | None) -> None:
    """Bodies of workspaces are empty then, also if they are cached or the lease ends meanwhile."""
    exposition = Exposition(FAMILIES)
    exposition.put("posts_total", ("a", "p0"), 5)
    fill(exposition, ["a", "b"])
    limited_body = exposition.get_body(media, encoding, ["a"])
    assert exposition.has_body(media, encoding, ["a"])
    for answers in ([False], [True, False]):
        exposition.shows_workspaces = partial(next, iter(answers))
        empty = exposition.get_body(media, encoding, ["a"])
        text = empty.body if encoding is None else gzip.decompress(empty.body)
        assert (b"# EOF\n" if media == OPENMETRICS else b"") == text
    exposition.shows_workspaces = lambda: True
    assert limited_body == exposition.get_body(media, encoding, ["a"])


def test_a_replica_without_a_lease_shows_its_own_series() -> None:
    """Its body has neither the series of workspaces nor their labels, which other replicas show."""
    exposition = Exposition(FAMILIES)
    fill(exposition, ["a", "b"])
    info = GaugeMetricFamily("late_workspace_info", "Labels.", labels=["workspace"])
    info.add_metric(["a"], 1)
    exposition.set_process_metrics([GaugeMetricFamily("process_threads", "Threads.", 3), info])
    exposition.publish()
    exposition.shows_workspaces = lambda: False
    text = exposition.get_body(TEXT, None).body.decode()
    assert "workspace" not in text
    assert ['build_info{version="1"} 1.0', "process_threads 3.0"] == [
        line for line in text.splitlines() if not line.startswith("#")
    ]


def test_nothing_is_compressed_for_an_unchanged_workspace() -> None:
    """A body is cached until the next publication, and its lines until a block with some of them changes."""
    compression = CountedCompression()
    exposition = Exposition(FAMILIES, compress_lines=compression)
    fill(exposition, ["a", "b"], platforms=700)
    body(exposition, "b")
    compression.texts.clear()
    assert exposition.get_body(TEXT, "gzip", ["b"]).body is exposition.get_body(TEXT, "gzip", ["b"]).body
    assert exposition.has_body(TEXT, "gzip", ["b"])
    exposition.put("posts_total", ("a", "p0"), 12345)
    exposition.publish()
    assert not exposition.has_body(TEXT, "gzip", ["b"])
    compression.texts.clear()
    body(exposition, "b")
    assert [] == compression.texts


def test_only_lines_of_shared_blocks_are_compressed_again() -> None:
    """Blocks that one workspace has alone are used as they are."""
    compression = CountedCompression()
    exposition = Exposition(FAMILIES, compress_lines=compression)
    fill(exposition, ["a", "b", "c"], platforms=700)
    compression.texts.clear()
    text = body(exposition, "b")
    compressed = b"".join(compression.texts)
    assert 0 < len(compressed) < len(text) / 2
    assert b'workspace="a"' not in compressed


def test_removed_workspace() -> None:
    """The lines of a workspace that was removed are gone."""
    exposition = Exposition(FAMILIES)
    fill(exposition, ["a", "b"])
    assert "up" in body(exposition, "a")
    exposition.remove_workspace("a")
    exposition.publish()
    assert body(exposition, "a") == ""
    assert "up" in body(exposition, "b")


def test_caches_are_bounded() -> None:
    """However many workspaces and sets of them are requested, the caches have a limit."""
    exposition = Exposition(FAMILIES)
    fill(exposition, ["a", "b"], platforms=300)
    snapshot, lines = exposition._snapshot, exposition._workspace_lines  # noqa: SLF001 - sizes are not public
    for number in range(MAX_WORKSPACES + 10):
        body(exposition, "a", f"unknown{number}")
    assert MAX_WORKSPACES == len(lines._lines)  # noqa: SLF001
    assert MAX_CACHED_BYTES >= sum(map(len, snapshot._workspace_bodies.values())) > 0  # noqa: SLF001
    assert len(snapshot._workspace_bodies) < MAX_WORKSPACES  # noqa: SLF001
    assert body(exposition, "a") == limited(exposition.get_body(TEXT, None).body.decode(), ["a"])
