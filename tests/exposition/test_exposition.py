from __future__ import annotations

import gzip
import math
import subprocess
import sys
import threading
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, core, exposition, parser
from prometheus_client.openmetrics import exposition as openmetrics_exposition
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar as ForeignExemplar
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from late_exporter.exposition.exposition import MAX_EXEMPLARS, Exposition
from late_exporter.exposition.family import Family
from late_exporter.exposition.gzip import Segment, combine_crc32, compress
from late_exporter.exposition.negotiation import OPENMETRICS, TEXT
from late_exporter.exposition.text import format_number
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.model import Exemplar, Histogram, Labels

OM = "application/openmetrics-text"

Pointed: TypeAlias = tuple[float, Exemplar]


class Shown:
    """What a series should show."""

    def __init__(self, value: float | Histogram) -> None:
        self.value = value
        self.born: float | None = None
        self.exemplars: list[Pointed] = []


State: TypeAlias = dict[tuple[str, Labels], Shown]


class Collected(Collector):
    """Metrics that are already there."""

    def __init__(self, metrics: Iterable[core.Metric]) -> None:
        self.metrics = list(metrics)

    def collect(self) -> list[core.Metric]:
        """Them."""
        return self.metrics


def family(name: str, kind: str, *labels: str, buckets: tuple[float, ...] = (), text: str = "Help.") -> Family:
    """A family as the catalogue has them."""
    assert kind in {"counter", "gauge", "histogram"}
    return Family(name, kind, text, labels, buckets)  # type: ignore[arg-type]


def table(*families: Family) -> Mapping[str, Family]:
    """Families by their names."""
    return {family.name: family for family in families}


POSTS = family("posts_total", "counter", "workspace", "platform")
UP = family("up", "gauge", "workspace")
SECONDS = family("wait_seconds", "histogram", "workspace", "feed", buckets=(0.5, 1.0, 2.5))
WIDE = family("wide", "histogram", "workspace", buckets=tuple(float(bound) for bound in range(100)))
FAMILIES = table(POSTS, UP, SECONDS)


def plain(exposed: Exposition, media: str | None = None) -> bytes:
    """The body without compression."""
    return exposed.get_body(media, None).body


def bodies(exposed: Exposition) -> tuple[bytes, bytes]:
    """Both bodies."""
    return plain(exposed), plain(exposed, OM)


def lines(exposed: Exposition, media: str | None = None) -> list[str]:
    """The samples."""
    return [line for line in plain(exposed, media).decode().splitlines() if not line.startswith("#")]


def filled(families: Mapping[str, Family], state: State, *, created: bool = True) -> Exposition:
    """An exposition that has been told the state and nothing else."""
    exposed = Exposition(families, created=created)
    for (name, labels), shown in state.items():
        exposed.put(name, labels, shown.value, created=shown.born)
        for value, exemplar in shown.exemplars:
            exposed.add_exemplar(name, labels, value, exemplar)
    exposed.publish()
    return exposed


def newest(shown: Shown, bounds: tuple[float, ...]) -> dict[int, ForeignExemplar]:
    """The exemplars that are left by the place of their bucket."""
    found: dict[int, ForeignExemplar] = {}
    for value, exemplar in shown.exemplars:
        place = bisect_left(bounds, value)
        last = found.get(place)
        if last is None or float(last.timestamp or 0) <= exemplar.timestamp:
            found[place] = ForeignExemplar(dict(exemplar.labels), value, exemplar.timestamp)
    return found


def seconds(micros: int) -> float:
    """A sum as histograms show it."""
    try:
        return micros / 1e6
    except OverflowError:
        return math.inf


def collected(families: Mapping[str, Family], state: State, *, only_openmetrics: bool) -> Collected:
    """The state as prometheus_client's families; exemplars and births are for OpenMetrics only."""
    return Collected(
        metric
        for name, declared in families.items()
        if (metric := _metric(declared, [(key[1], state[key]) for key in sorted(state) if key[0] == name])).samples
        if only_openmetrics or _without_births(metric)
    )


def _without_births(metric: core.Metric) -> bool:
    metric.samples = [
        sample._replace(exemplar=None) for sample in metric.samples if sample.name != f"{metric.name}_created"
    ]
    return True


def _metric(declared: Family, series: list[tuple[Labels, Shown]]) -> core.Metric:
    if declared.kind == "gauge":
        gauge = core.GaugeMetricFamily(declared.name, declared.help, labels=declared.labels)
        for labels, shown in series:
            assert not isinstance(shown.value, Histogram)
            gauge.add_metric(labels, shown.value)
        return gauge
    if declared.kind == "counter":
        counter = core.CounterMetricFamily(declared.name, declared.help, labels=declared.labels)
        for labels, shown in series:
            assert not isinstance(shown.value, Histogram)
            counter.add_metric(labels, shown.value, created=shown.born, exemplar=newest(shown, ()).get(0))
        return counter
    histogram = core.HistogramMetricFamily(declared.name, declared.help, labels=declared.labels)
    for labels, shown in series:
        assert isinstance(shown.value, Histogram)
        exemplars = newest(shown, declared.buckets)
        buckets = [
            (format_number(bound), count, exemplars.get(place))
            for place, (bound, count) in enumerate(
                zip((*declared.buckets, math.inf), accumulate(shown.value.counts), strict=True)
            )
        ]
        histogram.add_metric(labels, buckets, seconds(shown.value.micros))  # type: ignore[arg-type]
        if shown.born is not None:
            names = dict(zip(declared.labels, labels, strict=True))
            histogram.samples.append(Sample(f"{declared.name}_created", names, shown.born))
    return histogram


def rendered(families: Mapping[str, Family], state: State) -> tuple[bytes, bytes]:
    """Both bodies by prometheus_client."""
    return (
        exposition.generate_latest(collected(families, state, only_openmetrics=False)),
        openmetrics_exposition.generate_latest(collected(families, state, only_openmetrics=True)),  # type: ignore[no-untyped-call]
    )


LABEL_TEXTS = st.text(max_size=5) | st.text(alphabet='\\"\n,{}#= le\r\u2028é', max_size=5)
LABEL_NAMES = st.lists(
    st.sampled_from(["action", "feed", "le_", "lf", "platform", "workspace"]), unique=True, max_size=4
)
BOUNDS = st.lists(st.floats(0, 1e9, exclude_min=True), unique=True, max_size=4).map(sorted)
COUNTS = st.integers(0, 1000) | st.integers(0, 10**8) | st.integers(0, 2**70)
TIMES = st.floats(1, 2e9)


def pointed(texts: st.SearchStrategy[str]) -> st.SearchStrategy[list[Pointed]]:
    """Observed values and their exemplars."""
    pairs = st.dictionaries(st.sampled_from(["log_id", "post_id"]), texts).map(lambda pairs: tuple(pairs.items()))
    return st.lists(st.tuples(st.floats(0, 1e9), st.builds(Exemplar, pairs, TIMES)), max_size=3)


@st.composite
def worlds(draw: st.DrawFn, *, sane: bool = False) -> tuple[Mapping[str, Family], State]:
    """Families with any number of series; sane: with values that the parsers allow."""
    numbers = st.floats(0, 1e300) if sane else st.floats() | st.integers(-(2**1000), 2**1000) | st.integers(0, 2**70)
    micros = st.integers(0, 10**15) if sane else st.integers(0, 10**400) | st.integers(0, 10**15)
    # prometheus_client's parser does not know escapes in exemplars.
    exemplars = pointed(st.text("abc", max_size=3) if sane else LABEL_TEXTS)
    state: State = {}
    declared = []
    for name, kind in (("c_total", "counter"), ("g", "gauge"), ("h_seconds", "histogram"), ("d_total", "counter")):
        labels = draw(LABEL_NAMES)
        buckets = tuple(draw(BOUNDS)) if kind == "histogram" else ()
        declared.append(family(name, kind, *labels, buckets=buckets, text=draw(LABEL_TEXTS)))
        for values in draw(st.lists(st.tuples(*[LABEL_TEXTS] * len(labels)), unique=True, max_size=4)):
            shown = state[name, values] = Shown(0)
            if kind == "histogram":
                counts = tuple(draw(COUNTS) for _ in range(len(buckets) + 1))
                shown.value = Histogram(buckets, counts, draw(micros))
            else:
                shown.value = draw(numbers)
            if kind != "gauge":
                shown.born = draw(st.none() | TIMES)
                shown.exemplars = draw(exemplars)
    return table(*declared), state


@given(worlds())
def test_bodies_are_those_of_prometheus_client(world: tuple[Mapping[str, Family], State]) -> None:
    """Whatever the families and values, both bodies are to the byte what prometheus_client writes."""
    families, state = world
    assert rendered(families, state) == bodies(filled(families, state))


@given(worlds(sane=True))
def test_bodies_are_read_back_by_the_parsers(world: tuple[Mapping[str, Family], State]) -> None:
    """The parsers of both formats read the samples that were put."""
    families, state = world
    exposed = filled(families, state)
    for only_openmetrics, read in (
        (False, parser.text_string_to_metric_families(plain(exposed).decode())),
        (True, openmetrics_parser.text_string_to_metric_families(plain(exposed, OM).decode())),  # type: ignore[no-untyped-call]
    ):
        expected = collected(families, state, only_openmetrics=only_openmetrics).metrics
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
        st.sampled_from(["put", "put", "put", "newborn", "drop", "exemplar", "publish", "answer", "served"]),
        SERIES,
        st.integers(0, 5),
    ),
    max_size=60,
)


def value_of(declared: Family, amount: int) -> float | Histogram:
    """A value that fits the family."""
    if declared.kind == "histogram":
        return Histogram(declared.buckets, (amount,) * (len(declared.buckets) + 1), amount)
    return amount


@settings(max_examples=60)
@given(STEPS)
def test_changes_end_where_a_fresh_start_does(steps: list[tuple[str, tuple[str, Labels], int]]) -> None:
    """Any course of changes and publications ends in the bodies that the last state alone gives."""
    families = table(POSTS, SECONDS, UP, WIDE)
    exposed = Exposition(families, created=True)
    state: State = {}
    for step, (name, labels), amount in steps:
        shown = state.get((name, labels))
        if step in {"put", "newborn"}:
            shown = state.setdefault((name, labels), Shown(0))
            shown.value = value_of(families[name], amount)
            shown.born = float(amount) if amount else shown.born
            exposed.put(name, labels, shown.value, created=float(amount) or None, start_at_zero=step == "newborn")
        elif step == "drop":
            state.pop((name, labels), None)
            exposed.remove(name, labels)
        elif step == "exemplar" and shown is not None:
            exemplar = Exemplar((("log_id", str(amount)),), float(amount))
            shown.exemplars.append((float(amount), exemplar))
            exposed.add_exemplar(name, labels, float(amount), exemplar)
        elif step == "publish":
            exposed.publish()
        elif step == "answer":
            exposed.get_body(OM, "gzip")
        elif step == "served":
            exposed.mark_served()
    exposed.publish()
    exposed.mark_served(exposed.get_body(None, None).version)
    exposed.publish()
    fresh = filled(families, state)
    assert bodies(fresh) == bodies(exposed)
    assert fresh.sample_count == exposed.sample_count == len(lines(exposed))
    for (name, _), shown in state.items():
        shown.born = None if families[name].kind == "gauge" else shown.born
        shown.exemplars = [] if families[name].kind == "gauge" else shown.exemplars
    assert rendered(families, state) == bodies(exposed)


@given(st.floats() | st.integers() | st.integers(0, 2**70) | st.floats(1e5, 1e8))
def test_numbers_are_written_as_go_does(value: float) -> None:
    """Numbers look as in prometheus_client, exponents included."""
    assert floatToGoString(value) == format_number(value)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(("value", "expected"), [(10**400, "+Inf"), (-(10**400), "-Inf")])
def test_an_integer_beyond_a_float_is_infinite(value: int, expected: str) -> None:
    """Numbers are never an error, however large."""
    assert expected == format_number(value)


@given(st.binary(), st.binary())
def test_checksums_combine(first: bytes, second: bytes) -> None:
    """The checksum of two stretches follows from theirs, with isal and without."""
    assert zlib.crc32(first + second) == combine_crc32(zlib.crc32(first), zlib.crc32(second), len(second))


def test_without_isal_the_bodies_say_the_same() -> None:
    """Where isal is missing the standard library makes gzip of the same text."""
    program = (
        "import sys; sys.modules['isal'] = None\n"
        "from late_exporter.exposition.exposition import Exposition\n"
        "from late_exporter.metrics.catalogue import Family\n"
        "exposed = Exposition({'up': Family('up', 'gauge', 'Help.', ('n',))})\n"
        "for n in range(600): exposed.put('up', (str(n),), n)\n"
        "exposed.publish()\n"
        "sys.stdout.buffer.write(exposed.get_body(None, 'gzip').body)"
    )
    body = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout
    exposed = Exposition(table(family("up", "gauge", "n")))
    for place in range(600):
        exposed.put("up", (str(place),), place)
    exposed.publish()
    assert plain(exposed) == gzip.decompress(body)


@pytest.mark.parametrize("media", [TEXT, OPENMETRICS])
@pytest.mark.parametrize("series", [0, 1, 2000])
def test_gzip_body_is_one_member_of_the_plain_body(media: str, series: int) -> None:
    """A reader that stops after the first gzip member, as httpx and curl do, has read all there is."""
    exposed = Exposition(FAMILIES)
    for place in range(series):
        exposed.put("wait_seconds", (f"w{place}", "publishing"), Histogram(SECONDS.buckets, (place, 0, 0, 1), place))
    exposed.publish()
    answer = exposed.get_body(media, "gzip")
    reader = zlib.decompressobj(31)
    assert plain(exposed, media) == reader.decompress(answer.body)
    assert (True, b"") == (reader.eof, reader.unused_data)
    assert plain(exposed, media) == gzip.decompress(answer.body)


def test_gzip_bodies_are_reproducible() -> None:
    """The same state gives the same bytes: no time of compression stands in them."""
    state: State = {("up", (f"w{place}",)): Shown(place) for place in range(700)}
    first, second = filled(FAMILIES, state), filled(FAMILIES, state)
    assert first.get_body(OM, "gzip") == second.get_body(OM, "gzip")


def test_answers_name_type_and_encoding() -> None:
    """An answer carries the exact content type, without which Prometheus 3 fails a scrape."""
    exposed = filled(FAMILIES, {("up", ("w",)): Shown(1)})
    answers = [exposed.get_body(accept, encoding) for accept in (None, OM) for encoding in (None, "gzip")]
    assert [
        ("text/plain; version=0.0.4; charset=utf-8", None),
        ("text/plain; version=0.0.4; charset=utf-8", "gzip"),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", None),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", "gzip"),
    ] == [(answer.content_type, answer.content_encoding) for answer in answers]


def test_bodies_are_prepared_once() -> None:
    """Between two publications every request is answered with the same object."""
    exposed = filled(FAMILIES, {("up", ("w",)): Shown(1)})
    for media in (None, OM):
        for encoding in (None, "gzip"):
            assert exposed.get_body(media, encoding).body is exposed.get_body(media, encoding).body


def test_nothing_to_show_is_still_a_body() -> None:
    """Before the first series there is an empty text, and an OpenMetrics body that says it is complete."""
    exposed = Exposition(FAMILIES)
    assert exposed.dirty is False
    assert (b"", b"# EOF\n") == bodies(exposed)
    exposed.publish()
    assert (b"", b"# EOF\n") == bodies(exposed)


def test_golden_bodies() -> None:
    """Families stand in the order of the catalogue, series by their labels, counters without _total in OpenMetrics."""
    exposed = Exposition(FAMILIES, created=True)
    exposed.put("wait_seconds", ("w", "publishing"), Histogram(SECONDS.buckets, (1, 0, 2, 1), 7_250_000), created=9.5)
    exposed.put("posts_total", ("w", "x"), 1_000_000, created=9.5)
    exposed.put("posts_total", ("w", 'a"\\\n'), 2)
    exposed.put("wait_seconds", ("v", "publishing"), Histogram(SECONDS.buckets, (0, 0, 0, 0)))
    exposed.add_exemplar("wait_seconds", ("w", "publishing"), 2, Exemplar((("log_id", "4"),), 1.5))
    exposed.publish()
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
    ] == plain(exposed, OM).decode().splitlines()


def test_created_is_off_unless_asked_for() -> None:
    """Without the option no _created is shown in any format."""
    state: State = {("posts_total", ("w", "x")): Shown(1)}
    state["posts_total", ("w", "x")].born = 5.0
    assert ['posts_total{platform="x",workspace="w"} 1.0'] == lines(filled(FAMILIES, state, created=False), OM)
    assert ['posts_total{platform="x",workspace="w"} 1.0'] == lines(filled(FAMILIES, state, created=True))


def test_birth_is_kept_where_a_put_names_none() -> None:
    """A series keeps its time of birth until another one is put."""
    exposed = Exposition(FAMILIES, created=True)
    exposed.put("posts_total", ("w", "x"), 1, created=5.0)
    exposed.put("posts_total", ("w", "x"), 2)
    exposed.publish()
    assert 'posts_created{platform="x",workspace="w"} 5.0' == lines(exposed, OM)[1]


def test_family_goes_with_its_last_series() -> None:
    """A family without series leaves no HELP and TYPE behind."""
    exposed = filled(FAMILIES, {("up", ("w",)): Shown(1)})
    exposed.remove("up", ("w",))
    exposed.publish()
    assert (b"", b"# EOF\n") == bodies(exposed)


def test_dropping_what_is_not_there_changes_nothing() -> None:
    """A series that does not exist can be dropped."""
    exposed = filled(FAMILIES, {("up", ("w",)): Shown(1)})
    exposed.remove("up", ("v",))
    exposed.remove("posts_total", ("v", "x"))
    assert exposed.dirty is False


def test_histogram_with_other_bounds_shows_its_own() -> None:
    """A histogram that was stored before the buckets were changed is shown as it is, without exemplars."""
    exposed = Exposition(FAMILIES)
    exposed.put("wait_seconds", ("w", "f"), Histogram((7.0,), (1, 2), 10**400))
    exposed.add_exemplar("wait_seconds", ("w", "f"), 2.0, Exemplar((), 1.0))
    exposed.publish()
    assert [
        'wait_seconds_bucket{feed="f",le="7.0",workspace="w"} 1.0',
        'wait_seconds_bucket{feed="f",le="+Inf",workspace="w"} 3.0',
        'wait_seconds_count{feed="f",workspace="w"} 3.0',
        'wait_seconds_sum{feed="f",workspace="w"} +Inf',
    ] == lines(exposed, OM)


def test_counts_beyond_64_bits_are_shown() -> None:
    """No count is too large to be kept."""
    exposed = filled(FAMILIES, {("wait_seconds", ("w", "f")): Shown(Histogram(SECONDS.buckets, (2**70, 0, 0, 0)))})
    assert 'wait_seconds_count{feed="f",workspace="w"} 1.1805916207174113e+21' == lines(exposed)[-2]


def test_lone_surrogates_are_replaced() -> None:
    """Text that UTF-8 cannot carry is replaced, not an error."""
    exposed = filled(FAMILIES, {("up", ("\ud800",)): Shown(1)})
    assert ['up{workspace="?"} 1.0'] == lines(exposed)


@pytest.mark.parametrize(
    ("value", "exemplar"),
    [
        (1.0, Exemplar((("log_id", "x" * 123),), 1.0)),
        (1.0, Exemplar((("log_id", "x" * 60), ("post_id", "x" * 56)), 1.0)),
        (1.0, Exemplar((), math.inf)),
        (math.nan, Exemplar((), 1.0)),
    ],
)
def test_exemplars_that_cannot_be_read_are_left_out(value: float, exemplar: Exemplar) -> None:
    """An exemplar of more than 128 characters, or without a finite time or a value, is left out."""
    exposed = filled(FAMILIES, {("posts_total", ("w", "x")): Shown(1)})
    exposed.add_exemplar("posts_total", ("w", "x"), value, exemplar)
    assert exposed.dirty is False


def test_longest_exemplar_is_shown() -> None:
    """128 characters, not bytes, are allowed."""
    exposed = filled(FAMILIES, {("posts_total", ("w", "x")): Shown(1)})
    exposed.add_exemplar("posts_total", ("w", "x"), 1, Exemplar((("log_id", "é" * 122),), 1.0))
    exposed.publish()
    assert [f'posts_total{{platform="x",workspace="w"}} 1.0 # {{log_id="{"é" * 122}"}} 1.0 1.0'] == lines(exposed, OM)


def test_exemplar_waits_for_its_series() -> None:
    """An exemplar may come before the series is put."""
    exposed = Exposition(FAMILIES)
    exposed.add_exemplar("posts_total", ("w", "x"), 1, Exemplar((), 1.0))
    assert exposed.dirty is False
    exposed.put("posts_total", ("w", "x"), 1)
    exposed.publish()
    assert ['posts_total{platform="x",workspace="w"} 1.0 # {} 1.0 1.0'] == lines(exposed, OM)


def test_gauges_have_no_exemplars() -> None:
    """OpenMetrics allows exemplars on counters and buckets only."""
    exposed = filled(FAMILIES, {("up", ("w",)): Shown(1)})
    exposed.add_exemplar("up", ("w",), 1.0, Exemplar((), 1.0))
    assert exposed.dirty is False


def test_exemplars_are_bounded() -> None:
    """Past the limit the series that got its exemplars longest ago loses them."""
    exposed = Exposition(FAMILIES)
    names = [(f"{place:04}", "x") for place in range(MAX_EXEMPLARS + 1)]
    for labels in names:
        exposed.put("posts_total", labels, 1)
    for labels in names[:-1]:
        exposed.add_exemplar("posts_total", labels, 1.0, Exemplar((), 1.0))
    exposed.publish()
    exposed.add_exemplar("posts_total", names[-1], 1.0, Exemplar((), 1.0))
    exposed.publish()
    shown = lines(exposed, OM)
    assert 'posts_total{platform="x",workspace="0000"} 1.0' == shown[0]
    assert MAX_EXEMPLARS == sum(line.endswith(" # {} 1.0 1.0") for line in shown)


def test_newest_exemplar_of_a_bucket_is_shown() -> None:
    """An exemplar gives way to one of the same time or later in its bucket, and goes with its series."""
    exposed = Exposition(FAMILIES)
    exposed.put("wait_seconds", ("w", "f"), Histogram(SECONDS.buckets, (0, 0, 4, 0)))
    for value, at in ((2.0, 7.0), (2.1, 7.0), (2.2, 6.0)):
        exposed.add_exemplar("wait_seconds", ("w", "f"), value, Exemplar((), at))
    exposed.publish()
    bucket = 'wait_seconds_bucket{feed="f",le="2.5",workspace="w"}'
    assert f"{bucket} 4.0 # {{}} 2.1 7.0" == lines(exposed, OM)[2]
    exposed.remove("wait_seconds", ("w", "f"))
    exposed.put("wait_seconds", ("w", "f"), Histogram(SECONDS.buckets, (0, 0, 4, 0)))
    exposed.publish()
    assert f"{bucket} 4.0" == lines(exposed, OM)[2]


def test_newborn_is_shown_as_zero_until_that_was_served() -> None:
    """A new series shows 0 in every publication until a body with that 0 has been sent; then its newest value."""
    exposed = Exposition(FAMILIES)
    exposed.put("posts_total", ("w", "x"), 3, start_at_zero=True)
    exposed.publish()
    for amount in (4, 5):
        assert ['posts_total{platform="x",workspace="w"} 0.0'] == lines(exposed) == lines(exposed, OM)
        exposed.put("posts_total", ("w", "x"), amount)
        exposed.publish()
    assert exposed.mark_served() is True
    assert ['posts_total{platform="x",workspace="w"} 0.0'] == lines(exposed) == lines(exposed, OM)
    assert exposed.dirty is True
    exposed.publish()
    assert ['posts_total{platform="x",workspace="w"} 5.0'] == lines(exposed) == lines(exposed, OM)
    assert exposed.mark_served() is False


def test_newborn_histogram_is_all_zero() -> None:
    """Buckets, count and sum of a new histogram are 0 at first, and it has no exemplar yet."""
    exposed = Exposition(FAMILIES)
    exposed.put("wait_seconds", ("w", "f"), Histogram(SECONDS.buckets, (1, 2, 3, 4), 5), start_at_zero=True)
    exposed.add_exemplar("wait_seconds", ("w", "f"), 2.0, Exemplar((), 1.0))
    exposed.publish()
    assert {"0.0"} == {line.split("} ")[1] for line in lines(exposed, OM)}
    exposed.mark_served()
    exposed.publish()
    assert ["1.0", "3.0", "6.0 # {", "10.0", "10.0", "5e-06"] == [line.split("} ")[1] for line in lines(exposed, OM)]


def test_what_was_sent_before_the_birth_does_not_count() -> None:
    """A body from before the series was published, sent late, does not end its showing 0."""
    exposed = Exposition(FAMILIES)
    exposed.publish()
    early = exposed.get_body(None, None)
    exposed.put("posts_total", ("w", "x"), 3, start_at_zero=True)
    assert exposed.mark_served(early.version) is False
    exposed.publish()
    assert exposed.mark_served(early.version) is False
    assert exposed.mark_served() is False
    assert exposed.mark_served(exposed.get_body(None, None).version) is True


def test_dropping_a_newborn_ends_its_being_new() -> None:
    """A series that comes back after it was dropped is what its put says: newborn or not."""
    exposed = Exposition(FAMILIES)
    exposed.put("posts_total", ("w", "x"), 3, start_at_zero=True)
    exposed.remove("posts_total", ("w", "x"))
    exposed.put("posts_total", ("w", "x"), 4)
    exposed.publish()
    assert ['posts_total{platform="x",workspace="w"} 4.0'] == lines(exposed)


def test_series_that_is_known_is_not_born_again() -> None:
    """A series that has been shown never falls back to 0."""
    exposed = filled(FAMILIES, {("posts_total", ("w", "x")): Shown(1)})
    exposed.put("posts_total", ("w", "x"), 2, start_at_zero=True)
    exposed.publish()
    assert ['posts_total{platform="x",workspace="w"} 2.0'] == lines(exposed)


def test_only_the_block_of_a_change_is_rendered() -> None:
    """A change costs one block of some hundred lines, however many series there are, in both formats together."""
    texts: list[bytes] = []

    def deflate(text: bytes) -> Segment:
        texts.append(text)
        return compress(text)

    exposed = Exposition(FAMILIES, deflate=deflate)
    for place in range(5000):
        exposed.put("posts_total", (f"w{place:04}", "x"), place)
    exposed.publish()
    texts.clear()
    exposed.publish()
    assert [] == texts
    exposed.put("posts_total", ("w2500", "x"), 7777)
    exposed.publish()
    (text,) = texts
    assert b'posts_total{platform="x",workspace="w2500"} 7777.0' in text.splitlines()
    assert 512 >= len(text.splitlines())


@pytest.mark.parametrize("step", [1, -1])
def test_blocks_are_split_and_merged(step: int) -> None:
    """Series may come and go in any order: the text stays sorted and no block outgrows its size."""
    texts: list[bytes] = []

    def deflate(text: bytes) -> Segment:
        texts.append(text)
        return compress(text)

    exposed = Exposition(FAMILIES, deflate=deflate)
    names = [f"w{place:04}" for place in range(3000)][::step]
    for name in names:
        exposed.put("up", (name,), 1)
    exposed.publish()
    assert [f'up{{workspace="{name}"}} 1.0' for name in sorted(names)] == lines(exposed)
    assert 512 >= max(len(text.splitlines()) for text in texts)
    for kept, blocks in ((3, 8), (50, 1)):
        for place, name in enumerate(names):
            if place % kept:
                exposed.remove("up", (name,))
        texts.clear()
        exposed.publish()
        names = names[::kept]
        assert [f'up{{workspace="{name}"}} 1.0' for name in sorted(names)] == lines(exposed)
        assert 512 >= max(len(text.splitlines()) for text in texts)
        assert blocks >= len(texts)


def test_merged_blocks_are_rendered_together() -> None:
    """A block that takes in a smaller neighbour shows the series of both."""
    exposed = filled(table(WIDE), {("wide", (name,)): Shown(Histogram(WIDE.buckets, (1,) * 101)) for name in "abcde"})
    for dropped, left in (("a", "bcde"), ("cd", "be")):
        for name in dropped:
            exposed.remove("wide", (name,))
        exposed.publish()
        assert [f'wide_count{{workspace="{name}"}} 101.0' for name in left] == _counts(exposed)


def test_publication_shows_the_moment_at_which_it_began() -> None:
    """What changes while a publication is rendered is shown by the next one, all of it."""
    exposed: Exposition

    def meddling(text: bytes) -> Segment:
        if b"wide_bucket" in text and plain(exposed) == b"":
            exposed.remove("wide", ("a",))
            exposed.remove("wide", ("b",))
            exposed.add_exemplar("wide", ("e",), 0.0, Exemplar((), 8.0))
            for name in "cdefgh":
                exposed.put("wide", (name,), Histogram(WIDE.buckets, (2,) * 101), start_at_zero=True)
        return compress(text)

    exposed = Exposition(table(WIDE), deflate=meddling)
    for name in "abcde":
        exposed.put("wide", (name,), Histogram(WIDE.buckets, (1,) * 101))
    exposed.add_exemplar("wide", ("e",), 0.0, Exemplar((), 7.0))
    exposed.publish()
    assert [f'wide_count{{workspace="{name}"}} 101.0' for name in "abcde"] == _counts(exposed)
    assert 'wide_bucket{le="0.0",workspace="e"} 1.0 # {} 0.0 7.0' in lines(exposed, OM)
    assert exposed.dirty is True
    assert exposed.mark_served() is False
    exposed.publish()
    expected = {name: "202.0" if name < "f" else "0.0" for name in "cdefgh"}
    assert [f'wide_count{{workspace="{name}"}} {count}' for name, count in expected.items()] == _counts(exposed)
    assert 'wide_bucket{le="0.0",workspace="e"} 2.0 # {} 0.0 8.0' in lines(exposed, OM)


def _counts(exposed: Exposition) -> list[str]:
    return [line for line in lines(exposed) if line.startswith("wide_count")]


def test_publishing_in_a_thread_while_series_change() -> None:
    """A thread may publish while the event loop's puts and answers: every body is whole and the last one complete."""
    exposed = Exposition(FAMILIES)
    done = threading.Event()

    def publish() -> None:
        while not done.is_set():
            exposed.publish()

    thread = threading.Thread(target=publish)
    thread.start()
    for place in range(3000):
        exposed.put("wait_seconds", (f"w{place % 1000:03}", "f"), Histogram(SECONDS.buckets, (place,) * 4, place))
        if place % 100 == 0:
            assert gzip.decompress(exposed.get_body(OM, "gzip").body).endswith(b"# EOF\n")
        if place % 7 == 0:
            exposed.remove("wait_seconds", (f"w{place % 500:03}", "f"))
    done.set()
    thread.join()
    exposed.publish()
    last: State = {}
    for place in range(3000):
        last["wait_seconds", (f"w{place % 1000:03}", "f")] = Shown(Histogram(SECONDS.buckets, (place,) * 4, place))
        if place % 7 == 0:
            last.pop(("wait_seconds", (f"w{place % 500:03}", "f")), None)
    assert bodies(filled(FAMILIES, last)) == bodies(exposed)


def test_families_of_other_collectors_stand_last() -> None:
    """What prometheus_client collects of the process follows our families and is replaced as a whole."""
    state: State = {("posts_total", ("w", "x")): Shown(1)}
    ours = collected(FAMILIES, state, only_openmetrics=False).metrics
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    exposed = filled(FAMILIES, state)
    for foreign in (list(registry.collect()), list(registry.collect())[:1], []):
        exposed.set_process_metrics(iter(foreign))
        assert exposed.dirty is True
        exposed.publish()
        everything = Collected([*ours, *foreign])
        assert exposition.generate_latest(everything) == plain(exposed)
        assert openmetrics_exposition.generate_latest(everything) == plain(exposed, OM)  # type: ignore[no-untyped-call]


@pytest.mark.e2e
def test_promtool_accepts_the_whole_catalogue(require_tool: Callable[[str], str]) -> None:
    """Promtool finds nothing to say about the names, helps and values of any family."""
    exposed = Exposition(CATALOGUE)
    for declared in CATALOGUE.values():
        for suffix in "ab":
            exposed.put(declared.name, tuple(f"{name}\\{suffix}" for name in declared.labels), value_of(declared, 1))
    exposed.publish()
    command = [require_tool("promtool"), "check", "metrics"]
    done = subprocess.run(command, input=plain(exposed), capture_output=True, check=False)
    assert (0, b"") == (done.returncode, done.stdout + done.stderr)
