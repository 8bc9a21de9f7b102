"""The status endpoints of a fake API, and a client of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeAlias

from late_exporter.api.responses import ApiResponse
from tests.support.client import FakeClient, QueryParams

Document: TypeAlias = dict[str, Any]

TIME = "2026-11-25T12:00:00Z"
SECONDS = 1_795_608_000.0
"""The same time in Unix seconds."""

HEALTH: Document = {
    "accountId": "acc1",
    "platform": "instagram",
    "username": "acme",
    "displayName": "Acme Inc.",
    "status": "warning",
    "canPost": True,
    "tokenValid": True,
    "tokenExpiresAt": TIME,
    "needsReconnect": False,
    "issues": ["a text"],
}
ACCOUNT: Document = {
    "_id": "acc1",
    "platform": "instagram",
    "profileId": {"_id": "p1", "name": "Acme"},
    "username": "acme",
    "isActive": True,
    "rateLimitedUntil": TIME,
}
WEBHOOK: Document = {
    "_id": "wh1",
    "name": "orders",
    "url": "https://hooks.example.com/in?token=urlsecret",
    "secret": "whsec_topsecret",
    "customHeaders": {"Authorization": "Basic headersecret"},
    "events": ["post.failed"],
    "isActive": True,
    "lastFiredAt": TIME,
    "failureCount": 3,
}
SECRETS = ("urlsecret", "topsecret", "headersecret", "hooks.example.com")
BILLING: Document = {
    "plan": {"name": "Usage", "isUsageBased": True},
    "status": {"hasAccess": True, "suspended": False, "suspensionReason": None},
    "caps": {"xSpendUsedCents": 250, "xSpendLimitCents": 1000},
}
USAGE: Document = {
    "limits": {"uploads": 100, "profiles": -1},
    "usage": {"uploads": 40, "profiles": 3, "connectedAccounts": 5},
    "hasAccess": True,
}


def post_list(status: str, total: int = 1, **fields: Any) -> Document:
    """Return a page of posts with a status."""
    post = {"_id": "p1", "content": "text", "status": status, "scheduledFor": TIME, **fields}
    posts = [{name: value for name, value in post.items() if value is not ...}] if total else []
    return {"posts": posts, "pagination": {"page": 1, "limit": 1, "total": total, "pages": total}}


def encode(document: object) -> bytes:
    return json.dumps(document).encode()


class StatusApi(FakeClient):
    """Client of an API whose status endpoints respond with documents, or fail.

    Attributes:
        documents: Response by path; an exception is raised, None is a 404, a function gets the parameters.
    """

    def __init__(self, *, rate_limit: int = 60_000) -> None:
        super().__init__(self._respond, rate_limit=rate_limit)
        self.documents: dict[str, object] = {
            "/v1/posts": lambda params: post_list(str(params["status"])),
            "/v1/accounts/health": {"summary": {"total": 1}, "accounts": [HEALTH]},
            "/v1/accounts": {"accounts": [ACCOUNT], "pagination": {"limit": 100, "nextCursor": None}},
            "/v1/webhooks/settings": {"webhooks": [WEBHOOK]},
            "/v1/billing": BILLING,
            "/v1/usage": USAGE,
        }
        self.before_request: Callable[[], object] = lambda: None

    @property
    def paths(self) -> Counter[str]:
        """Number of requests by path."""
        return Counter(request.path for request in self.requests)

    def document(self, path: str, params: QueryParams) -> object:
        """Return the document of a response; None is a 404."""
        document = self.documents[path]
        return document(params) if callable(document) else document

    def _respond(self, path: str, params: QueryParams) -> ApiResponse | None:
        self.before_request()
        document = self.document(path, params)
        if isinstance(document, Exception):
            raise document
        return None if document is None else ApiResponse(encode(document), None)
