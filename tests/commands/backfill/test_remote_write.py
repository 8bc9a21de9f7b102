from __future__ import annotations

import gzip
import io
import re
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from email.utils import formatdate
from pathlib import Path
from typing import TypeAlias

import httpx
import pytest
from cramjam import snappy
from hypothesis import given, settings
from hypothesis import strategies as st

from late_exporter import log
from late_exporter.commands.backfill.history import Delta, SeriesHistory
from late_exporter.commands.backfill.openmetrics import History, SampleGrid, write_openmetrics
from late_exporter.commands.backfill.remote_write import (
    MAX_ATTEMPTS,
    RemoteWriteClient,
    find_problems,
    open_http_client,
    send_history,
)
from late_exporter.commands.backfill.write_request import MAX_SAMPLES, WriteRequest, encode_requests
from late_exporter.commands.progress import ProgressBar
from late_exporter.config.flags import CommandFlags
from late_exporter.config.sources import parse_flags
from late_exporter.errors import ConfigError, LateError
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.series import Histogram
from tests.support.receiver import PushReceiver

MINUTE = 60_000
DAY = 24 * 60 * MINUTE
URL = "https://mimir.example/api/v1/push"
PAUSES = CATALOGUE["late_publishing_rate_limit_pauses_total"]
ATTEMPTS = CATALOGUE["late_publishing_attempts"]
LAST = CATALOGUE["late_publishing_last_log_timestamp_seconds"]
TARGET = {"job": "late", "instance": "localhost:10077"}

Answer: TypeAlias = tuple[int, Mapping[str, str], str]


def counter(platform: str, *moves: int, until: int = DAY, base: float | None = 0) -> SeriesHistory:
    """Return a counter that is incremented at some times."""
    deltas = tuple(Delta(at, 1) for at in moves)
    return SeriesHistory(family=PAUSES, labels=("default", platform), until=until, base=base, deltas=deltas)


def histogram(*moves: int, until: int = DAY) -> SeriesHistory:
    """Return a histogram that observes 2 at some times."""
    empty = Histogram(ATTEMPTS.buckets, (0,) * (len(ATTEMPTS.buckets) + 1))
    deltas = tuple(Delta(at, 2_000_000) for at in moves)
    labels = ("default", "x", "failed")
    return SeriesHistory(family=ATTEMPTS, labels=labels, until=until, base=empty, deltas=deltas)


def gauge(at: int, until: int = DAY) -> SeriesHistory:
    """Return a gauge with the time at which it is set."""
    labels = ("default", "x", "publish", "failed")
    return SeriesHistory(family=LAST, labels=labels, until=until, base=None, deltas=(Delta(at, at / 1000),))


def decoded(bodies: Sequence[bytes]) -> dict[tuple[tuple[str, str], ...], list[tuple[int, float]]]:
    """Return the samples of each series in the order in which they are sent."""
    result: dict[tuple[tuple[str, str], ...], list[tuple[int, float]]] = defaultdict(list)
    for body in bodies:
        message = WriteRequest.FromString(bytes(snappy.decompress_raw(body)))
        for series in message.timeseries:
            labels = tuple((label.name, label.value) for label in series.labels)
            result[labels] += [(sample.timestamp, sample.value) for sample in series.samples]
    return dict(result)


def test_the_message_is_that_of_the_protocol() -> None:
    """A request has the field numbers and types of the specification."""
    (request,) = encode_requests([counter("x", until=0)], SampleGrid(0, MINUTE), {})

    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    def label(name: str, value: str) -> bytes:
        return field(1, field(1, name.encode()) + field(2, value.encode()))

    names = (("__name__", PAUSES.name), ("platform", "x"), ("workspace", "default"))
    sample = field(2, b"")  # value and timestamp are 0, which is left out
    assert field(1, b"".join(label(*pair) for pair in names) + sample) == bytes(snappy.decompress_raw(request.body))
    (request,) = encode_requests([counter("x", until=MINUTE, base=2.5)], SampleGrid(0, MINUTE), {})
    assert bytes(snappy.decompress_raw(request.body)).endswith(
        field(2, b"\x09" + struct.pack("<d", 2.5) + b"\x10\xe0\xd4\x03")
    )


@pytest.mark.exhaustive
@settings(deadline=None, max_examples=30)
@given(moves=st.lists(st.integers(0, DAY), max_size=5), step=st.sampled_from([7_000, MINUTE, 240_000]))
def test_the_samples_are_those_of_the_file(moves: list[int], step: int) -> None:
    """Both ways have the same series, times and values; each request is bounded, and series are in order of time."""
    histories = [gauge(MINUTE), counter("tiktok", *sorted(moves)), counter("x", base=3), histogram(*sorted(moves))]
    grid = SampleGrid(0, step)
    file = io.BytesIO()
    count = write_openmetrics(file, histories, grid, TARGET)
    requests = list(encode_requests(histories, grid, TARGET))
    by_series = decoded([request.body for request in requests])

    assert count == sum(request.sample_count for request in requests)
    assert len(histories) == sum(request.series_count for request in requests)
    assert all(0 < request.sample_count <= MAX_SAMPLES for request in requests)
    assert all(request.sample_count > MAX_SAMPLES - 20 for request in requests[:-1])
    assert [] == [labels for labels in by_series if list(labels) != sorted(labels)]
    assert [] == [labels for labels, rows in by_series.items() if rows != sorted(dict(rows).items())]
    sent = {(labels, at): value for labels, rows in by_series.items() for at, value in rows}
    lines = [line.split(" ") for line in file.getvalue().decode().splitlines() if not line.startswith("#")]
    written = {(_labels(head), round(float(at) * 1000)): float(value) for head, value, at in lines}
    assert written == sent


def _labels(head: str) -> tuple[tuple[str, str], ...]:
    name, _, rest = head.partition("{")
    return tuple(sorted([("__name__", name), *re.findall(r'(\w+)="([^"]*)"', rest)]))


@pytest.mark.parametrize("step", [7_000, MINUTE, 240_000])
def test_a_later_run_sends_no_other_samples(step: int) -> None:
    """History that begins some minutes later, because the command runs again, has samples at the same times."""
    series = [counter("x", 5 * 60 * MINUTE)]
    first, second = (
        decoded([request.body for request in encode_requests(series, SampleGrid(since, step), {})])
        for since in (MINUTE, 3 * MINUTE + 1)
    )
    assert first.keys() == second.keys()
    (earlier,), (later,) = first.values(), second.values()
    assert set(later) <= set(earlier)
    assert len(earlier) - len(later) <= 1


def test_labels_without_value_and_surrogates() -> None:
    """A label without a value is left out, and lone surrogates are sent as in the metrics."""
    (request,) = encode_requests([counter("\ud800x", until=0)], SampleGrid(0, MINUTE), {"zone": ""})
    assert [(("__name__", PAUSES.name), ("platform", "?x"), ("workspace", "default"))] == list(decoded([request.body]))


class Server:
    """A server with prepared answers; after the last one it accepts everything."""

    def __init__(self, *answers: Answer | httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.pauses: list[float] = []
        self.reasons: list[str] = []
        self.client = RemoteWriteClient(
            httpx.Client(transport=httpx.MockTransport(self._handle)),
            URL,
            age=30 * DAY,
            on_wait=lambda reason, _: self.reasons.append(reason),
            sleep=self.pauses.append,
            clock=lambda: 1_800_000_000.0,
            jitter=lambda: 1.0,
        )

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if self.answers else (204, {}, "")
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx.Response):
            return answer
        status, headers, text = answer
        return httpx.Response(status, headers=headers, text=text)


def test_requests_are_repeated_while_the_server_is_busy() -> None:
    """After 429, 5xx and failed connections the same request follows, after Retry-After or longer and longer pauses."""
    later = formatdate(1_800_000_050, usegmt=True)
    server = Server(
        (503, {}, "no quorum"),
        httpx.ConnectError("refused"),
        (429, {"Retry-After": "7"}, "slow down"),
        (500, {}, ""),
        (503, {"Retry-After": later}, ""),
        (503, {"Retry-After": "nonsense"}, ""),
    )
    server.client.send(b"body")
    assert [1.0, 2.0, 7.0, 8.0, 50.0, 60.0] == server.pauses
    assert [b"body"] * 7 == [request.content for request in server.requests]
    assert "503: no quorum" == server.reasons[0]
    assert "no answer: refused" == server.reasons[1]


def test_a_server_that_stays_busy_is_an_error() -> None:
    """After some attempts the command gives up, with the last reason."""
    server = Server(*[(503, {}, "no quorum")] * MAX_ATTEMPTS)
    with pytest.raises(LateError, match=f"^{URL}: 503: no quorum, also after 10 attempts$"):
        server.client.send(b"body")
    assert MAX_ATTEMPTS - 1 == len(server.pauses)
    assert 60.0 == max(server.pauses)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (
            400,
            "400: out of order sample; if .* out of order, set out_of_order_time_window of the server to 31d or",
        ),
        (401, "401: out of order sample; check user, password and token"),
        (404, "404: .*; check the path of the URL; Prometheus needs --web.enable-remote-write-receiver"),
        (413, "413: .*; let the server accept requests"),
        (302, "302: .*; give the URL to which it redirects"),
        (422, "422: .*; it would be rejected again"),
    ],
)
def test_rejected_requests_are_not_repeated(status: int, expected: str) -> None:
    """A rejection is an error with the server's text and what to do."""
    server = Server((status, {}, "out of\norder sample"))
    with pytest.raises(LateError, match=expected):
        server.client.send(b"body")
    assert 1 == len(server.requests)


def test_an_invalid_redirect_is_an_error() -> None:
    """A redirect to an address that cannot be decoded ends the command with an error."""
    server = Server(*[(308, {"Location": "https://xn--ls8h.example/"}, "")] * MAX_ATTEMPTS)
    with pytest.raises(LateError, match="no answer: "):
        server.client.send(b"body")


def test_messages_of_the_server_are_cut_and_redacted() -> None:
    """Long texts and secrets do not get into the error."""
    log.add_secret("hunter2hunter2")
    server = Server((400, {}, "hunter2hunter2 " + "x" * 10_000))
    with pytest.raises(LateError) as caught:
        server.client.send(b"body")
    assert "hunter2" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_compressed_response_is_not_read() -> None:
    """A body that is compressed although that was not requested counts as empty: it could be of any size."""
    response = httpx.Response(
        400, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(gzip.compress(b"x" * 1000))
    )
    server = Server(response)
    with pytest.raises(LateError, match="400 without a message"):
        server.client.send(b"body")


@pytest.fixture
def receiver() -> Iterator[PushReceiver]:
    """Return a running server."""
    with PushReceiver() as running:
        yield running


@pytest.fixture
def flags_of(tmp_path: Path) -> Callable[..., CommandFlags]:
    """Return a function that returns the flags of remote write, given without their prefix; files have a content."""

    def parse(**values: str) -> CommandFlags:
        texts = {"remote-write": values.pop("url", "")} if "url" in values else {}
        for name, value in values.items():
            texts[f"remote-write.{name.replace('_', '-')}"] = value
            if name.endswith("_file"):
                path = tmp_path / name
                path.write_text(value)
                texts[f"remote-write.{name.replace('_', '-')}"] = str(path)
        return parse_flags("backfill", {name: [text] for name, text in texts.items()})

    return parse


def test_headers(receiver: PushReceiver, flags_of: Callable[..., CommandFlags]) -> None:
    """Requests have the headers of the protocol, the user or the token, and the tenant."""
    history = History([counter("x")], SampleGrid(0, MINUTE), TARGET)
    path = f"{receiver.url}/api/v1/push"
    for flags in (
        flags_of(url=path, username="aladdin", password_file="open sesame\n", tenant="acme"),
        flags_of(url=path, bearer_token_file=" t0ken\n"),
        flags_of(url=path),
    ):
        assert [] == list(find_problems(flags))
        send_history(flags, history, now=DAY, progress=ProgressBar(io.StringIO()))
    first, second, third = receiver.pushes
    assert "/api/v1/push" == first.path
    expected = {
        "Accept-Encoding": "identity",
        "Authorization": "Basic YWxhZGRpbjpvcGVuIHNlc2FtZQ==",
        "Content-Encoding": "snappy",
        "Content-Type": "application/x-protobuf",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
        "X-Scope-OrgID": "acme",
    }
    assert expected == {name: first.headers[name] for name in expected}
    assert ["Bearer t0ken", None] == [push.headers["Authorization"] for push in (second, third)]
    assert "[redacted]" == log.redact("YWxhZGRpbjpvcGVuIHNlc2FtZQ==")
    assert first.body == third.body


def test_progress_and_what_was_sent(receiver: PushReceiver, flags_of: Callable[..., CommandFlags]) -> None:
    """The last line has the number of samples; an error has the number sent, and says to run the command again."""
    history = History([counter("tiktok", until=20 * DAY), counter("x", until=20 * DAY)], SampleGrid(0, MINUTE), TARGET)
    output = io.StringIO()
    flags = flags_of(url=receiver.url)
    send_history(flags, history, now=20 * DAY, progress=ProgressBar(output))
    count = sum(len(rows) for rows in decoded([push.body for push in receiver.pushes]).values())
    assert f"{receiver.url}: {count:,} samples of 2 series\n" == output.getvalue()
    receiver.pushes.clear()
    receiver.answer = lambda _: (400, {}, "too old sample") if receiver.pushes else (200, {}, "")
    with pytest.raises(LateError, match=r"too old sample; .* \(2,000 samples were sent; run the command again"):
        send_history(flags, history, now=20 * DAY, progress=ProgressBar(output))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"tenant": "acme"}, "--remote-write: required by the options"),
        ({"url": URL, "username": "a"}, "--remote-write.username: needs --remote-write.password-file"),
        ({"url": URL, "password_file": "b"}, "--remote-write.username: needs --remote-write.password-file"),
        ({"url": URL, "username": "a:b", "password_file": "b"}, "must be printable and contain no colon"),
        (
            {"url": URL, "username": "a", "password_file": "b", "bearer_token_file": "c"},
            "--remote-write.bearer-token-file: excludes --remote-write.username",
        ),
        ({"url": "http://mimir/push", "bearer_token_file": "c"}, "--remote-write: must begin with https://"),
    ],
)
def test_contradicting_options(flags_of: Callable[..., CommandFlags], values: dict[str, str], expected: str) -> None:
    """Options that do not fit together are one error."""
    (problem,) = find_problems(flags_of(**values))
    assert expected in problem


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"url": "mimir.example"}, "must be a URL like https://mimir.example/api/v1/push"),
        ({"url": "https://me:secret@mimir.example/push"}, "must not contain a user or password"),
        ({"url": "https://mimir.example/push?token=secret"}, "must not contain a query or fragment"),
        ({"url": URL, "tenant": "a b"}, "must be 1 to 150 visible ASCII characters"),
        ({"url": URL, "bearer_token_file": "a b"}, "the file must contain one token"),
    ],
)
def test_wrong_options(flags_of: Callable[..., CommandFlags], values: dict[str, str], expected: str) -> None:
    """A wrong value is one error, without secrets."""
    with pytest.raises(ConfigError) as caught:
        flags_of(**values)
    (problem,) = caught.value.problems
    assert expected in problem
    assert "secret" not in problem


def test_proxies(flags_of: Callable[..., CommandFlags], monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that is none is an error; its value is not shown."""
    monkeypatch.setenv("HTTPS_PROXY", "socks5://secret@proxy")
    with pytest.raises(ConfigError, match=r"^HTTPS_PROXY: must be the URL of an HTTP proxy"):
        open_http_client(flags_of(url=URL)).__enter__()
