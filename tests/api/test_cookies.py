"""Cookies of the API."""

from __future__ import annotations

import httpx
import pytest

from late_exporter.api.cookies import EmptyCookieJar


@pytest.mark.parametrize("cookie", ["session=of-another-key; Path=/", "name=日本"])
async def test_no_cookie_is_kept(cookie: str) -> None:
    """A cookie of a response is not in the next request, which may be that of another key."""
    requests = list[httpx.Request]()

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, headers=[(b"Set-Cookie", cookie.encode())])

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), cookies=EmptyCookieJar()) as client:
        for _ in range(2):
            await client.get("https://api.example/v1/logs")
    assert ["Cookie" in request.headers for request in requests] == [False, False]
