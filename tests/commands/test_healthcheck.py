"""The health check of the exporter on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from late_exporter.cli import main
from late_exporter.commands.healthcheck import check_health
from late_exporter.config import web_file as webconfig
from late_exporter.config.types import Address, UnixPath
from late_exporter.errors import LateError
from late_exporter.web.asgi import Message, Receive, Send
from late_exporter.web.server import serve
from late_exporter.web.sockets import bind_socket
from tests.e2e.late import FaultHandler, HttpExchange, LateServer, drip, respond_with

OTHER_PROGRAM = "is not late-exporter; give the address with --web.listen-address"


@pytest.fixture
def server() -> Iterator[LateServer]:
    """Return a server on a loopback address."""
    with LateServer() as late:
        yield late


def address(server: LateServer) -> Address:
    """Return the address of a server."""
    host, _, port = server.url.removeprefix("http://").partition("/")[0].rpartition(":")
    return Address(host, int(port))


@pytest.mark.parametrize("host", ["127.0.0.1", "", "0.0.0.0"])  # noqa: S104 - asked, not bound
def test_all_interfaces_are_checked_at_loopback(server: LateServer, host: str) -> None:
    """An exporter that listens on every interface is requested at a loopback address."""
    server.fault = respond_with(200, "late-exporter is healthy")
    check_health(Address(host, address(server).port))
    assert ["/-/healthy"] == [received.path for received in server.requests]


def test_all_ipv6_interfaces_are_checked_at_loopback() -> None:
    """The check waits for an answer."""
    with (
        bind_socket(Address("::", 0)) as bound,
        pytest.raises(LateError, match=r"^\[::1\]:\d+ does not answer within 0.05 s$"),
    ):
        check_health(Address("::", bound.getsockname()[1]), timeout=0.05)


def not_http(exchange: HttpExchange) -> None:
    """Answer with bytes that are not HTTP."""
    exchange.write(b"SSH-2.0-secret\r\n")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (respond_with(503, "why"), "answers 503"),
        (respond_with(404, ""), "answers 404"),
        (not_http, "does not answer in HTTP"),
        (respond_with(200, ""), OTHER_PROGRAM),
        (respond_with(200, "<h1>It works!</h1>"), OTHER_PROGRAM),
        (respond_with(200, " " * 100_000 + "late-exporter is healthy"), OTHER_PROGRAM),
    ],
)
def test_another_answer_is_unhealthy(server: LateServer, fault: FaultHandler, reason: str) -> None:
    """The error gives the reason in a few words."""
    server.fault = fault
    with pytest.raises(LateError) as caught:
        check_health(address(server))
    assert f"{address(server)} {reason}" == str(caught.value)


@pytest.mark.parametrize("secure", [False, True])
def test_a_dripping_server_is_unhealthy(server: LateServer, *, secure: bool) -> None:
    """The timeout is that of the whole exchange, however many bytes arrive in between."""
    server.fault = drip(server, pause=0.01)
    with pytest.raises(LateError, match=r" does not answer within 0.1 s$"):
        check_health(address(server), secure=secure, timeout=0.1)


def test_a_refused_connection_is_unhealthy() -> None:
    """The error says so."""
    with bind_socket(Address("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
    with pytest.raises(LateError, match=rf"^127.0.0.1:{port} does not answer: Connection refused$"):
        check_health(Address("127.0.0.1", port))


def test_authentication_and_rate_limits_are_healthy(server: LateServer) -> None:
    """A server that asks for a password or limits requests is running."""
    for status in (401, 429):
        server.fault = respond_with(status, "")
        check_health(address(server))


async def refuse(scope: Message, _receive: Receive, send: Send) -> None:
    """Ask for a password."""
    assert "/-/healthy" == scope["path"]
    await send({"type": "http.response.start", "status": 401, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize("kind", ["plain", "tls", "mtls", "unix"])
async def test_tls_and_unix_sockets_are_supported(kind: str, tmp_path: Path) -> None:
    """TLS may require client certificates, and the address may be a path."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    clients = "client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem" if kind == "mtls" else ""
    tls = f"tls_server_config: {{cert_file: server.pem, key_file: server.pem, {clients}}}"
    (tmp_path / "web.yml").write_text(tls if "tls" in kind else "")
    config = webconfig.load(tmp_path / "web.yml")
    address_in_use = UnixPath(tmp_path / "socket") if kind == "unix" else Address("127.0.0.1", 0)
    with bind_socket(address_in_use) as bound:
        serving = asyncio.ensure_future(serve(refuse, [bound], web_config=lambda: config))
        if isinstance(address_in_use, Address):
            address_in_use = Address(*bound.getsockname())
        await asyncio.to_thread(check_health, address_in_use, secure=True)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving


@pytest.mark.parametrize("source", ["flag", "variable", "file"])
def test_the_command_uses_the_configured_address(
    server: LateServer, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The address comes from any source, and no key is needed."""
    (tmp_path / "late.yml").write_text(
        f"workspaces: 7\npoll: {{interval: x}}\nweb: {{listen-address: '{address(server)}'}}"
    )
    monkeypatch.delenv("LATE_API_KEY", raising=False)
    if source == "variable":
        monkeypatch.setenv("LATE_EXPORTER_WEB__LISTEN_ADDRESS", f"{address(server)},:1")
    flags = {"flag": [f"--web.listen-address={address(server)}"], "file": ["--config.file", str(tmp_path / "late.yml")]}
    server.fault = respond_with(200, "late-exporter is healthy\n")
    assert 0 == main(["healthcheck", *flags.get(source, [])])
    server.fault = respond_with(500, "")
    assert 1 == main(["healthcheck", *flags.get(source, [])])
    output = capsys.readouterr()
    assert "late-exporter is healthy\n" == output.out
    assert f"late-exporter: error: {address(server)} answers 500\n" == output.err


def test_port_0_cannot_be_checked(capsys: pytest.CaptureFixture[str]) -> None:
    """A port that is assigned at startup is a usage error."""
    assert 2 == main(["healthcheck", "--web.listen-address=127.0.0.1:0"])
    assert "cannot run a health check against port 0" in capsys.readouterr().err
