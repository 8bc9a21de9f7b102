"""Bodies of the exposition, compared with those that prometheus_client renders of the same registry."""

from __future__ import annotations

import gzip
import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.core import Exemplar as ClientExemplar
from prometheus_client.core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from late_exporter.exposition.exposition import MAX_EXEMPLARS, OPENMETRICS, TEXT, BodyRequest, Exposition
from late_exporter.exposition.family import Family, FamilyKind
from late_exporter.exposition.family_lines import format_number
from late_exporter.model import Exemplar, Histogram, Series
from tests.exposition.test_workspaces import POSTS, UP
from tests.support.exposition import read_body


class SeriesState:
    """Expected value, creation time and exemplars of a series."""

    def __init__(self, value: float | Histogram, created_at: float | None = None) -> None:
        self.value = value
        self.created_at = created_at
        self.exemplars: list[Exemplar] = []


State: TypeAlias = dict[Series, SeriesState]


SECONDS = Family("wait_seconds", "histogram", "Help.", ("workspace", "feed"), (0.5, 1.0, 2.5))
WIDE = Family("wide", "histogram", "Help.", ("workspace",), tuple(map(float, range(100))))
FAMILIES = {"posts_total": POSTS, "wait_seconds": SECONDS, "up": UP, "wide": WIDE}


def bodies(exposition: Exposition) -> tuple[str, str]:
    """Return the text and the OpenMetrics body."""
    return read_body(exposition), read_body(exposition, OPENMETRICS)


def lines(exposition: Exposition, media: str = TEXT) -> list[str]:
    """Return the samples."""
    return [line for line in read_body(exposition, media).splitlines() if not line.startswith("#")]


def build(families: Mapping[str, Family], state: State, **options: Any) -> Exposition:
    """Return a published exposition of the state."""
    exposition = Exposition(families, **options)
    for series, series_state in state.items():
        exposition.put(*series, series_state.value, created=series_state.created_at)
        for exemplar in series_state.exemplars:
            exposition.add_exemplar(*series, exemplar)
    return exposition


LABEL_TEXTS = st.text(max_size=5) | st.text(alphabet='\\"\n,{}#= le\r\u2028é', max_size=5)
LABEL_NAMES = st.sets(st.sampled_from(["action", "feed", "kind", "l"]), max_size=4).map(sorted)
"""In the order in which prometheus_client has them, le after them."""

BOUNDS = st.lists(st.floats(0, 1e9, exclude_min=True), unique=True, max_size=4).map(sorted)
COUNTS = st.integers(0, 1000) | st.integers(0, 10**8) | st.integers(0, 2**70)
TIMES = st.floats(1, 2e9)


def observed_exemplars() -> st.SearchStrategy[list[Exemplar]]:
    """Generate exemplars."""
    texts = LABEL_TEXTS.map(lambda text: text.replace('"', ""))
    pairs = st.tuples(texts, texts).map(lambda ids: (("log_id", ids[0]), ("post_id", ids[1])))
    return st.lists(st.builds(Exemplar, pairs, st.floats(0, 1e9), TIMES), max_size=3)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Mapping[str, Family], State]:
    """Generate families with series."""
    numbers = st.floats() | st.integers(0, 2**70)
    micros = st.integers(0, 2**63 - 1)
    state: State = {}
    kinds: dict[str, FamilyKind] = {"c_total": "counter", "g": "gauge", "h_seconds": "histogram", "d_total": "counter"}
    families = {}
    for name, kind in kinds.items():
        labels = tuple(draw(LABEL_NAMES))
        buckets = tuple(draw(BOUNDS)) if kind == "histogram" else ()
        families[name] = Family(name, kind, "Help.", labels, buckets)
        for values in draw(st.lists(st.tuples(*[LABEL_TEXTS] * len(labels)), unique=True, max_size=4)):
            series_state = state[name, values] = SeriesState(0)
            if kind == "histogram":
                counts = tuple(draw(COUNTS) for _ in range(len(buckets) + 1))
                series_state.value = Histogram(buckets, counts, draw(micros))
                series_state.exemplars = draw(observed_exemplars())
            else:
                series_state.value = draw(numbers)
            if kind != "gauge":
                series_state.created_at = draw(st.none() | TIMES)
    return families, state


class Reference(Collector):
    """The same series in the model of prometheus_client."""

    def __init__(self, families: Mapping[str, Family], state: State, *, has_created: bool) -> None:
        self._families = families
        self._state = state
        self._has_created = has_created

    def collect(self) -> Iterator[Metric]:
        for family in self._families.values():
            stem = family.name.removesuffix("_total") if family.kind == "counter" else family.name
            metric = Metric(stem, family.help, family.kind)
            for (name, values), series in sorted(self._state.items()):
                if name == family.name:
                    self._add(metric, family, dict(zip(family.labels, values, strict=True)), series)
            if metric.samples:
                yield metric

    def _add(self, metric: Metric, family: Family, labels: dict[str, str], series: SeriesState) -> None:
        exemplars: dict[int, ClientExemplar] = {}
        newest: dict[int, float] = {}
        for exemplar in series.exemplars:
            line = bisect_left(family.buckets, exemplar.value)
            if newest.get(line, 0.0) <= exemplar.timestamp:
                newest[line] = exemplar.timestamp
                exemplars[line] = ClientExemplar(dict(exemplar.labels), exemplar.value, exemplar.timestamp)
        if isinstance(series.value, Histogram):
            counts = [*accumulate(series.value.counts)]
            for line, bound in enumerate((*family.buckets, math.inf)):
                le = {**labels, "le": format_number(bound)}
                metric.add_sample(f"{family.name}_bucket", le, counts[line], exemplar=exemplars.get(line))
            metric.add_sample(f"{family.name}_count", labels, counts[-1])
            metric.add_sample(f"{family.name}_sum", labels, series.value.micros / 1e6)
        else:
            metric.add_sample(family.name, labels, series.value)
        if self._has_created and series.created_at:
            metric.add_sample(f"{metric.name}_created", labels, series.created_at)


@given(worlds())
def test_bodies_equal_those_of_prometheus_client(world: tuple[Mapping[str, Family], State]) -> None:
    """Both bodies are byte for byte those that prometheus_client renders of the registry, whatever is in it."""
    text = generate_latest(Reference(*world, has_created=False))
    assert read_body(build(*world)) == text.decode()
    openmetrics: bytes = generate_openmetrics(Reference(*world, has_created=True))  # type: ignore[no-untyped-call]
    assert read_body(build(*world, created=True), OPENMETRICS) == openmetrics.decode()


def value_of(definition: Family, amount: int) -> float | Histogram:
    """Return a value of the family's type."""
    if definition.kind == "histogram":
        return Histogram(definition.buckets, (amount,) * (len(definition.buckets) + 1), amount)
    return amount


KEYS = [("a", "x"), ("a", "y"), ("b", "x"), ("c", 'q"'), ("d", ""), ("e", "z")]
SERIES = st.sampled_from(
    [("posts_total", key) for key in KEYS]
    + [("wait_seconds", key) for key in KEYS[:3]]
    + [("up", key[:1]) for key in KEYS]
    + [("wide", key[:1]) for key in KEYS]
)
STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "put", "put", "drop", "exemplar", "scrape"]), SERIES, st.integers(0, 5)),
    max_size=60,
)


@settings(max_examples=60)
@given(STEPS)
def test_changes_give_the_bodies_of_a_fresh_start(steps: list[tuple[str, Series, int]]) -> None:
    """Any sequence of changes and publications gives the same bodies as the last state alone."""
    exposition = Exposition(FAMILIES, created=True)
    state: State = {}
    for step, (name, labels), amount in steps:
        series_state = state.get((name, labels))
        if step == "put":
            series_state = state.setdefault((name, labels), SeriesState(0))
            series_state.value, series_state.created_at = value_of(FAMILIES[name], amount), float(amount) or None
            exposition.put(name, labels, series_state.value, created=series_state.created_at)
        elif step == "drop":
            state.pop((name, labels), None)
            exposition.remove(name, labels)
        elif step == "exemplar" and series_state is not None and FAMILIES[name].kind == "histogram":
            observed = Exemplar((("log_id", str(amount)),), float(amount), float(amount))
            series_state.exemplars.append(observed)
            exposition.add_exemplar(name, labels, observed)
        elif step == "scrape":
            exposition.get_body(BodyRequest(OPENMETRICS, is_compressed=True))
    fresh = build(FAMILIES, state, created=True)
    assert bodies(fresh) == bodies(exposition)
    assert gzip.decompress(exposition.get_body(BodyRequest(is_compressed=True))).decode() == read_body(exposition)


PROMETHEUS_3 = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,"
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,"
    "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)


@pytest.mark.parametrize(
    ("accept", "accept_encoding", "expected"),
    [
        (PROMETHEUS_3, "gzip", BodyRequest(OPENMETRICS, is_compressed=True)),
        ("Application/OpenMetrics-Text", "deflate, GZip;q=0.5", BodyRequest(OPENMETRICS, is_compressed=True)),
        ("text/plain;version=0.0.4;q=1,*/*;q=0.1", "gzipped", BodyRequest()),
        ("", "", BodyRequest()),
    ],
)
def test_format_and_encoding(accept: str, accept_encoding: str, expected: BodyRequest) -> None:
    """A client that names OpenMetrics or gzip gets it, any other one plain text."""
    assert BodyRequest.of(accept, accept_encoding) == expected


def test_bodies_are_cached() -> None:
    """Requests between two changes get the same object, and find it without making it."""
    exposition = build(FAMILIES, {("up", ("w",)): SeriesState(1)})
    for request in (BodyRequest(media, small) for media in (TEXT, OPENMETRICS) for small in (False, True)):
        assert exposition.find_body(request) is None
        body = exposition.get_body(request)
        assert body is exposition.get_body(request) is exposition.find_body(request)
    exposition.put("up", ("w",), 2)
    assert exposition.find_body(request) is None


def test_created_is_off_by_default() -> None:
    """Samples of _created appear only in OpenMetrics, and only if enabled."""
    state: State = {("posts_total", ("w", "x")): SeriesState(1, 5.0)}
    assert lines(build(FAMILIES, state), OPENMETRICS) == ['posts_total{workspace="w",platform="x"} 1.0']
    assert lines(build(FAMILIES, state, created=True)) == ['posts_total{workspace="w",platform="x"} 1.0']


def test_number_of_exemplars_is_limited() -> None:
    """Beyond the limit the series with the oldest exemplars loses them."""
    exposition = Exposition(FAMILIES)
    for index in range(MAX_EXEMPLARS + 1):
        labels = (f"{index:04}", "x")
        exposition.put("wait_seconds", labels, Histogram(SECONDS.buckets, (1, 0, 0, 0)))
        exposition.add_exemplar("wait_seconds", labels, Exemplar((), 0.1, 1.0))
    buckets = [line for line in lines(exposition, OPENMETRICS) if 'le="0.5"' in line]
    assert " # " not in buckets[0]
    assert all(line.endswith(" # {} 0.1 1.0") for line in buckets[1:])


@pytest.mark.parametrize(("age", "value"), [(-60, 2), (-1, 0), (0, 0), (72, 0), (74, 2)])
def test_the_age_of_a_new_series(age: float, value: float) -> None:
    """Within two seconds of its end, another process may have ended the hold by its reading of the API's clock."""
    counter = Family("posts_total", "counter", "Posts.", ("workspace", "platform"), starts_at_zero=True)
    exposition = Exposition({"posts_total": counter}, zero_hold=75, monotonic=lambda: 1000.0)
    exposition.set_api_time("acme", 5000.0)
    exposition.put("posts_total", ("acme", "x"), 2, created=5000.0 - age)
    assert lines(exposition) == [f'posts_total{{workspace="acme",platform="x"}} {value:.1f}']
