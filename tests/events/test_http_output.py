"""Events for Loki and OTLP: requests, and what is made of the responses."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from late_exporter import __version__
from late_exporter.config.events import read_headers
from late_exporter.errors import DeliveryError, EventsRejected
from late_exporter.events import http_output
from late_exporter.events.http_output import EventFormat, HttpOutput
from late_exporter.events.loki import MAX_VALUES, LokiFormat
from late_exporter.events.otlp import OtlpFormat
from late_exporter.feeds.log_events import encode_event
from late_exporter.model import LogDetail, LogEntry, QueuedEvent, Scope

MOMENT = 1_795_600_000_123
FORMATS: dict[str, Callable[[], EventFormat]] = {"loki": LokiFormat, "otlp": OtlpFormat}


def event(
    number: int, *, workspace: str = "acme", created: int | None = MOMENT, status: str = "failed", **fields: Any
) -> QueuedEvent:
    """Return an event that was queued a second after the creation of its log."""
    entry = LogEntry(
        key=f"k{number}", status=status, created=created, platform=fields.pop("platform", "tiktok"), **fields
    )
    body = encode_event(Scope(workspace, "publishing"), entry, LogDetail(error="Zu groß"))
    return QueuedEvent(number, workspace, MOMENT + 1000, body)


class Receiver:
    """A receiver that sends one response, and keeps the requests."""

    def __init__(self, response: httpx.Response | Exception) -> None:
        self.response = response
        self.requests: list[httpx.Request] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if isinstance(self.response, Exception):
            raise self.response
        return self.response

    def deliver(
        self,
        events: Sequence[QueuedEvent],
        kind: str = "loki",
        url: str = "http://receiver:3100",
        headers: Callable[[], dict[str, str]] = dict,
    ) -> int:
        """Deliver events, and return how many were rejected."""

        async def deliver() -> int:
            async with httpx.AsyncClient(transport=httpx.MockTransport(self.answer)) as client:
                output = HttpOutput(kind, url, format=FORMATS[kind](), client=client, headers=headers)
                return await output.deliver(events)

        return asyncio.run(deliver())

    @property
    def document(self) -> Any:
        """Return the body of the last request."""
        return json.loads(self.requests[-1].content)


def accepting(status: int = 204, body: bytes = b"") -> Receiver:
    """Return a receiver that accepts everything."""
    return Receiver(httpx.Response(status, content=body))


def test_an_invalid_redirect_is_a_failure() -> None:
    """A redirect to an address that cannot be decoded fails the delivery, which is repeated later."""
    receiver = Receiver(httpx.Response(308, headers={"Location": "https://xn--ls8h.example/"}))
    with pytest.raises(DeliveryError) as caught:
        receiver.deliver([event(1)])
    assert "network" == caught.value.reason


def test_streams_of_loki() -> None:
    """A stream has few labels; its lines are the events in the order of their times, in nanoseconds."""
    receiver = accepting()
    events = [
        event(1, created=MOMENT + 5),
        event(2),
        event(3, platform="instagram"),
        event(4, workspace="umbrella", status="success"),
        event(5, created=None),
    ]
    assert 0 == receiver.deliver(events)
    (request,) = receiver.requests
    assert ("POST", "http://receiver:3100/loki/api/v1/push", "application/json") == (
        request.method,
        str(request.url),
        request.headers["Content-Type"],
    )
    streams = {tuple(sorted(each["stream"].items())): each["values"] for each in receiver.document["streams"]}

    def labels(workspace: str, platform: str, status: str) -> tuple[tuple[str, str], ...]:
        return ("job", "late-exporter"), ("platform", platform), ("status", status), ("workspace", workspace)

    nanos = str(MOMENT * 1_000_000)
    assert {
        labels("acme", "tiktok", "failed"): [
            [nanos, events[1].body.decode()],
            [str((MOMENT + 5) * 1_000_000), events[0].body.decode()],
            [str((MOMENT + 1000) * 1_000_000), events[4].body.decode()],
        ],
        labels("acme", "instagram", "failed"): [[nanos, events[2].body.decode()]],
        labels("umbrella", "tiktok", "success"): [[nanos, events[3].body.decode()]],
    } == streams


def test_labels_of_loki_are_bounded() -> None:
    """An API that invents platforms does not make streams without end; the line has the true name."""
    receiver = accepting()
    receiver.deliver([event(number, platform=f"p{number}") for number in range(MAX_VALUES + 5)])
    streams = receiver.document["streams"]
    assert MAX_VALUES + 1 == len(streams)
    (rest,) = [each for each in streams if each["stream"]["platform"] == "other"]
    assert ["p50", "p51", "p52", "p53", "p54"] == [json.loads(line)["platform"] for _, line in rest["values"]]


def test_records_of_otlp() -> None:
    """A log record has times as text, a severity, the event as its body and its fields as attributes."""
    receiver = accepting(200, b"{}")
    failed = event(1, status_code=400, duration=1_500_000)
    assert 0 == receiver.deliver([failed, event(2, status="success")], "otlp")
    assert "http://receiver:3100/v1/logs" == str(receiver.requests[0].url)
    (resource_logs,) = receiver.document["resourceLogs"]
    assert [
        {"key": "service.name", "value": {"stringValue": "late-exporter"}},
        {"key": "service.version", "value": {"stringValue": __version__}},
    ] == resource_logs["resource"]["attributes"]
    (scope_logs,) = resource_logs["scopeLogs"]
    first, second = scope_logs["logRecords"]
    assert [("ERROR", 17), ("INFO", 9)] == [(each["severityText"], each["severityNumber"]) for each in (first, second)]
    assert (str(MOMENT * 1_000_000), str((MOMENT + 1000) * 1_000_000)) == (
        first["timeUnixNano"],
        first["observedTimeUnixNano"],
    )
    assert {"stringValue": failed.body.decode()} == first["body"]
    attributes = {each["key"]: each["value"] for each in first["attributes"]}
    assert {"stringValue": "acme/publishing/k1/failed"} == attributes["late.id"]
    assert ({"intValue": "400"}, {"doubleValue": 1.5}) == (
        attributes["late.status_code"],
        attributes["late.duration_seconds"],
    )
    assert {"stringValue": "Zu groß"} == attributes["late.error"]
    assert "late.caption" not in attributes


@pytest.mark.parametrize(
    ("body", "rejected"),
    [
        (b"", 0),
        (b"{}", 0),
        (b'{"partialSuccess": {}}', 0),
        (b'{"partialSuccess": {"rejectedLogRecords": "1", "errorMessage": "no"}}', 1),
        (b'{"partialSuccess": {"rejectedLogRecords": 2}}', 2),
        (b'{"partialSuccess": {"rejectedLogRecords": "99"}}', 2),
        (b'{"partialSuccess": {"rejectedLogRecords": "-1"}}', 0),
        (b'{"partialSuccess": {"rejectedLogRecords": "many"}}', 0),
        (b"<html>", 0),
    ],
)
def test_partial_success(body: bytes, rejected: int) -> None:
    """A collector may accept a part of the records; what it says is believed as far as it is possible."""
    assert rejected == accepting(200, body).deliver([event(1), event(2)], "otlp")


def test_a_deeply_nested_response() -> None:
    """A success is a success, however deep the collector nests its response."""
    for start in (b"", b'{"x":', b'{"partialSuccess":{"rejectedLogRecords":'):
        assert 0 == accepting(200, start + b"[" * 30_000).deliver([event(1)], "otlp")


@pytest.mark.parametrize(
    ("status", "reason", "retry_after"),
    [
        (401, "unauthorized", 0),
        (403, "unauthorized", 0),
        (404, "refused", 0),
        (302, "refused", 0),
        (429, "rate_limited", 7),
        (500, "server_error", 0),
        (503, "server_error", 120),
    ],
)
def test_responses_after_which_the_events_are_sent_again(status: int, reason: str, retry_after: int) -> None:
    """Everything but the content of a request can change, so that nothing is dropped."""
    headers = {"Retry-After": str(retry_after)} if retry_after else {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}
    receiver = Receiver(httpx.Response(status, headers=headers, content=b"not now\n"))
    with pytest.raises(DeliveryError) as caught:
        receiver.deliver([event(1)])
    assert not isinstance(caught.value, EventsRejected)
    assert (reason, retry_after) == (caught.value.reason, caught.value.retry_after)
    assert f"loki:http://receiver:3100: HTTP {status}: not now" == str(caught.value)


@pytest.mark.parametrize(
    ("status", "message", "reason"),
    [
        (400, "entry for stream '{}' has timestamp too old: 2020-01-01", "too_old"),
        (400, "entry too far behind, entry timestamp is: ..., oldest acceptable timestamp is: ...", "too_old"),
        (400, "entry out of order for stream: {}", "out_of_order"),
        (400, "", "rejected"),
        (413, "Request Entity Too Large", "too_large"),
        (422, "unprocessable", "rejected"),
    ],
)
def test_responses_that_reject_the_content(status: int, message: str, reason: str) -> None:
    """Content that the receiver will never accept is not sent again; the reason is one of a few words."""
    with pytest.raises(EventsRejected) as caught:
        Receiver(httpx.Response(status, content=message.encode())).deliver([event(1)])
    assert reason == caught.value.reason


@pytest.mark.parametrize(
    "error", [httpx.ConnectError("refused"), httpx.ReadTimeout(""), httpx.RemoteProtocolError("x")]
)
def test_a_receiver_that_cannot_be_reached(error: Exception) -> None:
    """Errors of the network delay the delivery."""
    with pytest.raises(DeliveryError) as caught:
        Receiver(error).deliver([event(1)])
    assert "network" == caught.value.reason
    assert str(caught.value).startswith("loki:http://receiver:3100: ")


@pytest.mark.parametrize("kind", ["loki", "otlp"])
def test_an_event_that_cannot_be_read(kind: str) -> None:
    """An event of another version is rejected alone, and nothing is sent with it."""
    receiver = accepting()
    with pytest.raises(EventsRejected) as caught:
        receiver.deliver([event(1), QueuedEvent(2, "acme", 0, b'{"id":"2"}')], kind)
    assert ("unreadable", []) == (caught.value.reason, receiver.requests)


def test_a_response_without_end_is_not_read() -> None:
    """Of a long response only the beginning is read, and less is shown."""
    with pytest.raises(DeliveryError) as caught:
        Receiver(httpx.Response(500, content=b"x" * 10_000_000)).deliver([event(1)])
    assert len(str(caught.value)) < 400


class SlowStream(httpx.AsyncByteStream):
    """A body of which a byte arrives from time to time, without end."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(0.001)


def test_a_slow_response_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver cannot hold a delivery for as long as it likes by sending a byte at a time."""
    monkeypatch.setattr(http_output, "DELIVERY_SECONDS", 0.05)
    with pytest.raises(DeliveryError, match=r"^loki:http://receiver:3100: no complete response within 0.05 s$") as exc:
        Receiver(httpx.Response(500, stream=SlowStream())).deliver([event(1)])
    assert "network" == exc.value.reason


@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip", "identity, gzip"])
def test_a_compressed_response_is_not_read(encoding: str) -> None:
    """No compression is requested, and a body that is compressed anyway counts as empty."""
    body = b"x" * 1000
    for _ in range(encoding.count("gzip")):
        body = gzip.compress(body)
    receiver = Receiver(httpx.Response(500, headers={"Content-Encoding": encoding}, stream=httpx.ByteStream(body)))
    with pytest.raises(DeliveryError, match=r"^loki:http://receiver:3100: HTTP 500$"):
        receiver.deliver([event(1)])
    assert "identity" == receiver.requests[0].headers["Accept-Encoding"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://logs.example/prefix", "https://logs.example/prefix/loki/api/v1/push"),
        ("https://logs.example/loki/api/v1/push", "https://logs.example/loki/api/v1/push"),
    ],
)
def test_urls(url: str, expected: str) -> None:
    """The URL may have a path, or be the whole address."""
    receiver = accepting()
    receiver.deliver([event(1)], url=url)
    assert expected == str(receiver.requests[0].url)


def test_headers(tmp_path: Path) -> None:
    """Headers of a file are sent, those of each moment; a file that is broken meanwhile delays the delivery."""
    file = tmp_path / "headers"
    file.write_text("# Grafana Cloud\nAuthorization: Basic bGF0ZQ==\n\nX-Scope-OrgID:acme\n")
    receiver = accepting()
    receiver.deliver([event(1)], headers=lambda: read_headers(str(file)))
    assert ("Basic bGF0ZQ==", "acme") == tuple(
        receiver.requests[0].headers[name] for name in ("Authorization", "X-Scope-OrgID")
    )
    file.write_text("Authorization: Bearer 2\n")
    receiver.deliver([event(1)], headers=lambda: read_headers(str(file)))
    assert "Bearer 2" == receiver.requests[1].headers["Authorization"]
    file.write_text("secret without a name")
    with pytest.raises(
        DeliveryError, match=r"--events.headers-file: each line must be a name, a colon and a value"
    ) as exc:
        receiver.deliver([event(1)], headers=lambda: read_headers(str(file)))
    assert ("headers_file", False) == (exc.value.reason, "secret" in str(exc.value))


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "a b: c", ": c", "Name:", "Name: a\tb", "X: ü", "A: " + "x" * 20_000]
)
def test_wrong_headers(tmp_path: Path, text: str) -> None:
    """A file that has no usable headers is an error that does not show its content."""
    file = tmp_path / "headers"
    file.write_text(text, "utf-8")
    with pytest.raises(ValueError, match="must"):
        read_headers(str(file))
