"""A cookie jar for HTTP clients that several API keys share."""

from __future__ import annotations

from http.cookiejar import CookieJar
from typing import Any


class EmptyCookieJar(CookieJar):
    """A cookie jar that stays empty, so that no cookie of a response is sent with another key."""

    def extract_cookies(self, response: Any, request: Any) -> None:
        """Ignore the cookies of a response."""
