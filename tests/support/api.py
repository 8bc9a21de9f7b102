"""The real API client over the simulated API, without a network; a test can observe and disturb its requests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from email.utils import formatdate
from typing import TypeAlias

import httpx

from late_exporter.api.client import ApiKey, LateClient, NoCookies
from late_exporter.api.rate_limiter import RateLimiter
from late_exporter.simulator import SimulatedApi
from tests.support.client import ClientRequest
from tests.support.world import World

KEY = "sk_" + "0123456789abcdef" * 4

Fault: TypeAlias = Callable[[httpx.Request], httpx.Response | None]


def create_client(
    answer: Callable[[httpx.Request], httpx.Response]
    | Callable[[httpx.Request], Coroutine[None, None, httpx.Response]],
    *,
    monotonic: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    share: float = 1.0,
    key: ApiKey | None = None,
    timeout: float = 600.0,
) -> LateClient:
    """Return a client of an API whose responses a function gives."""
    return LateClient(
        httpx.AsyncClient(transport=httpx.MockTransport(answer), cookies=NoCookies()),
        base_url="https://zernio.com/api",
        key=key or ApiKey(KEY),
        rate_limiter=RateLimiter(share, monotonic=monotonic, sleep=sleep),
        timeout=timeout,
        monotonic=monotonic,
    )


class FakeHttpApi:
    """A client of a world's logs; ``before`` is called ahead of each request with its number."""

    def __init__(self, world: World, *, generation: str = "late") -> None:
        self.requests: list[ClientRequest] = []
        self.before: Callable[[int], object] = lambda _: None
        self.fault: Fault | None = None
        self.answer: bytes | None = None
        self._clock = world.clock
        self._service = SimulatedApi(world.archives, clock=world.clock.time, rate_limit=10**9, generation=generation)
        self.client = create_client(self._handle, monotonic=world.clock.monotonic, sleep=world.clock.sleep)

    def _handle(self, request: httpx.Request) -> httpx.Response:
        """Return the response as a stream, as from a network."""
        whole = self._answer(request)
        return httpx.Response(whole.status_code, headers=whole.headers, stream=httpx.ByteStream(whole.content))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.before(len(self.requests))
        self.requests.append(ClientRequest(request.url.path.removeprefix("/api"), dict(request.url.params)))
        if self.fault is not None and (response := self.fault(request)) is not None:
            return response
        if self.answer is not None:
            return httpx.Response(200, content=self.answer, headers={"Date": formatdate(self._clock.now, usegmt=True)})
        path, query = request.url.raw_path.decode().partition("?")[::2]
        answer = self._service.handle("GET", path, query, dict(request.headers))
        return httpx.Response(answer.status, content=answer.body, headers=answer.headers)
