"""ASGI application of the metrics, which may run on another event loop than the exporter."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from collections.abc import Set as AbstractSet

from late_exporter.exposition.exposition import BodyRequest, Exposition
from late_exporter.web.access import select_workspaces
from late_exporter.web.asgi import App, Message, Receive, Send
from late_exporter.web.reply import READ_METHODS, Headers, Reply, get_header, respond


def create_metrics_app(
    path: str,
    exposition: Exposition,
    names: Callable[[], Collection[str]],
    *,
    other_app: App,
    visible_workspaces: Callable[[], Awaitable[AbstractSet[str]]] | None = None,
) -> App:
    """Create the application that serves the metrics, from any thread.

    Args:
        path: Path of the metrics.
        exposition: The series.
        names: Returns the names of the workspaces.
        other_app: Application of all other paths.
        visible_workspaces: Returns those of them whose series may be shown now; called for each
            scrape. None shows all.
    """
    # Bodies are made one at a time, those of workspaces apart, so that no number of them delays a
    # scrape of the whole.
    whole_lock, part_lock = asyncio.Lock(), asyncio.Lock()

    async def metrics(scope: Message) -> Reply:
        selected = select_workspaces(scope, names)
        visible = await visible_workspaces() if visible_workspaces is not None else None
        request = BodyRequest.of(
            get_header(scope, b"accept"), get_header(scope, b"accept-encoding"), selected, visible
        )
        body = exposition.find_body(request)
        if body is None:
            async with whole_lock if selected is None else part_lock:
                body = await asyncio.to_thread(exposition.get_body, request)
        headers: Headers = (
            ("content-type", request.content_type),
            ("vary", "Accept, Accept-Encoding"),
        )
        if request.encoding is not None:
            headers += (("content-encoding", request.encoding),)
        return Reply(body=body, headers=headers)

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["path"] != path:
            await other_app(scope, receive, send)
        else:
            await respond((READ_METHODS, metrics), scope, send)

    return app
