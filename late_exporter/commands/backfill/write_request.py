"""Requests of the Prometheus remote-write protocol 1.0: the history of series as compressed protobuf messages.

The protocol: https://prometheus.io/docs/specs/prw/remote_write_spec/.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, islice
from typing import Any, NamedTuple, TypeAlias

from cramjam import snappy
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from late_exporter.commands.backfill.history import SampleValue, SeriesHistory
from late_exporter.commands.backfill.openmetrics import SampleGrid, samples
from late_exporter.exposition.text import format_number
from late_exporter.series import Histogram

MAX_SAMPLES = 2000
"""Samples per request, about as many as Prometheus itself sends."""

LabelSet: TypeAlias = Sequence[tuple[str, str]]
"""Names and values of all labels of a series, sorted by name."""


class EncodedRequest(NamedTuple):
    """One request.

    Args:
        body: The compressed message.
        sample_count: Number of samples in it.
        series_count: Number of histories that are complete with it.
    """

    body: bytes
    sample_count: int
    series_count: int


def _create_message_class() -> Any:
    """Return the class of the message ``WriteRequest`` without the fields that the exporter does not send."""
    types = descriptor_pb2.FieldDescriptorProto
    fields: Mapping[str, Sequence[tuple[str, int, Any, str]]] = {
        "WriteRequest": [("timeseries", 1, types.TYPE_MESSAGE, "TimeSeries")],
        "TimeSeries": [("labels", 1, types.TYPE_MESSAGE, "Label"), ("samples", 2, types.TYPE_MESSAGE, "Sample")],
        "Label": [("name", 1, types.TYPE_STRING, ""), ("value", 2, types.TYPE_STRING, "")],
        "Sample": [("value", 1, types.TYPE_DOUBLE, ""), ("timestamp", 2, types.TYPE_INT64, "")],
    }
    file = descriptor_pb2.FileDescriptorProto(name="remote_write.proto", package="prometheus", syntax="proto3")
    for message_name, rows in fields.items():
        message = file.message_type.add(name=message_name)
        for name, number, kind, type_name in rows:
            label = types.LABEL_REPEATED if type_name else types.LABEL_OPTIONAL
            field = message.field.add(name=name, number=number, type=kind, label=label)
            if type_name:
                field.type_name = f".prometheus.{type_name}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("prometheus.WriteRequest"))


WriteRequest = _create_message_class()


def encode_requests(
    histories: Iterable[SeriesHistory], grid: SampleGrid, target_labels: Mapping[str, str]
) -> Iterator[EncodedRequest]:
    """Yield requests of at most MAX_SAMPLES samples, those of a series in the order of their times."""
    message, sample_count, series_count = WriteRequest(), 0, 0
    for history in histories:
        label_sets = _label_sets(history, target_labels)
        rows = samples(history, grid.timestamps(history.until))
        while True:
            if sample_count + len(label_sets) > MAX_SAMPLES:
                yield _encode(message, sample_count, series_count)
                message, sample_count, series_count = WriteRequest(), 0, 0
            chunk = list(islice(rows, (MAX_SAMPLES - sample_count) // len(label_sets)))
            if not chunk:
                break
            _add_samples(message, label_sets, chunk)
            sample_count += len(label_sets) * len(chunk)
        series_count += 1
    if sample_count:
        yield _encode(message, sample_count, series_count)


def _encode(message: Any, sample_count: int, series_count: int) -> EncodedRequest:
    return EncodedRequest(bytes(snappy.compress_raw(message.SerializeToString())), sample_count, series_count)


def _add_samples(message: Any, label_sets: Sequence[LabelSet], rows: Sequence[tuple[int, SampleValue]]) -> None:
    columns = zip(*(_sample_values(value) for _, value in rows), strict=True)
    for label_set, values in zip(label_sets, columns, strict=True):
        series = message.timeseries.add()
        for name, text in label_set:
            series.labels.add(name=name, value=text)
        for (timestamp, _), value in zip(rows, values, strict=True):
            series.samples.add(value=value, timestamp=timestamp)


def _label_sets(history: SeriesHistory, target_labels: Mapping[str, str]) -> Sequence[LabelSet]:
    """Return the labels of each sample that a value consists of, in the order of ``_sample_values``."""
    family = history.family
    labels = {**dict(zip(family.labels, history.labels, strict=True)), **target_labels}
    if family.kind != "histogram":
        return [_label_set(family.name, labels)]
    bounds = [format_number(bound) for bound in (*family.buckets, math.inf)]
    return [
        *(_label_set(f"{family.name}_bucket", {**labels, "le": bound}) for bound in bounds),
        _label_set(f"{family.name}_count", labels),
        _label_set(f"{family.name}_sum", labels),
    ]


def _label_set(name: str, labels: Mapping[str, str]) -> LabelSet:
    # The protocol forbids labels without a value. Lone surrogates become question marks, as in the metrics.
    pairs = {"__name__": name, **labels}.items()
    return sorted((label, text.encode(errors="replace").decode()) for label, text in pairs if text)


def _sample_values(value: SampleValue) -> Sequence[float]:
    if not isinstance(value, Histogram):
        return [float(value)]
    counts = list(accumulate(value.counts))
    return [*map(float, counts), float(counts[-1]), value.micros / 1e6]
