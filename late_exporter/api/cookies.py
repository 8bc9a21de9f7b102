"""An HTTP client that keeps no cookies."""

from __future__ import annotations

import httpx


class _NoCookies(httpx.Cookies):
    """Cookies that stay empty."""

    def extract_cookies(self, response: httpx.Response) -> None:
        """Ignore the cookies of a response."""


_NO_COOKIES = _NoCookies()


class CookielessAsyncClient(httpx.AsyncClient):
    """A client that several API keys can share: no cookie of a response is sent with another key."""

    cookies = property(lambda _self: _NO_COOKIES)
