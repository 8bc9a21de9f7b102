"""ASGI application of the simulated API.

Serve it with the server's own Date header off: the Date header follows the simulator's clock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from late_exporter.simulator.service import SimulatedApi

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]


def create_simulator(api: SimulatedApi) -> Callable[[Message, Receive, Send], Awaitable[None]]:
    """Return an ASGI application that serves an API over HTTP. HEAD is answered as GET without a body."""

    async def app(scope: Message, _: Receive, send: Send) -> None:
        is_head = scope["method"] == "HEAD"
        method = "GET" if is_head else scope["method"]
        request_headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        client = scope.get("client") or ("127.0.0.1", 0)  # none on a Unix socket
        response = api.handle(
            method, scope["path"], scope["query_string"].decode("latin-1"), request_headers, ip_address=client[0]
        )
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in response.headers.items()]
        headers.append((b"content-length", str(len(response.body)).encode()))
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if is_head else response.body})

    return app
