"""Which workspaces a request may see, by its user, and which it asks for, by its query."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from http import HTTPStatus
from urllib.parse import parse_qs

from late_exporter.errors import LateError
from late_exporter.web.asgi import Message

ALLOWED_WORKSPACES = "late_exporter.workspaces"
"""Key of an ASGI scope with the names of the workspaces that a request may see; without it, that is all of them."""

CHALLENGE = 'Basic realm="late-exporter", charset="UTF-8"'


class AccessError(LateError):
    """A request that is rejected, with the status, the text and the headers of the response."""

    def __init__(self, status: HTTPStatus, text: str = "", *headers: tuple[str, str]) -> None:
        super().__init__(text or status.phrase.lower())
        self.status, self.headers = status, headers


def unauthorized() -> AccessError:
    return AccessError(HTTPStatus.UNAUTHORIZED, "", ("www-authenticate", CHALLENGE))


def too_many_requests(retry_after: float) -> AccessError:
    return AccessError(HTTPStatus.TOO_MANY_REQUESTS, "", ("retry-after", str(math.ceil(retry_after))))


def allowed_workspaces(scope: Message) -> Collection[str] | None:
    """Return the workspaces that a request may see, or None if it may see everything."""
    allowed: Collection[str] | None = scope.get(ALLOWED_WORKSPACES)
    return allowed


def require_access(scope: Message, workspace: str | None = None) -> None:
    """Raise AccessError unless a request may see a workspace, which need not exist, or without one everything."""
    allowed = allowed_workspaces(scope)
    if allowed is not None and workspace not in allowed:
        raise AccessError(HTTPStatus.FORBIDDEN, "not allowed for a user who is bound to workspaces")


def select_workspaces(scope: Message, existing: Callable[[], Collection[str]]) -> Sequence[str] | None:
    """Return the workspaces whose metrics a request is about, sorted, or None if it is about everything.

    Args:
        scope: Request; its query may name workspaces with ``workspace``.
        existing: Returns the names of all workspaces.

    Raises:
        AccessError: The user may not see one of them, or one does not exist. Users who are bound to workspaces do not
            learn whether another one exists.
    """
    query = scope.get("query_string", b"").decode("latin-1")
    names = parse_qs(query, keep_blank_values=True).get("workspace")
    allowed = allowed_workspaces(scope)
    if names is None:
        return None if allowed is None else sorted(allowed)
    for name in names:
        require_access(scope, name)
    if not {*names} <= {*existing()}:
        raise AccessError(HTTPStatus.NOT_FOUND, "unknown workspace")
    return sorted({*names})
