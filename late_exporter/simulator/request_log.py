"""Logs of the API requests that the simulator answers, type ``api_request`` of generation ``zernio``."""

from __future__ import annotations

from typing import Any

import msgspec

from late_exporter.simulator.accounts import hashed_id
from late_exporter.simulator.events import timestamp
from late_exporter.simulator.log_list import LogRow

FIRST_ERROR_STATUS = 400
ANSWER_MILLISECONDS = 12
CUSTOMER_AGENT = "newsroom-cms/4.2"
CUSTOMER_ADDRESS = "203.0.113.77"


class ApiRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request to the API with a valid key."""

    key: str
    method: str
    path: str
    request_id: str
    ip_address: str
    user_agent: str
    profile_id: str | None = None


def key_id(key: str) -> str:
    """Return the id of an API key."""
    return hashed_id(f"key {key}")


def request_row(request: ApiRequest, status_code: int, error: str | None, time: float) -> LogRow:
    """Return the log of a request at a Unix time, as the simulated world stores logs of this type."""
    metadata: Any = {"profileId": request.profile_id} if request.profile_id else None
    return {
        "type": "api_request",
        "action": f"{request.method} {request.path}",
        "user_id": hashed_id(f"owner of {key_id(request.key)}"),
        "status": "success" if status_code < FIRST_ERROR_STATUS else "failed",
        "status_code": status_code,
        "error_message": error,
        "duration_ms": ANSWER_MILLISECONDS,
        "endpoint": request.path,
        "created_at": timestamp(time),
        "metadata": metadata and msgspec.json.encode(metadata).decode(),
        "request_id": request.request_id,
        "api_key_id": key_id(request.key),
        "method": request.method,
        "path": request.path,
        "ip_address": request.ip_address,
        "user_agent": request.user_agent,
        "profileId": request.profile_id,
    }
