"""Endpoints below ``/_simulator``, without a key: the state of the simulator and its incidents."""

from __future__ import annotations

from http import HTTPStatus

from late_exporter.errors import ConfigError
from late_exporter.simulator.incidents import INCIDENTS
from late_exporter.simulator.log_list import DAY, JsonObject, timestamp
from late_exporter.simulator.request import Request, RequestRejected

ADMIN_PATH = "/_simulator"
MAX_SECONDS = int(365 * DAY)


def show_overview(request: Request) -> JsonObject:
    """Return the document of ``GET /_simulator``."""
    incidents = request.world.incidents
    active = [
        {"name": i.kind.name, "accounts": len(i.accounts), "until": timestamp(i.until)}
        for i in incidents
    ]
    known = {name: kind.description for name, kind in INCIDENTS.items()}
    return {"incidents": active, "known": known}


def start_incident(request: Request, name: str) -> JsonObject:
    """Start the incident of ``POST /_simulator/incidents/{name}``, and return the overview."""
    duration = float(request.integer("seconds", 1800, 1, MAX_SECONDS))
    try:
        request.world.start_incident(
            name, platform=request.text("platform") or None, duration=duration
        )
    except ConfigError as exc:
        raise RequestRejected(HTTPStatus.BAD_REQUEST, str(exc)) from exc
    return show_overview(request)


def stop_incident(request: Request, name: str) -> JsonObject:
    """Stop the incidents of ``DELETE /_simulator/incidents/{name}``, and return the overview."""
    request.world.stop_incident(name)
    return show_overview(request)
