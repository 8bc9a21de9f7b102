"""Connect the workspaces to their APIs."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import cycle

import httpx

from late_exporter import __version__, log
from late_exporter.api.body import MAX_LARGE_BODIES
from late_exporter.api.client import ApiKey, LateClient, NoCookies
from late_exporter.api.rate_limiter import MAX_SLOTS, RateLimiter
from late_exporter.config.settings import Settings, Workspace
from late_exporter.errors import ConfigError

MAX_IDLE_SECONDS = 100.0
"""Seconds for which an idle connection is kept: networks drop older ones in silence, as Azure does
after 240 s."""

WORKSPACES_PER_CLIENT = 32
"""Workspaces that share an HTTP client: each request looks at all idle connections of its
client."""


class Connector:
    """Connects workspaces to their APIs.

    Those with the same key share its quota, and all of them the memory for large responses.

    Args:
        clients: HTTP clients, which the workspaces use in turns.
    """

    def __init__(self, clients: Sequence[httpx.AsyncClient]) -> None:
        self._clients = cycle(clients)
        self._slots = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(MAX_SLOTS))
        self._large_bodies = asyncio.Semaphore(MAX_LARGE_BODIES)
        self._rate_limiters: dict[str, RateLimiter] = {}

    def connect(self, settings: Settings, workspace: Workspace) -> LateClient:
        key = workspace.key_text
        if key not in self._rate_limiters:
            self._rate_limiters[key] = RateLimiter(1.0, slots=self._slots[workspace.base_url])
        self._rate_limiters[key].quota_share = settings.api.quota_share
        client = LateClient(
            next(self._clients),
            base_url=workspace.base_url,
            key=ApiKey(key, workspace.key_file, on_change=log.add_secret),
            rate_limiter=self._rate_limiters[key],
            timeout=settings.api.timeout,
            profile_id=workspace.profile_id,
            configured_generation=settings.api.generation,
        )
        client.large_bodies = self._large_bodies
        return client


async def open_clients(settings: Settings, stack: AsyncExitStack) -> Sequence[httpx.AsyncClient]:
    """Open the HTTP clients.

    Raise ConfigError if variables of proxies or certificates are not usable.
    """
    try:
        context = httpx.create_ssl_context()
    except OSError as exc:
        path = os.environ.get("SSL_CERT_FILE")
        raise ConfigError(f"SSL_CERT_FILE: {path}: {exc.strerror}") from None
    # Connections last until the next poll.
    idle_seconds = 2 * settings.poll.interval + settings.api.timeout
    try:
        return [
            await stack.enter_async_context(
                httpx.AsyncClient(
                    cookies=NoCookies(),
                    verify=context,
                    follow_redirects=False,
                    timeout=None,  # noqa: S113 - that of a request may change with a reload, and covers all of it
                    limits=httpx.Limits(keepalive_expiry=min(idle_seconds, MAX_IDLE_SECONDS)),
                    headers={"User-Agent": f"late-exporter/{__version__}"},
                    # Plain http is for this machine only: a proxy would take the key to another
                    # one, unencrypted.
                    mounts={"http://": None},
                )
            )
            for _ in settings.workspaces[::WORKSPACES_PER_CLIENT]
        ]
    except (ImportError, ValueError, httpx.InvalidURL):
        # The value may contain a password.
        raise ConfigError(
            "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY or NO_PROXY: is not usable; a proxy must be the "
            "URL of an HTTP proxy, as in http://proxy.example:3128"
        ) from None
