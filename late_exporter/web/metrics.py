"""ASGI application of the metrics, which may run on another event loop than the exporter."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from collections.abc import Set as AbstractSet

from late_exporter.exposition.exposition import EncodedBody, Exposition
from late_exporter.exposition.negotiation import accepts_gzip
from late_exporter.web.access import select_workspaces
from late_exporter.web.asgi import App, Message, Receive, Send
from late_exporter.web.reply import READ_METHODS, Headers, Reply, dispatch, get_header, send_reply

MAX_LOOP_SAMPLES = 10_000
"""Samples up to which an uncompressed body is made on the event loop, in a few milliseconds."""


async def all_workspaces() -> AbstractSet[str] | None:
    """Let the series of all workspaces be shown."""
    return None


def create_metrics_app(
    exposition: Exposition,
    names: Callable[[], Collection[str]],
    visible_workspaces: Callable[[], Awaitable[AbstractSet[str] | None]] = all_workspaces,
    exposed_workspaces: Callable[[], AbstractSet[str]] = frozenset,
) -> App:
    """Create the application that serves the metrics at every path; ``names`` returns the names of the workspaces.

    It only reads what is published, from any thread.
    """
    workspaces_lock = asyncio.Lock()  # bodies of workspaces are made one at a time, see Snapshot

    async def metrics(scope: Message) -> Reply:
        workspaces = select_workspaces(scope, names())
        visible = await visible_workspaces()
        exposed = exposed_workspaces()
        exposition.shows_workspaces = lambda: visible is None or exposed <= visible
        if workspaces is None:
            return _reply(await _encode(exposition, scope))
        async with workspaces_lock:
            return _reply(await _encode_workspaces(exposition, scope, workspaces))

    async def app(scope: Message, _: Receive, send: Send) -> None:
        await send_reply(await dispatch((READ_METHODS, metrics), scope), scope, send)

    return app


async def _encode(exposition: Exposition, scope: Message) -> EncodedBody:
    accept, encoding = get_header(scope, b"accept"), get_header(scope, b"accept-encoding")
    if exposition.sample_count > MAX_LOOP_SAMPLES and not accepts_gzip(encoding):
        return await asyncio.to_thread(exposition.get_body, accept, encoding)
    return exposition.get_body(accept, encoding)


async def _encode_workspaces(exposition: Exposition, scope: Message, workspaces: Sequence[str]) -> EncodedBody:
    accept, encoding = get_header(scope, b"accept"), get_header(scope, b"accept-encoding")
    if exposition.has_body(accept, encoding, workspaces):
        return exposition.get_body(accept, encoding, workspaces)
    return await asyncio.to_thread(exposition.get_body, accept, encoding, workspaces)


def _reply(metrics: EncodedBody) -> Reply:
    headers: Headers = (("content-type", metrics.content_type), ("vary", "Accept, Accept-Encoding"))
    if metrics.content_encoding is not None:
        headers += (("content-encoding", metrics.content_encoding),)
    return Reply(body=metrics.body, headers=headers)
