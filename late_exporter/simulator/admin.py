"""Endpoints below ``/_simulator``, without a key: the state of the simulator and its incidents."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from late_exporter.errors import ConfigError
from late_exporter.simulator.incidents import INCIDENTS, Incident
from late_exporter.simulator.log_list import DAY, JsonObject, timestamp
from late_exporter.simulator.request import Request, RequestRejected
from late_exporter.simulator.status_endpoints import world_of

ADMIN_PATH, MAX_SECONDS = "/_simulator", int(365 * DAY)
WELCOME_TEXT = f"""\
A simulated Zernio API: nothing here is real, no post leaves this process. Any well-formed key works.

  curl -H "Authorization: Bearer sk_$(printf '0%.0s' $(seq 64))" 'http://HOST/v1/logs?limit=5'

Show its state and the customer's refused calls, start and stop incidents (no key needed):

  curl http://HOST{ADMIN_PATH}
  curl -X POST 'http://HOST{ADMIN_PATH}/incidents/platform-outage?platform=instagram&seconds=1800'
  curl -X DELETE http://HOST{ADMIN_PATH}/incidents/platform-outage

Incidents:
{"".join(f"  {name:18}{kind.description}{chr(10)}" for name, kind in INCIDENTS.items())}"""


def show_overview(request: Request) -> JsonObject:
    """Return the document of ``GET /_simulator``."""
    calls = request.api.customer_calls
    customer = {"rate": request.api.customer_rate, "calls": calls.total(), "refused": calls[False]}
    return {"customer": customer, "incidents": _documents(world_of(request).incidents)}


def start_incident(request: Request) -> JsonObject:
    """Start an incident, and return the document of ``POST /_simulator/incidents/{name}``."""
    world, platform = world_of(request), request.text("platform")
    duration = float(request.integer("seconds", 1800, 1, MAX_SECONDS))
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
