"""API keys: their format, and the rights of restricted ones."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from http import HTTPStatus

from late_exporter.simulator.query import RequestRejected

BEARER_HEADER = re.compile(r"Bearer (\S+)")
KEY_PATTERN = re.compile(r"(?:sk|zrk)_[0-9a-f]{64}")
RESTRICTED_PREFIX = "zrk_"

RESOURCE_GROUPS: Mapping[str, str] = {
    "/v1/logs": "publishing",
    "/v1/posts": "publishing",
    "/v1/accounts": "accounts",
    "/v1/accounts/health": "accounts",
    "/v1/webhooks/settings": "webhooks",
    "/v1/billing": "billing",
}
"""Resource groups of the documented paths. The lists of generation ``late`` have none."""


class AccessControl:
    """Accepted keys and their rights.

    Args:
        keys: Accepted API keys; None for every well-formed key.
        resource_groups: Resource groups that restricted keys have; None for all.
    """

    def __init__(self, keys: Collection[str] | None, resource_groups: Collection[str] | None) -> None:
        self._keys = keys
        self._resource_groups = resource_groups

    def authenticate(self, authorization: str) -> str:
        """Return the key of an Authorization header, or raise RequestRejected."""
        bearer = BEARER_HEADER.fullmatch(authorization)
        key = bearer[1] if bearer else ""
        if not (KEY_PATTERN.fullmatch(key) if self._keys is None else key in self._keys):
            raise RequestRejected(HTTPStatus.UNAUTHORIZED)
        return key

    def authorize(self, key: str, route: str) -> None:
        """Raise RequestRejected if a restricted key lacks the right to a path."""
        if not key.startswith(RESTRICTED_PREFIX):
            return
        group = RESOURCE_GROUPS.get(route)
        if group is None:
            raise RequestRejected(
                HTTPStatus.FORBIDDEN, "Restricted API keys cannot use this endpoint", code="unclassified_resource"
            )
        if self._resource_groups is not None and group not in self._resource_groups:
            error = f"This API key has no access to the resource group {group}"
            raise RequestRejected(HTTPStatus.FORBIDDEN, error, code="insufficient_permissions", required_group=group)
