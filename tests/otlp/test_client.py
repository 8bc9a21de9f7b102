"""The client of OTLP with a server that redirects, or does not end its response."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from late_exporter.commands.check.finding import Level
from late_exporter.commands.check.otlp import check_otlp
from late_exporter.otlp.client import OtlpClient
from tests.support.receiver import PushReceiver

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[PushReceiver]:
    """Return a running collector, which is the endpoint of the environment."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    with PushReceiver() as running:
        monkeypatch.setenv(ENDPOINT, running.url)
        yield running


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
def test_redirects_are_failures(receiver: PushReceiver, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """A redirect is neither followed, also with the headers, nor taken for a success."""
    monkeypatch.setenv(HEADERS, "api-key=t0ken")
    with PushReceiver() as other:
        receiver.answer = lambda _: (status, {"Location": f"{other.url}/v1/metrics"}, "")
        (finding,) = check_otlp(os.environ, has_replicas=False)
        assert [] == other.pushes
    assert Level.ERROR == finding.level
    assert f"HTTP {status}: redirects are not followed" in finding.message


def test_a_redirect_to_nowhere_is_a_failure(receiver: PushReceiver) -> None:
    """An invalid location changes nothing."""
    receiver.answer = lambda _: (308, {"Location": "https://xn--ls8h.example:port/"}, "")
    assert "redirects are not followed" in (OtlpClient("1").try_endpoint() or "")


@pytest.mark.parametrize("text", ["", "{}"])
def test_a_success_has_any_body(receiver: PushReceiver, text: str) -> None:
    """The status is what counts, and the connection can be used again."""
    receiver.answer = lambda _: (200, {}, text)
    client = OtlpClient("1")
    assert [None, None] == [client.try_endpoint(), client.try_endpoint()]
    client.close()


def test_an_invalid_body_is_a_success(receiver: PushReceiver) -> None:
    """A body that cannot be read does not change the status."""
    receiver.answer = lambda _: (200, {"Transfer-Encoding": "chunked"}, "no chunk\r\n")
    client = OtlpClient("1")
    assert client.try_endpoint() is None
    client.close()


def test_no_compressed_response_is_requested_or_read(receiver: PushReceiver) -> None:
    """A response that is compressed anyway changes nothing."""
    receiver.answer = lambda _: (200, {"Content-Encoding": "gzip"}, "no gzip")
    client = OtlpClient("1")
    assert [None, None] == [client.try_endpoint(), client.try_endpoint()]
    assert ["identity"] * 2 == [push.headers["Accept-Encoding"] for push in receiver.pushes]
    client.close()


def test_a_response_without_end_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The beginning of a response is enough, whatever the collector sends."""
    sizes: list[int] = []

    def answer(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            sizes.extend(connection.send(b"x" * 65_536) for _ in range(1000))

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer, args=(server,), daemon=True)
        thread.start()
        monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{server.getsockname()[1]}")
        assert OtlpClient("1").try_endpoint() is None
        thread.join()
    assert sum(sizes) < 20_000_000
