"""Endpoints below ``/_simulator``, without a key: the state of the simulator, its incidents and its API generation."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from late_exporter.errors import ConfigError
from late_exporter.simulator.incidents import INCIDENTS, Incident
from late_exporter.simulator.log_list import JsonObject, timestamp
from late_exporter.simulator.request import Request, RequestRejected
from late_exporter.simulator.status_endpoints import world_of
from late_exporter.simulator.world import SimulatedWorld

GENERATIONS = ("late", "zernio", "both")
ADMIN_PATH = "/_simulator"
WELCOME_TEXT = f"""\
A simulated Zernio API: nothing here is real, no post leaves this process. Any well-formed key works.

  curl -H "Authorization: Bearer sk_$(printf '0%.0s' $(seq 64))" 'http://HOST/v1/logs?limit=5'

Show its state and the customer's refused calls, start and stop incidents (no key needed):

  curl http://HOST{ADMIN_PATH}
  curl -X POST 'http://HOST{ADMIN_PATH}/incidents/platform-outage?platform=instagram&duration=30m'
  curl -X DELETE http://HOST{ADMIN_PATH}/incidents/platform-outage
  curl -X POST 'http://HOST{ADMIN_PATH}/generation?name=late'    or zernio, or both

Incidents:
{"".join(f"  {name:18}{kind.description}{chr(10)}" for name, kind in INCIDENTS.items())}"""


def show_overview(request: Request) -> JsonObject:
    """Return the document of ``GET /_simulator``."""
    source, calls = request.source, request.api.customer_calls
    log_lists = {"publishing": source.publishing, "connections": source.connections, **source.activity}
    return {
        "generation": request.api.generation,
        "time": timestamp(request.now),
        "totals": {name: len(log_list) for name, log_list in log_lists.items()},
        "customer": {"rate": request.api.customer_rate, "calls": calls.total(), "refused": calls[False]},
        "incidents": _documents(source.incidents) if isinstance(source, SimulatedWorld) else [],
        "allowed": list(INCIDENTS),
    }


def set_generation(request: Request) -> JsonObject:
    """Switch to another generation, and return the document of ``POST /_simulator/generation``."""
    name = request.text("name")
    if name not in GENERATIONS:
        raise RequestRejected(HTTPStatus.BAD_REQUEST, f"Unknown generation: use one of {', '.join(GENERATIONS)}")
    request.api.generation = name
    return {"generation": name}


def start_incident(request: Request) -> JsonObject:
    """Start an incident, and return the document of ``POST /_simulator/incidents/{name}``."""
    world, platform, duration = world_of(request), request.text("platform"), request.duration("duration", "30m")
    try:
        world.start_incident(request.argument, platform=platform or None, duration=duration)
    except ConfigError as exc:
        raise RequestRejected(HTTPStatus.BAD_REQUEST, str(exc)) from exc
    return {"incidents": _documents(world.incidents)}


def stop_incident(request: Request) -> JsonObject:
    """Stop the incidents of a name, and return the document of ``DELETE /_simulator/incidents/{name}``."""
    return {"stopped": _documents(world_of(request).stop_incident(request.argument))}


def _documents(incidents: Sequence[Incident]) -> list[JsonObject]:
    return [{"name": each.name, "platform": each.platform, "until": timestamp(each.until)} for each in incidents]
