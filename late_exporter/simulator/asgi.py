"""ASGI application of the simulated API.

Serve it with the server's own Date header off: the Date header follows the simulator's clock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from late_exporter.simulator.service import SimulatedApi, SimulatorResponse

__all__ = ["create_simulator"]

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]


def create_simulator(api: SimulatedApi) -> Application:
    """Return an ASGI application that serves an API. HEAD is answered as GET without a body."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _handle_lifespan(receive, send)
        elif scope["type"] == "http":
            await _send_response(_call_api(api, scope), send, body=scope["method"] != "HEAD")

    return app


def _call_api(api: SimulatedApi, scope: Message) -> SimulatorResponse:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    method = "GET" if scope["method"] == "HEAD" else scope["method"]
    return api.handle(method, scope["path"], scope["query_string"].decode("latin-1"), headers)


async def _send_response(response: SimulatorResponse, send: Send, *, body: bool) -> None:
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.headers.items()]
    headers.append((b"content-length", str(len(response.body)).encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body if body else b""})


async def _handle_lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
