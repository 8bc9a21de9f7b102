"""Requests that are rejected, and the workspaces that a request asks for by its query."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from http import HTTPStatus
from urllib.parse import parse_qs

from late_exporter.errors import LateError
from late_exporter.web.asgi import Message

CHALLENGE = 'Basic realm="late-exporter", charset="UTF-8"'


class AccessError(LateError):
    """A request that is rejected, with the status, the text and the headers of the response."""

    def __init__(self, status: HTTPStatus, text: str = "", *headers: tuple[str, str]) -> None:
        super().__init__(text or status.phrase.lower())
        self.status, self.headers = status, headers


def unauthorized() -> AccessError:
    return AccessError(HTTPStatus.UNAUTHORIZED, "", ("www-authenticate", CHALLENGE))


def too_many_requests(retry_after: float) -> AccessError:
    return AccessError(
        HTTPStatus.TOO_MANY_REQUESTS, "", ("retry-after", str(math.ceil(retry_after)))
    )


def select_workspaces(
    scope: Message, existing: Callable[[], Collection[str]]
) -> Sequence[str] | None:
    """Return the workspaces whose metrics a request is about, sorted, or None if it is about everything.

    Args:
        scope: Request; its query may name workspaces with ``workspace``.
        existing: Returns the names of all workspaces.

    Raises:
        AccessError: One of them does not exist.
    """
    query = scope.get("query_string", b"").decode("latin-1")
    names = parse_qs(query, keep_blank_values=True).get("workspace")
    if names is None:
        return None
    if not {*names} <= {*existing()}:
        raise AccessError(HTTPStatus.NOT_FOUND, "unknown workspace")
    return sorted({*names})
