from __future__ import annotations

import gzip
import math
import subprocess
import threading
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, TypeAlias

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, core, parser
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar as ForeignExemplar
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from late_exporter.exposition.blocks import BLOCK_LINES, MAX_EXEMPLARS, OWN_BLOCK_LINES
from late_exporter.exposition.exposition import Exposition
from late_exporter.exposition.family import Family
from late_exporter.exposition.gzip import BodySection, Segment, combine_crc32, compress, join_segments
from late_exporter.exposition.negotiation import OPENMETRICS, TEXT
from late_exporter.exposition.text import format_number
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.series import Exemplar, Histogram, Labels

OM = "application/openmetrics-text"

ObservedExemplar: TypeAlias = tuple[float, Exemplar]


class SeriesState:
    """Expected value, creation time and exemplars of a series."""

    def __init__(self, value: float | Histogram) -> None:
        self.value = value
        self.created_at: float | None = None
        self.exemplars: list[ObservedExemplar] = []


State: TypeAlias = dict[tuple[str, Labels], SeriesState]


class FixedCollector(Collector):
    """Collector of given metrics."""

    def __init__(self, metrics: Iterable[core.Metric]) -> None:
        self.metrics = list(metrics)

    def collect(self) -> list[core.Metric]:
        """Return the metrics."""
        return self.metrics


def family(
    name: str,
    kind: str,
    *labels: str,
    buckets: tuple[float, ...] = (),
    text: str = "Help.",
    feeds: tuple[str, ...] = ("publishing",),
) -> Family:
    """Return a metric family, by default one of logs."""
    assert kind in {"counter", "gauge", "histogram"}
    return Family(name, kind, text, labels, buckets, feeds)  # type: ignore[arg-type]


def table(*families: Family) -> Mapping[str, Family]:
    """Return families by their names."""
    return {family.name: family for family in families}


POSTS = family("posts_total", "counter", "workspace", "platform")
UP = family("up", "gauge", "workspace")
SECONDS = family("wait_seconds", "histogram", "workspace", "feed", buckets=(0.5, 1.0, 2.5))
WIDE = family("wide", "histogram", "workspace", buckets=tuple(float(bound) for bound in range(100)))
FAMILIES = table(POSTS, UP, SECONDS)


def plain(exposition: Exposition, media: str | None = None) -> bytes:
    """Return the uncompressed body."""
    return exposition.get_body(media, None).body


def bodies(exposition: Exposition) -> tuple[bytes, bytes]:
    """Return the text and the OpenMetrics body."""
    return plain(exposition), plain(exposition, OM)


def lines(exposition: Exposition, media: str | None = None) -> list[str]:
    """Return the samples."""
    return [line for line in plain(exposition, media).decode().splitlines() if not line.startswith("#")]


class TrackedExposition(Exposition):
    """Exposition that remembers changes until the next publication."""

    def __init__(self, families: Mapping[str, Family], **options: Any) -> None:
        super().__init__(families, **options)
        self.has_changed = False
        self.on_change(self._record_change)

    def publish(self) -> None:
        """Publish the changes made so far."""
        self.has_changed = False
        super().publish()

    def _record_change(self) -> None:
        self.has_changed = True


def assert_nothing_to_publish(exposition: Exposition) -> None:
    """Assert that the changes since the last publication change no body."""
    version = exposition.version
    exposition.publish()
    assert version == exposition.version


def build(families: Mapping[str, Family], state: State, *, created: bool = True) -> TrackedExposition:
    """Return a published exposition of the state."""
    exposition = TrackedExposition(families, created=created)
    for (name, labels), series_state in state.items():
        exposition.put(name, labels, series_state.value, created=series_state.created_at)
        for value, exemplar in series_state.exemplars:
            exposition.add_exemplar(name, labels, value, exemplar)
    exposition.publish()
    return exposition


def newest(series_state: SeriesState, bounds: tuple[float, ...]) -> dict[int, ForeignExemplar]:
    """Return the newest exemplar of each bucket, by the index of the bucket."""
    exemplars_by_index: dict[int, ForeignExemplar] = {}
    for value, exemplar in series_state.exemplars:
        index = bisect_left(bounds, value)
        last = exemplars_by_index.get(index)
        if last is None or float(last.timestamp or 0) <= exemplar.timestamp:
            exemplars_by_index[index] = ForeignExemplar(dict(exemplar.labels), value, exemplar.timestamp)
    return exemplars_by_index


def seconds(micros: int) -> float:
    """Return the sum of a histogram in seconds."""
    try:
        return micros / 1e6
    except OverflowError:
        return math.inf


def to_metrics(families: Mapping[str, Family], state: State, *, only_openmetrics: bool) -> FixedCollector:
    """Return the state as families of prometheus_client, with exemplars and creation times for OpenMetrics only."""
    return FixedCollector(
        metric
        for name, definition in families.items()
        if (metric := _metric(definition, [(key[1], state[key]) for key in sorted(state) if key[0] == name])).samples
        if only_openmetrics or _drop_openmetrics_parts(metric)
    )


def _drop_openmetrics_parts(metric: core.Metric) -> bool:
    metric.samples = [
        sample._replace(exemplar=None) for sample in metric.samples if sample.name != f"{metric.name}_created"
    ]
    return True


def _metric(definition: Family, series: list[tuple[Labels, SeriesState]]) -> core.Metric:
    if definition.kind == "gauge":
        gauge = core.GaugeMetricFamily(definition.name, definition.help, labels=definition.labels)
        for labels, series_state in series:
            assert not isinstance(series_state.value, Histogram)
            gauge.add_metric(labels, series_state.value)
        return gauge
    if definition.kind == "counter":
        counter = core.CounterMetricFamily(definition.name, definition.help, labels=definition.labels)
        for labels, series_state in series:
            assert not isinstance(series_state.value, Histogram)
            counter.add_metric(
                labels,
                series_state.value,
                created=series_state.created_at,
                exemplar=newest(series_state, ()).get(0),
            )
        return counter
    histogram = core.HistogramMetricFamily(definition.name, definition.help, labels=definition.labels)
    for labels, series_state in series:
        assert isinstance(series_state.value, Histogram)
        exemplars = newest(series_state, definition.buckets)
        buckets = [
            (format_number(bound), count, exemplars.get(index))
            for index, (bound, count) in enumerate(
                zip((*definition.buckets, math.inf), accumulate(series_state.value.counts), strict=True)
            )
        ]
        histogram.add_metric(labels, buckets, seconds(series_state.value.micros))  # type: ignore[arg-type]
        if series_state.created_at is not None:
            names = dict(zip(definition.labels, labels, strict=True))
            histogram.samples.append(Sample(f"{definition.name}_created", names, series_state.created_at))
    return histogram


def reference_bodies(families: Mapping[str, Family], state: State) -> tuple[bytes, bytes]:
    """Return the text and the OpenMetrics body of prometheus_client."""
    return (
        generate_latest(to_metrics(families, state, only_openmetrics=False)),
        generate_openmetrics(to_metrics(families, state, only_openmetrics=True)),  # type: ignore[no-untyped-call]
    )


LABEL_TEXTS = st.text(max_size=5) | st.text(alphabet='\\"\n,{}#= le\r\u2028é', max_size=5)
LABEL_NAMES = st.lists(
    st.sampled_from(["action", "feed", "le_", "lf", "platform", "workspace"]), unique=True, max_size=4
)
BOUNDS = st.lists(st.floats(0, 1e9, exclude_min=True), unique=True, max_size=4).map(sorted)
COUNTS = st.integers(0, 1000) | st.integers(0, 10**8) | st.integers(0, 2**70)
TIMES = st.floats(1, 2e9)


def observed_exemplars(texts: st.SearchStrategy[str]) -> st.SearchStrategy[list[ObservedExemplar]]:
    """Generate observed values with exemplars."""
    pairs = st.dictionaries(st.sampled_from(["log_id", "post_id"]), texts).map(lambda pairs: tuple(pairs.items()))
    return st.lists(st.tuples(st.floats(0, 1e9), st.builds(Exemplar, pairs, TIMES)), max_size=3)


@st.composite
def worlds(draw: st.DrawFn, *, sane: bool = False) -> tuple[Mapping[str, Family], State]:
    """Generate families with series; ``sane`` restricts the values to those that the parsers accept."""
    numbers = st.floats(0, 1e300) if sane else st.floats() | st.integers(-(2**1000), 2**1000) | st.integers(0, 2**70)
    micros = st.integers(0, 10**15) if sane else st.integers(0, 10**400) | st.integers(0, 10**15)
    # prometheus_client's parser does not know escapes in exemplars.
    exemplars = observed_exemplars(st.text("abc", max_size=3) if sane else LABEL_TEXTS)
    state: State = {}
    definition = []
    for name, kind in (("c_total", "counter"), ("g", "gauge"), ("h_seconds", "histogram"), ("d_total", "counter")):
        labels = draw(LABEL_NAMES)
        buckets = tuple(draw(BOUNDS)) if kind == "histogram" else ()
        definition.append(family(name, kind, *labels, buckets=buckets, text=draw(LABEL_TEXTS)))
        for values in draw(st.lists(st.tuples(*[LABEL_TEXTS] * len(labels)), unique=True, max_size=4)):
            series_state = state[name, values] = SeriesState(0)
            if kind == "histogram":
                counts = tuple(draw(COUNTS) for _ in range(len(buckets) + 1))
                series_state.value = Histogram(buckets, counts, draw(micros))
            else:
                series_state.value = draw(numbers)
            if kind != "gauge":
                series_state.created_at = draw(st.none() | TIMES)
                series_state.exemplars = draw(exemplars)
    return table(*definition), state


@given(worlds())
def test_bodies_equal_those_of_prometheus_client(world: tuple[Mapping[str, Family], State]) -> None:
    """Both bodies are byte for byte those of prometheus_client, whatever the families and values."""
    families, state = world
    assert reference_bodies(families, state) == bodies(build(families, state))


@given(worlds(sane=True))
def test_bodies_are_read_back_by_the_parsers(world: tuple[Mapping[str, Family], State]) -> None:
    """The parsers of both formats read back the samples."""
    families, state = world
    exposition = build(families, state)
    for only_openmetrics, read in (
        (False, parser.text_string_to_metric_families(plain(exposition).decode())),
        (True, openmetrics_parser.text_string_to_metric_families(plain(exposition, OM).decode())),  # type: ignore[no-untyped-call]
    ):
        expected = to_metrics(families, state, only_openmetrics=only_openmetrics).metrics
        assert _samples(expected) == _samples(read)


def _samples(metrics: Iterable[core.Metric]) -> list[tuple[str, Mapping[str, str], float]]:
    return [(sample.name, sample.labels, float(sample.value)) for metric in metrics for sample in metric.samples]


KEYS = [("a", "x"), ("a", "y"), ("b", "x"), ("c", 'q"'), ("d", ""), ("e", "z")]
SERIES = st.sampled_from(
    [("posts_total", key) for key in KEYS]
    + [("wait_seconds", key) for key in KEYS[:3]]
    + [("up", key[:1]) for key in KEYS]
    + [("wide", key[:1]) for key in KEYS]
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "drop", "exemplar", "publish", "scrape"]),
        SERIES,
        st.integers(0, 5),
    ),
    max_size=60,
)


def value_of(definition: Family, amount: int) -> float | Histogram:
    """Return a value of the family's type."""
    if definition.kind == "histogram":
        return Histogram(definition.buckets, (amount,) * (len(definition.buckets) + 1), amount)
    return amount


@settings(max_examples=60)
@given(STEPS)
def test_changes_give_the_bodies_of_a_fresh_start(steps: list[tuple[str, tuple[str, Labels], int]]) -> None:
    """Any sequence of changes and publications gives the same bodies as the last state alone."""
    families = table(POSTS, SECONDS, UP, WIDE)
    exposition = Exposition(families, created=True)
    state: State = {}
    for step, (name, labels), amount in steps:
        series_state = state.get((name, labels))
        if step == "put":
            series_state = state.setdefault((name, labels), SeriesState(0))
            series_state.value = value_of(families[name], amount)
            series_state.created_at = float(amount) if amount else series_state.created_at
            exposition.put(name, labels, series_state.value, created=float(amount) or None)
        elif step == "drop":
            state.pop((name, labels), None)
            exposition.remove(name, labels)
        elif step == "exemplar" and series_state is not None:
            exemplar = Exemplar((("log_id", str(amount)),), float(amount))
            series_state.exemplars.append((float(amount), exemplar))
            exposition.add_exemplar(name, labels, float(amount), exemplar)
        elif step == "publish":
            exposition.publish()
        elif step == "scrape":
            exposition.get_body(OM, "gzip")
    exposition.publish()
    fresh = build(families, state)
    assert bodies(fresh) == bodies(exposition)
    assert fresh.sample_count == exposition.sample_count == len(lines(exposition))
    for (name, _), series_state in state.items():
        series_state.created_at = None if families[name].kind == "gauge" else series_state.created_at
        series_state.exemplars = [] if families[name].kind == "gauge" else series_state.exemplars
    assert reference_bodies(families, state) == bodies(exposition)


@given(st.floats() | st.integers() | st.integers(0, 2**70) | st.floats(1e5, 1e8))
def test_numbers_are_formatted_like_go(value: float) -> None:
    """Numbers are formatted as in prometheus_client, including exponents."""
    assert floatToGoString(value) == format_number(value)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(("value", "expected"), [(10**400, "+Inf"), (-(10**400), "-Inf")])
def test_an_integer_beyond_a_float_is_infinite(value: int, expected: str) -> None:
    """Integers of any size are formatted."""
    assert expected == format_number(value)


@given(st.binary(), st.binary())
def test_checksums_combine(first: bytes, second: bytes) -> None:
    """The checksum of two joined texts follows from those of the texts."""
    assert zlib.crc32(first + second) == combine_crc32(zlib.crc32(first), zlib.crc32(second), len(second))


@pytest.mark.parametrize("media", [TEXT, OPENMETRICS])
@pytest.mark.parametrize("series", [0, 1, 2000])
def test_gzip_body_is_one_member(media: str, series: int) -> None:
    """The first gzip member is the whole body, because httpx and curl stop after it."""
    exposition = Exposition(FAMILIES)
    for index in range(series):
        exposition.put("wait_seconds", (f"w{index}", "publishing"), Histogram(SECONDS.buckets, (index, 0, 0, 1), index))
    exposition.publish()
    body = exposition.get_body(media, "gzip")
    reader = zlib.decompressobj(31)
    assert plain(exposition, media) == reader.decompress(body.body)
    assert (True, b"") == (reader.eof, reader.unused_data)
    assert plain(exposition, media) == gzip.decompress(body.body)


def test_gzip_bodies_are_reproducible() -> None:
    """The same state gives the same bytes, without a time of compression."""
    state: State = {("up", (f"w{index}",)): SeriesState(index) for index in range(700)}
    first, second = build(FAMILIES, state), build(FAMILIES, state)
    assert first.get_body(OM, "gzip") == second.get_body(OM, "gzip")


def test_content_type_and_encoding() -> None:
    """The content type is exact, otherwise Prometheus 3 fails the scrape."""
    exposition = build(FAMILIES, {("up", ("w",)): SeriesState(1)})
    bodies_by_header = [exposition.get_body(accept, encoding) for accept in (None, OM) for encoding in (None, "gzip")]
    assert [
        ("text/plain; version=0.0.4; charset=utf-8", None),
        ("text/plain; version=0.0.4; charset=utf-8", "gzip"),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", None),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", "gzip"),
    ] == [(body.content_type, body.content_encoding) for body in bodies_by_header]


def test_bodies_are_cached() -> None:
    """Requests between two publications get the same object."""
    exposition = build(FAMILIES, {("up", ("w",)): SeriesState(1)})
    for media in (None, OM):
        for encoding in (None, "gzip"):
            assert exposition.get_body(media, encoding).body is exposition.get_body(media, encoding).body


def test_changes_are_reported() -> None:
    """The callback is called after every change of a series, and after nothing else."""
    exposition = Exposition(FAMILIES)
    changes: list[None] = []
    exposition.on_change(lambda: changes.append(None))
    exposition.put("posts_total", ("w", "x"), 3)
    exposition.add_exemplar("posts_total", ("w", "x"), 3, Exemplar((), 1.0))
    exposition.set_process_metrics([])
    exposition.publish()
    assert 2 == len(changes)
    exposition.remove("posts_total", ("w", "x"))
    assert 3 == len(changes)


def test_empty_exposition() -> None:
    """Without series the text body is empty and the OpenMetrics body has its end marker."""
    exposition = Exposition(FAMILIES)
    assert (b"", b"# EOF\n") == bodies(exposition)
    exposition.publish()
    assert (b"", b"# EOF\n") == bodies(exposition)


def test_golden_bodies() -> None:
    """Families keep the order of the catalogue and series are sorted by their labels."""
    exposition = Exposition(FAMILIES, created=True)
    exposition.put(
        "wait_seconds", ("w", "publishing"), Histogram(SECONDS.buckets, (1, 0, 2, 1), 7_250_000), created=9.5
    )
    exposition.put("posts_total", ("w", "x"), 1_000_000, created=9.5)
    exposition.put("posts_total", ("w", 'a"\\\n'), 2)
    exposition.put("wait_seconds", ("v", "publishing"), Histogram(SECONDS.buckets, (0, 0, 0, 0)))
    exposition.add_exemplar("wait_seconds", ("w", "publishing"), 2, Exemplar((("log_id", "4"),), 1.5))
    exposition.publish()
    buckets = 'wait_seconds_bucket{feed="publishing",le="'
    assert [
        "# HELP posts Help.",
        "# TYPE posts counter",
        'posts_total{platform="a\\"\\\\\\n",workspace="w"} 2.0',
        'posts_total{platform="x",workspace="w"} 1e+06',
        'posts_created{platform="x",workspace="w"} 9.5',
        "# HELP wait_seconds Help.",
        "# TYPE wait_seconds histogram",
        f'{buckets}0.5",workspace="v"}} 0.0',
        f'{buckets}1.0",workspace="v"}} 0.0',
        f'{buckets}2.5",workspace="v"}} 0.0',
        f'{buckets}+Inf",workspace="v"}} 0.0',
        'wait_seconds_count{feed="publishing",workspace="v"} 0.0',
        'wait_seconds_sum{feed="publishing",workspace="v"} 0.0',
        f'{buckets}0.5",workspace="w"}} 1.0',
        f'{buckets}1.0",workspace="w"}} 1.0',
        f'{buckets}2.5",workspace="w"}} 3.0 # {{log_id="4"}} 2.0 1.5',
        f'{buckets}+Inf",workspace="w"}} 4.0',
        'wait_seconds_count{feed="publishing",workspace="w"} 4.0',
        'wait_seconds_sum{feed="publishing",workspace="w"} 7.25',
        'wait_seconds_created{feed="publishing",workspace="w"} 9.5',
        "# EOF",
    ] == plain(exposition, OM).decode().splitlines()


def test_created_is_off_by_default() -> None:
    """Samples of _created appear only in OpenMetrics and only if enabled."""
    state: State = {("posts_total", ("w", "x")): SeriesState(1)}
    state["posts_total", ("w", "x")].created_at = 5.0
    assert ['posts_total{platform="x",workspace="w"} 1.0'] == lines(build(FAMILIES, state, created=False), OM)
    assert ['posts_total{platform="x",workspace="w"} 1.0'] == lines(build(FAMILIES, state, created=True))


def test_creation_time_is_kept() -> None:
    """A series keeps its creation time if a put has none."""
    exposition = Exposition(FAMILIES, created=True)
    exposition.put("posts_total", ("w", "x"), 1, created=5.0)
    exposition.put("posts_total", ("w", "x"), 2)
    exposition.publish()
    assert 'posts_created{platform="x",workspace="w"} 5.0' == lines(exposition, OM)[1]


def test_family_without_series() -> None:
    """HELP and TYPE of a family disappear with its last series."""
    exposition = build(FAMILIES, {("up", ("w",)): SeriesState(1)})
    exposition.remove("up", ("w",))
    exposition.publish()
    assert (b"", b"# EOF\n") == bodies(exposition)


def test_removing_an_unknown_series() -> None:
    """Removing a series that does not exist changes nothing."""
    exposition = build(FAMILIES, {("up", ("w",)): SeriesState(1)})
    exposition.remove("up", ("v",))
    exposition.remove("posts_total", ("v", "x"))
    assert_nothing_to_publish(exposition)


def test_histogram_with_other_buckets() -> None:
    """A histogram stored with other buckets keeps them, without exemplars."""
    exposition = Exposition(FAMILIES)
    exposition.put("wait_seconds", ("w", "f"), Histogram((7.0,), (1, 2), 10**400))
    exposition.add_exemplar("wait_seconds", ("w", "f"), 2.0, Exemplar((), 1.0))
    exposition.publish()
    assert [
        'wait_seconds_bucket{feed="f",le="7.0",workspace="w"} 1.0',
        'wait_seconds_bucket{feed="f",le="+Inf",workspace="w"} 3.0',
        'wait_seconds_count{feed="f",workspace="w"} 3.0',
        'wait_seconds_sum{feed="f",workspace="w"} +Inf',
    ] == lines(exposition, OM)


def test_counts_beyond_64_bits() -> None:
    """Counts beyond 64 bits are formatted."""
    exposition = build(
        FAMILIES, {("wait_seconds", ("w", "f")): SeriesState(Histogram(SECONDS.buckets, (2**70, 0, 0, 0)))}
    )
    assert 'wait_seconds_count{feed="f",workspace="w"} 1.1805916207174113e+21' == lines(exposition)[-2]


def test_lone_surrogates_are_replaced() -> None:
    """Text that UTF-8 cannot encode is replaced."""
    exposition = build(FAMILIES, {("up", ("\ud800",)): SeriesState(1)})
    assert ['up{workspace="?"} 1.0'] == lines(exposition)


@pytest.mark.parametrize(
    ("value", "exemplar"),
    [
        (1.0, Exemplar((("log_id", "x" * 123),), 1.0)),
        (1.0, Exemplar((("log_id", "x" * 60), ("post_id", "x" * 56)), 1.0)),
        (1.0, Exemplar((), math.inf)),
        (math.nan, Exemplar((), 1.0)),
    ],
)
def test_invalid_exemplars_are_omitted(value: float, exemplar: Exemplar) -> None:
    """An exemplar of more than 128 characters, or without a finite time or value, is omitted."""
    exposition = build(FAMILIES, {("posts_total", ("w", "x")): SeriesState(1)})
    exposition.add_exemplar("posts_total", ("w", "x"), value, exemplar)
    assert_nothing_to_publish(exposition)


def test_longest_exemplar() -> None:
    """The limit of an exemplar is 128 characters, not bytes."""
    exposition = build(FAMILIES, {("posts_total", ("w", "x")): SeriesState(1)})
    exposition.add_exemplar("posts_total", ("w", "x"), 1, Exemplar((("log_id", "é" * 122),), 1.0))
    exposition.publish()
    assert [f'posts_total{{platform="x",workspace="w"}} 1.0 # {{log_id="{"é" * 122}"}} 1.0 1.0'] == lines(
        exposition, OM
    )


def test_exemplar_waits_for_its_series() -> None:
    """An exemplar can be attached before its series exists."""
    exposition = TrackedExposition(FAMILIES)
    exposition.add_exemplar("posts_total", ("w", "x"), 1, Exemplar((), 1.0))
    assert_nothing_to_publish(exposition)
    exposition.put("posts_total", ("w", "x"), 1)
    exposition.publish()
    assert ['posts_total{platform="x",workspace="w"} 1.0 # {} 1.0 1.0'] == lines(exposition, OM)


def test_gauges_have_no_exemplars() -> None:
    """OpenMetrics allows exemplars only on counters and buckets."""
    exposition = build(FAMILIES, {("up", ("w",)): SeriesState(1)})
    exposition.add_exemplar("up", ("w",), 1.0, Exemplar((), 1.0))
    assert_nothing_to_publish(exposition)


def test_number_of_exemplars_is_limited() -> None:
    """Beyond the limit the series with the oldest exemplars loses them."""
    exposition = Exposition(FAMILIES)
    names = [(f"{index:04}", "x") for index in range(MAX_EXEMPLARS + 1)]
    for labels in names:
        exposition.put("posts_total", labels, 1)
    for labels in names[:-1]:
        exposition.add_exemplar("posts_total", labels, 1.0, Exemplar((), 1.0))
    exposition.publish()
    exposition.add_exemplar("posts_total", names[-1], 1.0, Exemplar((), 1.0))
    exposition.publish()
    series_state = lines(exposition, OM)
    assert 'posts_total{platform="x",workspace="0000"} 1.0' == series_state[0]
    assert MAX_EXEMPLARS == sum(line.endswith(" # {} 1.0 1.0") for line in series_state)


def test_newest_exemplar_of_a_bucket_is_shown() -> None:
    """An exemplar is replaced by a later one of its bucket and disappears with its series."""
    exposition = Exposition(FAMILIES)
    exposition.put("wait_seconds", ("w", "f"), Histogram(SECONDS.buckets, (0, 0, 4, 0)))
    for value, at in ((2.0, 7.0), (2.1, 7.0), (2.2, 6.0)):
        exposition.add_exemplar("wait_seconds", ("w", "f"), value, Exemplar((), at))
    exposition.publish()
    bucket = 'wait_seconds_bucket{feed="f",le="2.5",workspace="w"}'
    assert f"{bucket} 4.0 # {{}} 2.1 7.0" == lines(exposition, OM)[2]
    exposition.remove("wait_seconds", ("w", "f"))
    exposition.put("wait_seconds", ("w", "f"), Histogram(SECONDS.buckets, (0, 0, 4, 0)))
    exposition.publish()
    assert f"{bucket} 4.0" == lines(exposition, OM)[2]


class HeldZeros:
    """An exposition with a clock, which lets series of two families start at zero."""

    def __init__(self) -> None:
        self.now = 1000.0
        families = (msgspec.structs.replace(each, starts_at_zero=True) for each in (POSTS, SECONDS))
        self.exposition = Exposition(table(UP, *families), created=True, zero_hold=75.0, clock=lambda: self.now)

    def lines(self, media: str | None = None) -> list[str]:
        """Publish and return the samples."""
        self.exposition.publish()
        return [line for line in lines(self.exposition, media) if "_created" not in line]


def test_a_new_series_starts_at_zero() -> None:
    """A new series shows 0 until it is old enough, and then its newest value."""
    zeros = HeldZeros()
    zeros.exposition.put("up", ("w",), 2, created=1000.0)
    for amount in (3, 4, 5):
        zeros.exposition.put("posts_total", ("w", "x"), amount, created=1000.0)
        expected = ['posts_total{platform="x",workspace="w"} 0.0', 'up{workspace="w"} 2.0']
        assert expected == sorted(zeros.lines()) == sorted(zeros.lines(OM))
    assert 75.0 == zeros.exposition.next_zero_end()
    zeros.now += 75.0
    assert 'posts_total{platform="x",workspace="w"} 5.0' in zeros.lines()
    zeros.now -= 10.0
    zeros.exposition.put("posts_total", ("w", "x"), 6, created=1000.0)
    assert 'posts_total{platform="x",workspace="w"} 6.0' in zeros.lines(), "never again"


@pytest.mark.parametrize("created", [0.0, None, 925.0, 1001.0])
def test_other_series_start_with_their_value(created: float | None) -> None:
    """Those of history, of which no time is known, those that are old enough, and those of a clock that was ahead."""
    zeros = HeldZeros()
    zeros.exposition.put("posts_total", ("w", "x"), 3, created=created)
    assert ['posts_total{platform="x",workspace="w"} 3.0'] == zeros.lines()
    assert bool(created) == ("_created" in plain(zeros.exposition, OM).decode())


def test_a_new_histogram_starts_at_zero() -> None:
    """Buckets, count and sum of a new histogram are 0 at first, without exemplars."""
    zeros = HeldZeros()
    value = Histogram(SECONDS.buckets, (1, 2, 3, 4), 5)
    zeros.exposition.put("wait_seconds", ("w", "f"), value, created=1000.0)
    zeros.exposition.add_exemplar("wait_seconds", ("w", "f"), 2.0, Exemplar((), 1.0))
    assert {"0.0"} == {line.split("} ")[1] for line in zeros.lines(OM)}
    zeros.now += 75.0
    assert ["1.0", "3.0", "6.0 # {", "10.0", "10.0", "5e-06"] == [line.split("} ")[1] for line in zeros.lines(OM)]


@pytest.mark.parametrize("remove", [lambda e: e.remove("posts_total", ("w", "x")), lambda e: e.remove_workspace("w")])
def test_a_new_series_that_is_removed(remove: Callable[[Exposition], object]) -> None:
    """Nothing of it comes back once it would have been old enough."""
    zeros = HeldZeros()
    zeros.exposition.put("posts_total", ("w", "x"), 3, created=1000.0)
    assert zeros.lines()
    remove(zeros.exposition)
    zeros.now += 75.0
    assert [] == zeros.lines()


def test_only_the_block_of_a_change_is_rendered() -> None:
    """A change renders one block of a few hundred lines, however many series there are."""
    texts: list[bytes] = []

    def compress_lines(text: bytes) -> Segment:
        texts.append(text)
        return compress(text)

    exposition = Exposition(FAMILIES, compress_lines=compress_lines)
    for index in range(5000):
        exposition.put("posts_total", (f"w{index:04}", "x"), index)
    exposition.publish()
    texts.clear()
    exposition.publish()
    assert [] == texts
    exposition.put("posts_total", ("w2500", "x"), 7777)
    exposition.publish()
    (text,) = texts
    assert b'posts_total{platform="x",workspace="w2500"} 7777.0' in text.splitlines()
    assert BLOCK_LINES >= len(text.splitlines())


def rendered_lines(workspaces: int) -> int:
    """Return the number of lines that are rendered if one workspace out of many counts a poll."""
    texts: list[bytes] = []

    def compress_lines(text: bytes) -> Segment:
        texts.append(text)
        return compress(text)

    names = ("late_up", "late_exporter_polls_total", "late_exporter_api_request_duration_seconds")
    exposition = Exposition({name: CATALOGUE[name] for name in names}, compress_lines=compress_lines)
    for number in range(workspaces):
        for name in names:
            labels = (f"w{number:05}", *("x" for _ in CATALOGUE[name].labels[1:]))
            exposition.put(name, labels, value_of(CATALOGUE[name], 1))
    exposition.publish()
    texts.clear()
    for name in names:
        labels = (f"w{workspaces // 2:05}", *("x" for _ in CATALOGUE[name].labels[1:]))
        exposition.put(name, labels, value_of(CATALOGUE[name], 2))
    exposition.publish()
    assert len(names) == len(texts), "the same lines in both formats are rendered once"
    return sum(len(text.splitlines()) for text in texts)


def test_a_poll_renders_no_more_because_of_other_workspaces() -> None:
    """A publication of one workspace renders a block of some lines per family, beside 300 workspaces or 3000."""
    assert 3 * OWN_BLOCK_LINES >= rendered_lines(3000)
    assert rendered_lines(3000) <= rendered_lines(300) * 2


def test_a_publication_joins_only_families_that_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checksums of other families are not computed again."""
    exposition = Exposition(FAMILIES)
    for index in range(2000):
        exposition.put("posts_total", (f"w{index:04}", "x"), index)
        exposition.put("up", (f"w{index:04}",), 1)
    exposition.publish()
    joined: list[int] = []

    def count_segments(segments: Sequence[Segment]) -> BodySection:
        joined.append(len(segments))
        return join_segments(segments)

    monkeypatch.setattr("late_exporter.exposition.blocks.join_segments", count_segments)
    exposition.publish()
    assert [] == joined
    exposition.put("up", ("w0007",), 0)
    exposition.publish()
    assert 2 == len(joined), "once in each format"
    assert max(joined) <= 1 + 2 * 2000 // BLOCK_LINES + 1
    assert 'up{workspace="w0007"} 0.0' in lines(exposition)


def test_changes_wait_for_the_end_of_their_batch() -> None:
    """A publication in another thread shows no change before ``take_changes``, and then all of them."""
    exposition = build(FAMILIES, {("up", ("w",)): SeriesState(1)})
    exposition.put("up", ("w",), 2)
    exposition.put("posts_total", ("w", "x"), 2)
    exposition.render()
    assert ['up{workspace="w"} 1.0'] == lines(exposition)
    assert 2 == exposition.take_changes()
    exposition.put("up", ("w",), 3)
    assert 2 == exposition.apply_changes()
    assert ['up{workspace="w"} 1.0'] == lines(exposition)
    exposition.render()
    assert ['posts_total{platform="x",workspace="w"} 2.0', 'up{workspace="w"} 2.0'] == lines(exposition)


@pytest.mark.parametrize("count", [1, 3000])
def test_workspaces_are_removed_with_all_series(count: int) -> None:
    """Removing a workspace removes its series, in one block or many, and those of no other one."""
    exposition = build(table(POSTS, UP, family("about", "gauge", "version")), {})
    for name in ("v", "w", "w2", "x"):
        exposition.put("up", (name,), 1)
        for index in range(count):
            exposition.put("posts_total", (name, f"p{index:04}"), 1)
    exposition.put("about", ("w",), 1)
    exposition.publish()
    exposition.remove_workspace("w")
    exposition.publish()
    assert ['about{version="w"} 1.0'] == [line for line in lines(exposition) if line.startswith("about")]
    for name in ("v", "w", "w2", "x"):
        assert (0 if name == "w" else count + 1) == sum(f'workspace="{name}"' in line for line in lines(exposition))


@pytest.mark.parametrize("step", [1, -1])
def test_blocks_are_split_and_merged(step: int) -> None:
    """Series can be created and removed in any order: the text stays sorted and blocks stay within their size."""
    texts: list[bytes] = []

    def compress_lines(text: bytes) -> Segment:
        texts.append(text)
        return compress(text)

    exposition = Exposition(FAMILIES, compress_lines=compress_lines)
    names = [f"w{index:04}" for index in range(3000)][::step]
    for name in names:
        exposition.put("up", (name,), 1)
    exposition.publish()
    assert [f'up{{workspace="{name}"}} 1.0' for name in sorted(names)] == lines(exposition)
    assert BLOCK_LINES >= max(len(text.splitlines()) for text in texts)
    for step_size, blocks in ((3, 8), (50, 1)):
        for index, name in enumerate(names):
            if index % step_size:
                exposition.remove("up", (name,))
        texts.clear()
        exposition.publish()
        names = names[::step_size]
        assert [f'up{{workspace="{name}"}} 1.0' for name in sorted(names)] == lines(exposition)
        assert BLOCK_LINES >= max(len(text.splitlines()) for text in texts)
        assert blocks >= len(texts)


def test_merged_blocks_are_rendered_together() -> None:
    """A block that is merged with its neighbour shows the series of both."""
    exposition = build(
        table(WIDE), {("wide", (name,)): SeriesState(Histogram(WIDE.buckets, (1,) * 101)) for name in "abcde"}
    )
    for removed_names, remaining in (("a", "bcde"), ("cd", "be")):
        for name in removed_names:
            exposition.remove("wide", (name,))
        exposition.publish()
        assert [f'wide_count{{workspace="{name}"}} 101.0' for name in remaining] == _counts(exposition)


def test_publication_is_a_snapshot() -> None:
    """Changes made while a publication is rendered appear in the next one."""
    exposition: TrackedExposition

    def compress_and_change(text: bytes) -> Segment:
        if b"wide_bucket" in text and plain(exposition) == b"":
            exposition.remove("wide", ("a",))
            exposition.remove("wide", ("b",))
            exposition.add_exemplar("wide", ("e",), 0.0, Exemplar((), 8.0))
            for name in "cdefgh":
                exposition.put("wide", (name,), Histogram(WIDE.buckets, (2,) * 101))
        return compress(text)

    exposition = TrackedExposition(table(WIDE), compress_lines=compress_and_change)
    for name in "abcde":
        exposition.put("wide", (name,), Histogram(WIDE.buckets, (1,) * 101))
    exposition.add_exemplar("wide", ("e",), 0.0, Exemplar((), 7.0))
    exposition.publish()
    assert [f'wide_count{{workspace="{name}"}} 101.0' for name in "abcde"] == _counts(exposition)
    assert 'wide_bucket{le="0.0",workspace="e"} 1.0 # {} 0.0 7.0' in lines(exposition, OM)
    assert exposition.has_changed is True
    exposition.publish()
    assert [f'wide_count{{workspace="{name}"}} 202.0' for name in "cdefgh"] == _counts(exposition)
    assert 'wide_bucket{le="0.0",workspace="e"} 2.0 # {} 0.0 8.0' in lines(exposition, OM)


def _counts(exposition: Exposition) -> list[str]:
    return [line for line in lines(exposition) if line.startswith("wide_count")]


def test_publishing_in_a_thread() -> None:
    """Series can change while a thread publishes: every body is complete and the last one has all changes."""
    exposition = Exposition(FAMILIES)
    finished = threading.Event()

    def publish() -> None:
        while not finished.is_set():
            exposition.render()

    thread = threading.Thread(target=publish)
    thread.start()
    for index in range(3000):
        exposition.put("wait_seconds", (f"w{index % 1000:03}", "f"), Histogram(SECONDS.buckets, (index,) * 4, index))
        if index % 10 == 0:
            exposition.take_changes()
        if index % 100 == 0:
            assert gzip.decompress(exposition.get_body(OM, "gzip").body).endswith(b"# EOF\n")
        if index % 7 == 0:
            exposition.remove("wait_seconds", (f"w{index % 500:03}", "f"))
    finished.set()
    thread.join()
    exposition.publish()
    last: State = {}
    for index in range(3000):
        last["wait_seconds", (f"w{index % 1000:03}", "f")] = SeriesState(
            Histogram(SECONDS.buckets, (index,) * 4, index)
        )
        if index % 7 == 0:
            last.pop(("wait_seconds", (f"w{index % 500:03}", "f")), None)
    assert bodies(build(FAMILIES, last)) == bodies(exposition)


def test_process_metrics_come_last() -> None:
    """Metrics of prometheus_client collectors follow the own families and are replaced together."""
    state: State = {("posts_total", ("w", "x")): SeriesState(1)}
    own_metrics = to_metrics(FAMILIES, state, only_openmetrics=False).metrics
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    exposition = build(FAMILIES, state)
    for process_metrics in (list(registry.collect()), list(registry.collect())[:1], []):
        exposition.set_process_metrics(iter(process_metrics))
        exposition.publish()
        all_metrics = FixedCollector([*own_metrics, *process_metrics])
        assert generate_latest(all_metrics) == plain(exposition)
        assert generate_openmetrics(all_metrics) == plain(exposition, OM)  # type: ignore[no-untyped-call]


@pytest.mark.e2e
def test_promtool_accepts_the_whole_catalogue(require_tool: Callable[[str], str]) -> None:
    """Promtool reports nothing about the names, help texts and values of all families."""
    exposition = Exposition(CATALOGUE)
    for definition in CATALOGUE.values():
        for suffix in "ab":
            exposition.put(
                definition.name, tuple(f"{name}\\{suffix}" for name in definition.labels), value_of(definition, 1)
            )
    exposition.publish()
    command = [require_tool("promtool"), "check", "metrics"]
    finished = subprocess.run(command, input=plain(exposition), capture_output=True, check=False)
    assert (0, b"") == (finished.returncode, finished.stdout + finished.stderr)


@pytest.mark.parametrize("media", [None, OM])
def test_series_of_workspaces_are_left_out(media: str | None) -> None:
    """While they may not be shown, a body has the other series only."""
    own = Family("late_exporter_cluster_members", "gauge", "Help.")
    exposition = Exposition(table(family("late_logs_total", "counter", "workspace"), own))
    exposition.put("late_logs_total", ("acme",), 5)
    exposition.put(own.name, (), 3)
    exposition.publish()
    answers = iter((False, True, False))
    for expected in ((), (), ("late_logs_total",)):
        exposition.shows_workspaces = lambda: next(answers, True)
        body = exposition.get_body(media, None)
        text = body.body.decode()
        assert "late_exporter_cluster_members 3.0" in text
        assert bool(expected) == ("late_logs_total" in text)
        assert media is None or text.endswith("# EOF\n")
