"""An HTTP server that records what is pushed to it, and answers as a test says."""

from __future__ import annotations

import threading
from collections.abc import Callable
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

__all__ = ["Push", "PushReceiver"]


class Push(NamedTuple):
    """One request."""

    path: str
    headers: Message
    body: bytes


class PushReceiver:
    """Server of pushed metrics on a free port of the loopback interface.

    Attributes:
        pushes: Requests, oldest first.
        answer: Returns status, headers and text for a request.
    """

    def __init__(self) -> None:
        self.pushes: list[Push] = []
        self.answer: Callable[[Push], tuple[int, dict[str, str], str]] = lambda _: (200, {}, "")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(receiver: PushReceiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            push = Push(self.path, self.headers, self.rfile.read(int(self.headers["Content-Length"])))
            status, headers, text = receiver.answer(push)
            receiver.pushes.append(push)  # before the response, after which the test looks
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(text.encode()))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            """Write nothing."""

    return Handler
