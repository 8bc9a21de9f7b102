"""Asking the exporter that runs on this machine whether it lives."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from late_exporter.cli import main
from late_exporter.commands.healthcheck import check_health
from late_exporter.config import web as webconfig
from late_exporter.config.types import Address, UnixPath
from late_exporter.errors import LateError
from late_exporter.web.asgi import Message, Receive, Send
from late_exporter.web.server import bind_socket, serve
from tests.e2e.late import FaultHandler, HttpExchange, LateServer, hang, respond_with


@pytest.fixture
def server() -> Iterator[LateServer]:
    """Something that serves on a loopback address, and answers as it is told."""
    with LateServer() as late:
        yield late


def address(server: LateServer) -> Address:
    """Where it serves."""
    host, _, port = server.url.removeprefix("http://").partition("/")[0].rpartition(":")
    return Address(host, int(port))


@pytest.mark.parametrize("host", ["127.0.0.1", "", "0.0.0.0"])  # noqa: S104 - asked, not bound
def test_healthy(server: LateServer, host: str) -> None:
    """An exporter that listens on every interface is asked on the loopback one."""
    server.fault = respond_with(200, "late-exporter is healthy")
    check_health(Address(host, address(server).port))
    assert ["/-/healthy"] == [received.path for received in server.requests]


def test_ipv6() -> None:
    """Where every IPv6 interface is listened on, the loopback one is asked, whose answer is waited for."""
    with (
        bind_socket(Address("::", 0)) as bound,
        pytest.raises(LateError, match=r"^\[::1\]:\d+ gives no answer within 0.05 s$"),
    ):
        check_health(Address("::", bound.getsockname()[1]), timeout=0.05)


def not_http(exchange: HttpExchange) -> None:
    """Answer in no protocol."""
    exchange.write(b"SSH-2.0-secret\r\n")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (respond_with(503, "why"), "answers 503"),
        (respond_with(404, ""), "answers 404"),
        (not_http, "gives an answer that is not HTTP"),
    ],
)
def test_unhealthy(server: LateServer, fault: FaultHandler, reason: str) -> None:
    """What answers something else is not a healthy exporter, and the reason is short."""
    server.fault = fault
    with pytest.raises(LateError) as caught:
        check_health(address(server))
    assert f"{address(server)} {reason}" == str(caught.value)


def test_stuck(server: LateServer) -> None:
    """What takes a connection and then says nothing is not healthy either."""
    server.fault = hang(server)
    with pytest.raises(LateError, match=r" gives no answer within 0.05 s$"):
        check_health(address(server), timeout=0.05)


def test_nobody_is_there() -> None:
    """Where nobody listens, that is said."""
    with bind_socket(Address("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
    with pytest.raises(LateError, match=rf"^127.0.0.1:{port} gives no answer: Connection refused$"):
        check_health(Address("127.0.0.1", port))


def test_a_password_is_a_sign_of_life(server: LateServer) -> None:
    """An exporter that asks for a password, or for patience, lives."""
    for status in (401, 429):
        server.fault = respond_with(status, "")
        check_health(address(server))


async def refuse(scope: Message, _receive: Receive, send: Send) -> None:
    """Ask for a password."""
    assert "/-/healthy" == scope["path"]
    await send({"type": "http.response.start", "status": 401, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize("kind", ["plain", "tls", "mtls", "unix"])
async def test_listeners_of_all_kinds(kind: str, tmp_path: Path) -> None:
    """With a web configuration file it may be TLS, with clients' certificates or not, and it may be at a path."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    clients = "client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem" if kind == "mtls" else ""
    tls = f"tls_server_config: {{cert_file: server.pem, key_file: server.pem, {clients}}}"
    (tmp_path / "web.yml").write_text(tls if "tls" in kind else "")
    config = webconfig.load(tmp_path / "web.yml")
    where = UnixPath(tmp_path / "socket") if kind == "unix" else Address("127.0.0.1", 0)
    with bind_socket(where) as bound:
        serving = asyncio.ensure_future(serve(refuse, [bound], web_config=lambda: config))
        if isinstance(where, Address):
            where = Address(*bound.getsockname())
        await asyncio.to_thread(check_health, where, secure=True)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving


@pytest.mark.parametrize("way", ["flag", "variable", "file"])
def test_command(
    server: LateServer, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The address is what the exporter's own is, whichever way it is set, and no key is needed."""
    (tmp_path / "late.yml").write_text(
        f"workspaces: 7\npoll: {{interval: x}}\nweb: {{listen-address: '{address(server)}'}}"
    )
    monkeypatch.delenv("LATE_API_KEY", raising=False)
    if way == "variable":
        monkeypatch.setenv("LATE_EXPORTER_WEB__LISTEN_ADDRESS", f"{address(server)},:1")
    flags = {"flag": [f"--web.listen-address={address(server)}"], "file": ["--config.file", str(tmp_path / "late.yml")]}
    server.fault = respond_with(200, "")
    assert 0 == main(["healthcheck", *flags.get(way, [])])
    server.fault = respond_with(500, "")
    assert 1 == main(["healthcheck", *flags.get(way, [])])
    output = capsys.readouterr()
    assert "late-exporter is healthy\n" == output.out
    assert f"late-exporter: error: {address(server)} answers 500\n" == output.err


def test_command_with_a_port_that_nobody_knows(capsys: pytest.CaptureFixture[str]) -> None:
    """A port of the system's choice cannot be asked: that is a mistake of usage."""
    assert 2 == main(["healthcheck", "--web.listen-address=127.0.0.1:0"])
    assert "cannot run a health check against port 0" in capsys.readouterr().err


def test_command_imports_little() -> None:
    """It runs every half minute, so it loads neither the server nor the client nor the store."""
    program = """
import sys
from late_exporter.cli import main
main(["healthcheck", "--web.listen-address=127.0.0.1:1"])
print(sorted({"httpx", "sqlite3", "uvicorn", "late_exporter.commands.run"} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert "[]\n" == done.stdout
