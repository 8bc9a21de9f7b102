"""Connect the workspaces to their APIs."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from itertools import cycle

import httpx

from late_exporter import __version__, log
from late_exporter.api.body import MAX_LARGE_BODIES
from late_exporter.api.client import ApiKey, LateClient
from late_exporter.api.cookies import CookielessAsyncClient
from late_exporter.api.generation import ApiGeneration
from late_exporter.api.quota import MAX_SLOTS, RateLimiter
from late_exporter.config.environment import certificate_context, check_proxies
from late_exporter.config.settings import Settings, Workspace
from late_exporter.errors import ConfigError
from late_exporter.protocols import Logger

WORKSPACES_PER_CLIENT = 32

MAX_IDLE_SECONDS = 100.0
"""Seconds for which an idle connection is kept: networks drop older ones in silence, as Azure does after 240 s."""


class Connector:
    """Connects workspaces to their APIs.

    Those with the same key share its quota, those with the same API its connections, and all of them the memory for
    large responses.

    Args:
        clients: HTTP clients, over which the workspaces are spread.
        create_logger: Returns the logger of a workspace.
    """

    def __init__(self, clients: Sequence[httpx.AsyncClient], create_logger: Callable[[str], Logger]) -> None:
        self._clients = cycle(clients)
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._create_logger = create_logger
        self._rate_limiters: dict[str, RateLimiter] = {}
        self._settings: Settings | None = None
        self._key_shards: Counter[str] = Counter()
        self._large_bodies = asyncio.Semaphore(MAX_LARGE_BODIES)

    def connect(self, settings: Settings, workspace: Workspace) -> tuple[LateClient, ApiGeneration]:
        generation = ApiGeneration(settings.api.generation, logger=self._create_logger(workspace.name))
        key = workspace.key_text
        slots = self._slots.setdefault(workspace.base_url, asyncio.Semaphore(MAX_SLOTS))
        quota_share = self._quota_share(settings, key)
        rate_limiter = self._rate_limiters.setdefault(key, RateLimiter(quota_share, slots=slots))
        rate_limiter.quota_share = quota_share
        client = LateClient(
            next(self._clients),
            base_url=workspace.base_url,
            key=ApiKey(key, workspace.key_file, on_change=log.add_secret),
            rate_limiter=rate_limiter,
            timeout=settings.api.timeout,
            profile_id=workspace.profile_id,
        )
        client.large_bodies = self._large_bodies
        return client, generation

    def _quota_share(self, settings: Settings, key: str) -> float:
        """Return the share of the key's quota that this shard may use."""
        if settings is not self._settings:
            self._settings, self._key_shards = settings, settings.count_key_shards()
        return settings.api.quota_share / max(1, self._key_shards[key])


async def open_clients(settings: Settings, stack: AsyncExitStack) -> Sequence[httpx.AsyncClient]:
    """Open the clients of the API; raise ConfigError if variables of proxies or certificates are not usable."""
    # In a thread, because it loads the certificates of all authorities.
    clients = await asyncio.to_thread(_create_clients, settings)
    return [await stack.enter_async_context(client) for client in clients]


def _create_clients(settings: Settings) -> Sequence[httpx.AsyncClient]:
    """Return several clients for many workspaces: for each request httpcore looks at all connections of a client."""
    check_proxies()
    # A shard may begin without a workspace.
    count = max(1, math.ceil(len(settings.workspaces) / WORKSPACES_PER_CLIENT))
    verify, interval = certificate_context(), settings.poll.interval
    if verify is True and count > 1:
        verify = httpx.create_ssl_context()  # takes 20 ms and a megabyte
    create_client = partial(
        CookielessAsyncClient,
        verify=verify,
        follow_redirects=False,
        timeout=None,  # that of a request may change with a reload, and covers all of it
        # Keep connections open between two polls.
        limits=httpx.Limits(keepalive_expiry=min(2 * interval + settings.api.timeout, MAX_IDLE_SECONDS)),
        headers={"User-Agent": f"late-exporter/{__version__}"},
        # Plain http is for this machine only: a proxy would take the key to another one, unencrypted.
        mounts={"http://": None},
    )
    try:
        return [create_client() for _ in range(count)]
    except (ValueError, httpx.InvalidURL):
        raise ConfigError("HTTP_PROXY, HTTPS_PROXY, ALL_PROXY or NO_PROXY: is not usable") from None
