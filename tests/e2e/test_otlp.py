"""Tests of the push by OTLP, with a receiver that decodes what the exporter sends."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from tests.e2e.late import KEY, LateServer
from tests.e2e.program import ROOT, ExporterProcess, wait_until
from tests.support.receiver import Push, PushReceiver
from tests.support.samples import Samples

pytestmark = pytest.mark.e2e

LOGS = "late_publishing_logs_total"
EXPORTS = "late_exporter_otlp_exports_total"
TOKEN = "t0ken-of-the-collector"

Start: TypeAlias = Callable[..., ExporterProcess]
SampleKey: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]


@pytest.fixture
def receiver() -> Iterator[PushReceiver]:
    """Return a running collector."""
    with PushReceiver() as running:
        yield running


def environment(receiver: PushReceiver, **variables: str) -> dict[str, str]:
    """Return the variables with which an exporter pushes five times a second."""
    return {
        "LATE_API_KEY": KEY,
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
        **variables,
    }


def messages(pushes: list[Push]) -> Iterator[Any]:
    """Yield the metrics of requests."""
    for push in pushes:
        body = gzip.decompress(push.body) if push.headers["Content-Encoding"] == "gzip" else push.body
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            for scope in resource.scope_metrics:
                yield from scope.metrics


def samples_of(push: Push) -> tuple[Samples, dict[SampleKey, int]]:
    """Return what was pushed as the samples of a scrape, and the start times of sums and histograms."""
    samples, starts = Samples(), {}
    for metric in messages([push]):
        data = getattr(metric, metric.WhichOneof("data"))
        for point in data.data_points:
            labels = {pair.key: pair.value.string_value for pair in point.attributes}
            key = metric.name, tuple(sorted(labels.items()))
            if metric.HasField("histogram"):
                bounds = [*map(str, point.explicit_bounds), "+Inf"]
                for index, bound in enumerate(bounds):
                    pairs = tuple(sorted({**labels, "le": bound}.items()))
                    samples[f"{metric.name}_bucket", pairs] = sum(point.bucket_counts[: index + 1])
                samples[f"{metric.name}_count", key[1]] = point.count
                samples[f"{metric.name}_sum", key[1]] = point.sum
            else:
                samples[key] = point.as_double
            if not metric.HasField("gauge"):
                assert 2 == data.aggregation_temporality
                starts[key] = point.start_time_unix_nano
    return samples, starts


def about_logs(samples: Mapping[SampleKey, float]) -> dict[SampleKey, float]:
    """Return the samples that change only if a log is counted; like in Prometheus, without empty labels."""
    return {
        (name, tuple(pair for pair in labels if pair[1])): value
        for (name, labels), value in samples.items()
        if not name.startswith(("late_exporter_", "late_up", "process_", "python_"))
    }


def publish_some(late: LateServer) -> None:
    """Publish logs for all kinds of metrics."""
    late.world.publish(5, over=60, platform="tiktok", durationMs=700)
    late.world.publish(3, over=60, platform="bluesky", status="failed", statusCode=500)
    late.world.add_connection()


def test_pushes_have_the_values_of_the_metrics(late: LateServer, start_exporter: Start, receiver: PushReceiver) -> None:
    """Counters, histograms and gauges are those of /metrics, before and after a restart, with the same start times."""
    publish_some(late)
    variables = environment(
        receiver, OTEL_EXPORTER_OTLP_COMPRESSION="gzip", OTEL_RESOURCE_ATTRIBUTES="service.instance.id=a,team=b"
    )

    def are_equal() -> bool:
        """Scrape each time, because the gauges of status feeds may appear at any time."""
        return about_logs(exporter.scrape()) == about_logs(samples_of(receiver.pushes[-1])[0])

    exporter = start_exporter(env=variables).wait_ready()
    wait_until(lambda: receiver.pushes and are_equal())
    assert 8 == exporter.scrape().sum(LOGS)
    first, first_starts = samples_of(receiver.pushes[-1])
    assert any(name.endswith("_bucket") for name, _ in about_logs(first))
    assert "process_cpu_seconds_total" in {name for name, _ in first_starts}
    push = receiver.pushes[-1]
    assert ("/v1/metrics", "application/x-protobuf") == (push.path, push.headers["Content-Type"])
    assert 0 == exporter.stop()

    late.world.publish(2, over=10, platform="tiktok", durationMs=100)
    exporter.start().wait_ready()
    wait_until(lambda: 10 == exporter.scrape().sum(LOGS) and are_equal())
    second, second_starts = samples_of(receiver.pushes[-1])
    logs = {key for key in first_starts if key in about_logs(dict.fromkeys(first_starts, 0.0)) and key[0] != EXPORTS}
    assert len(logs) > 10
    assert {key: first_starts[key] for key in logs} == {key: second_starts[key] for key in logs}
    assert 0 < min(first_starts[key] for key in logs)
    fallen = [key for key in about_logs(first.counters) if second[key] < first[key]]
    assert [] == fallen
    resource = ExportMetricsServiceRequest.FromString(gzip.decompress(push.body)).resource_metrics[0].resource
    attributes = {pair.key: pair.value.string_value for pair in resource.attributes}
    assert {"service.name": "late-exporter", "service.instance.id": "a", "team": "b"}.items() <= attributes.items()
    assert 0 == exporter.stop()


def test_the_last_values_are_pushed_when_the_exporter_stops(
    late: LateServer, start_exporter: Start, receiver: PushReceiver
) -> None:
    """An exporter that stops pushes once more, whatever the interval is."""
    publish_some(late)
    variables = environment(receiver, OTEL_METRIC_EXPORT_INTERVAL="3600000")
    # The gauges of status feeds may appear at any time.
    exporter = start_exporter("--status.feeds=none", env=variables).wait_ready()
    scraped = exporter.scrape()
    assert [] == receiver.pushes
    assert 0 == exporter.stop()
    (push,) = receiver.pushes
    assert about_logs(scraped) == about_logs(samples_of(push)[0])


def test_a_collector_that_refuses_costs_no_log(late: LateServer, start_exporter: Start, receiver: PushReceiver) -> None:
    """Failures are counted, and logged once without the headers; counting goes on, and a later push has everything."""
    receiver.answer = lambda push: (401, {}, f"unknown {push.headers['api-key']}")
    exporter = start_exporter(env=environment(receiver, OTEL_EXPORTER_OTLP_HEADERS=f"api-key={TOKEN}")).wait_ready()
    publish_some(late)
    wait_until(lambda: 8 == exporter.scrape().sum(LOGS) and len(receiver.pushes) > 5)
    failures = (EXPORTS, (("outcome", "failure"),))
    wait_until(lambda: exporter.scrape().get(failures, 0) > 1, timeout=60)
    assert TOKEN == receiver.pushes[0].headers["api-key"]
    assert 1 == exporter.stderr.count("otlp push failed")
    assert "401" in exporter.stderr
    receiver.answer = lambda _: (200, {}, "")
    wait_until(lambda: "otlp push recovered" in exporter.stderr)
    assert 8 == samples_of(receiver.pushes[-1])[0].sum(LOGS)
    assert 0 == exporter.stop()
    assert TOKEN not in exporter.stderr
    assert "Traceback" not in exporter.stderr


def test_a_collector_that_does_not_answer_delays_nothing(
    late: LateServer, start_exporter: Start, receiver: PushReceiver
) -> None:
    """Polls and scrapes go on while a push waits, and the exporter stops in time."""
    arrived: list[Push] = []

    def hang(push: Push) -> tuple[int, dict[str, str], str]:
        arrived.append(push)
        late.pause(60)
        return 200, {}, ""

    receiver.answer = hang
    exporter = start_exporter(env=environment(receiver)).wait_ready()
    wait_until(lambda: arrived)
    publish_some(late)
    wait_until(lambda: 8 == exporter.scrape().sum(LOGS))
    assert [] == receiver.pushes
    assert 0 == exporter.stop()
    assert "the last otlp push was not complete in time" in exporter.stderr


@pytest.mark.parametrize("command", ["run", "check"])
def test_without_its_packages(late: LateServer, receiver: PushReceiver, tmp_path: Path, command: str) -> None:
    """Without the extra the error says what to run; here a module that cannot be imported is in its way."""
    (tmp_path / "opentelemetry.py").write_text("raise ModuleNotFoundError('no', name='opentelemetry')")
    arguments = (command, f"--api.base-url={late.url}", "--web.listen-address=127.0.0.1:0", "--state.url=sqlite://")
    variables = environment(receiver, PYTHONPATH=f"{tmp_path}:{ROOT}")
    with ExporterProcess(tmp_path, *arguments, env=variables) as program:
        assert (2 if command == "run" else 1) == program.wait_exit()
    assert "OTEL_EXPORTER_OTLP_ENDPOINT: needs more packages; run: pip install 'late-exporter[otlp]'" in (
        program.stderr + program.stdout
    )


def test_check_tries_the_endpoint(late: LateServer, receiver: PushReceiver, tmp_path: Path) -> None:
    """The check sends a request without metrics, and says what the endpoint answers."""
    arguments = ["check", f"--api.base-url={late.url}", "--web.listen-address=127.0.0.1:0", "--format=json"]
    arguments.append(f"--state.url=sqlite:///{tmp_path / 'state.db'}")
    findings = []
    for status in (200, 403):
        receiver.answer = lambda _, status=status: (status, {}, "")  # type: ignore[misc]
        with ExporterProcess(tmp_path, *arguments, env=environment(receiver)) as program:
            assert (0 if status == 200 else 1) == program.wait_exit(), program.stderr
        findings += [finding for finding in json.loads(program.stdout) if finding["subject"] == "otlp"]
    assert [("ok", f"{receiver.url}: accepts metrics")] == [(findings[0]["level"], findings[0]["message"])]
    assert "error" == findings[1]["level"]
    assert "403" in findings[1]["message"]
    assert [] == list(messages(receiver.pushes))


def test_a_wrong_variable_is_an_error(start_exporter: Start, receiver: PushReceiver) -> None:
    """The exporter does not start with it."""
    exporter = start_exporter(env=environment(receiver, OTEL_EXPORTER_OTLP_PROTOCOL="grpc"))
    assert 2 == exporter.wait_exit()
    assert "error: OTEL_EXPORTER_OTLP_PROTOCOL: must be http/protobuf" in exporter.stderr


@pytest.mark.parametrize("command", ["run", "check"])
def test_replicas_do_not_push(late: LateServer, receiver: PushReceiver, tmp_path: Path, command: str) -> None:
    """An endpoint together with replicas is an error, which says what to do; nothing is sent."""
    arguments = [command, f"--api.base-url={late.url}", "--web.listen-address=127.0.0.1:0", "--state.replicas"]
    arguments.append("--state.url=postgresql://late@127.0.0.1:1/late")
    with ExporterProcess(tmp_path, *arguments, env=environment(receiver)) as program:
        assert (2 if command == "run" else 1) == program.wait_exit()
    assert "OTEL_EXPORTER_OTLP_ENDPOINT: replicas do not push metrics; unset the variable" in (
        program.stderr + program.stdout
    )
    assert [] == receiver.pushes
