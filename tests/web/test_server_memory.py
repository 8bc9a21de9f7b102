"""Memory of a server process that is attacked by many connections."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trustme

from late_exporter.config.tls import Tls, create_context
from late_exporter.config.types import Address
from late_exporter.config.web import WebConfig
from late_exporter.web.reply import Reply, send_reply
from late_exporter.web.server import serve
from late_exporter.web.sockets import bind_socket
from tests.e2e.program import start_process
from tests.support.crowd import ATTACKS, crowd

pytestmark = pytest.mark.e2e

CONNECTIONS = 700
MAX_GROWTH = 48 << 20
"""Bytes by which any attack may raise the memory of the server: a few tens of KiB per open connection."""

PAGE = b"x" * (8 << 20)  # more than the system buffers
REQUEST = b"GET /quick HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
ROOT = Path(__file__).resolve().parents[2]


class Server:
    """A server process; it has no garbage collection of what existed at its start, like the exporter."""

    def __init__(self, pid: int, port: int, context: ssl.SSLContext | None) -> None:
        self.pid, self.port, self.context = pid, port, context

    @property
    def peak_memory(self) -> int:
        """Return the largest memory of the process so far, in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text("ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def get(self) -> bytes:
        """Return the response to a well-behaved client."""
        with closing(socket.create_connection(("127.0.0.1", self.port), 30)) as client:
            secure = self.context.wrap_socket(client, server_hostname="127.0.0.1") if self.context else client
            secure.sendall(REQUEST)
            response = b"".join(iter(lambda: secure.recv(1 << 16), b""))
            secure.close()
            return response


def main(folder: str) -> None:
    """Serve a large page; called in the process of the server."""

    async def app(scope: Any, _: Callable[[], Awaitable[Any]], send: Any) -> None:
        body = PAGE if scope["path"] == "/large" else b"quick"
        await send_reply(Reply(body=body, headers=()), scope, send)

    async def run() -> None:
        web = WebConfig()
        if folder:
            tls = Tls(cert_file="server.crt", key_file="server.key")
            web = WebConfig(ssl_context=create_context(tls, Path(folder)))
        with bind_socket(Address("127.0.0.1", 0)) as bound:
            sys.stdout.write(f"{bound.getsockname()[1]}\n")
            sys.stdout.flush()
            gc.freeze()
            await serve(app, [bound], web_config=lambda: web)

    asyncio.run(run())


@pytest.fixture(params=["plain", "tls"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """Start a server process."""
    context = None
    if request.param == "tls":
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1")
        certificate.cert_chain_pems[0].write_to_path(tmp_path / "server.crt")
        certificate.private_key_pem.write_to_path(tmp_path / "server.key")
        context = ssl.create_default_context()
        authority.configure_trust(context)
    code = f"from tests.web.test_server_memory import main; main({str(tmp_path) if context else ''!r})"
    with start_process([sys.executable, "-c", code], cwd=ROOT, stdout=-1) as process:
        assert process.stdout is not None
        yield Server(process.pid, int(process.stdout.readline()), context)


@pytest.mark.parametrize("name", ATTACKS)
def test_memory_of_many_connections(server: Server, name: str) -> None:
    """Any number of useless connections costs a bounded amount of memory, and keeps no one out."""
    assert server.get().endswith(b"quick")
    before = server.peak_memory
    with crowd(server.port, ATTACKS[name], CONNECTIONS, server.context):
        assert server.get().endswith(b"quick")
        growth = server.peak_memory - before
    assert growth < MAX_GROWTH
