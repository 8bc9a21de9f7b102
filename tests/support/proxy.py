"""A TCP proxy that loses requests or answers, or hangs."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Self


@dataclass
class _Link:
    """A client and its connection to the server."""

    client: socket.socket
    server: socket.socket
    loses_answers: bool = False


class Proxy:
    """A proxy in front of a port of this machine.

    Args:
        target: Port to which connections are passed on.
        server: Socket that listens; one on a free port by default.
    """

    def __init__(self, target: int, server: socket.socket | None = None) -> None:
        self._target = target
        self._server = server or socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._lost, self._pattern = "", b""
        self._held_pattern = b""
        self._flows = threading.Event()
        self._flows.set()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()
        self._flows.set()
        self._close_all()

    def cut(self, lost: str, pattern: bytes) -> None:
        """Lose the next request that contains a pattern, or the answer to it, and close the connection."""
        self._lost, self._pattern = lost, pattern

    def hang(self) -> None:
        """Pass nothing on any more, but keep connections open and accept new ones."""
        self._flows.clear()

    def hang_at(self, pattern: bytes) -> None:
        """Hang before the next request that contains a pattern is passed on."""
        self._held_pattern = pattern

    @property
    def is_hanging(self) -> bool:
        return not self._flows.is_set()

    def resume(self) -> None:
        """Pass on what was held back by ``hang``, however late it is."""
        self._flows.set()

    def heal(self) -> None:
        """Pass everything on again, on new connections."""
        self._close_all()
        self._flows.set()

    def _close_all(self) -> None:
        with self._lock:
            for each in self._sockets:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()
            self._sockets.clear()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    client.close()
                    continue
                for each in (client, server):  # Otherwise each round trip may take 40 ms.
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    self._sockets += [client, server]
                link = _Link(client, server)
                for is_request in (True, False):
                    threading.Thread(target=self._pass_on, args=(link, is_request), daemon=True).start()

    def _pass_on(self, link: _Link, is_request: bool) -> None:  # noqa: FBT001 - the argument of a thread
        source, sink = (link.client, link.server) if is_request else (link.server, link.client)
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if is_request and self._held_pattern and self._held_pattern in data:
                    self._held_pattern = b""
                    self.hang()
                self._flows.wait()
                if is_request and self._pattern and self._pattern in data:
                    lost, self._pattern = self._lost, b""
                    if lost == "request":
                        break
                    link.loses_answers = True
                elif not is_request and link.loses_answers:
                    break
                sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
