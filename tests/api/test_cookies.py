"""Cookies of the API."""

from __future__ import annotations

import httpx
import pytest

from late_exporter.api.client import NoCookies

COOKIES = ["session=of-another-key; Path=/", "name=日本"]
URL = "https://api.example/v1/logs"


class Server:
    """Server that sends a cookie, and records whether requests have one."""

    def __init__(self, cookie: str) -> None:
        self._cookie = cookie
        self.has_cookie: list[bool] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        self.has_cookie.append("Cookie" in request.headers)
        return httpx.Response(200, headers=[(b"Set-Cookie", self._cookie.encode())])


@pytest.mark.parametrize("cookie", COOKIES)
async def test_no_cookie_is_kept(cookie: str) -> None:
    """A cookie of a response is not in the next request, which may be that of another key."""
    server = Server(cookie)
    async with httpx.AsyncClient(transport=httpx.MockTransport(server.answer), cookies=NoCookies()) as client:
        for _ in range(2):
            await client.get(URL)
    assert [False, False] == server.has_cookie
