"""Admin endpoints of the simulator: its state, incidents, and the API generation."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Protocol

import msgspec

from late_exporter.errors import ConfigError
from late_exporter.simulator.customer import CustomerTraffic
from late_exporter.simulator.events import MINUTE, timestamp
from late_exporter.simulator.incidents import INCIDENTS, Incident
from late_exporter.simulator.log_list import JsonObject, LogList
from late_exporter.simulator.query import QueryParameters, RequestRejected
from late_exporter.simulator.world import SimulatedWorld

GENERATIONS = ("late", "zernio", "both")
ADMIN_PATH = "/_simulator"
WELCOME_TEXT = f"""\
A simulated Zernio API: nothing here is real, no post leaves this process.

  KEY=sk_$(printf '0%.0s' $(seq 64))    any well-formed key works, also one with zrk_
  curl -H "Authorization: Bearer $KEY" 'http://HOST/v1/logs?limit=5'
  curl -H "Authorization: Bearer $KEY" 'http://HOST/v1/logs?type=connections&limit=5'
  curl -H "Authorization: Bearer $KEY" 'http://HOST/v1/posts?status=scheduled&limit=1'

Further endpoints: /v1/accounts, /v1/accounts/health, /v1/webhooks/settings and /v1/billing; in generation late
/v1/posts/logs and /v1/connections/logs instead of /v1/logs.

Show its state and the customer's refused calls, start and stop incidents (no key needed):

  curl http://HOST{ADMIN_PATH}
  curl -X POST 'http://HOST{ADMIN_PATH}/incidents/platform-outage?platform=instagram&duration=30m'
  curl -X DELETE http://HOST{ADMIN_PATH}/incidents/platform-outage
  curl -X POST 'http://HOST{ADMIN_PATH}/generation?name=late'    or zernio, or both

Incidents:
{"".join(f"  {name:18}{kind.description}{chr(10)}" for name, kind in INCIDENTS.items())}"""


def welcome_page(host: str) -> bytes:
    """Return the start page, plain text with curl commands to try."""
    return WELCOME_TEXT.replace("HOST", host or "localhost").encode()


class LogSource(Protocol):
    """Source of logs: a SimulatedWorld or StaticLogs. ``activity`` is empty without the types of ``zernio``."""

    publishing: LogList
    connections: LogList
    activity: Mapping[str, LogList]

    def advance(self, now: float) -> None:
        """Advance to a Unix time."""


class AdminEndpoints:
    """Endpoints below /_simulator. Incidents need a SimulatedWorld as source."""

    def __init__(self, source: LogSource, generation: str, customer: CustomerTraffic) -> None:
        self._source = source
        self._customer = customer
        self.set_generation(generation)

    def set_generation(self, name: str) -> None:
        """Set the API generation to serve. Raise ConfigError if it is unknown."""
        if name not in GENERATIONS:
            raise ConfigError(f"unknown generation {name!r}: use one of {', '.join(GENERATIONS)}")
        self.generation = name

    def handle(self, method: str, route: str, parameters: QueryParameters) -> JsonObject:
        """Return the response document of a request, or raise RequestRejected."""
        if route == ADMIN_PATH:
            if method != "GET":
                raise RequestRejected(HTTPStatus.METHOD_NOT_ALLOWED)
            return self._overview()
        if route == f"{ADMIN_PATH}/generation":
            return self._generation(method, parameters)
        name = route.removeprefix(f"{ADMIN_PATH}/incidents/")
        if name == route or not isinstance(self._source, SimulatedWorld):
            raise RequestRejected(HTTPStatus.NOT_FOUND)
        if name not in INCIDENTS:
            details = {"allowed": list(INCIDENTS)}
            raise RequestRejected(HTTPStatus.NOT_FOUND, f"Unknown incident {name!r}", details=details)
        if method == "POST":
            return _start_incident(self._source, name, parameters)
        if method == "DELETE":
            return {"stopped": [_incident_document(incident) for incident in self._source.stop_incident(name)]}
        raise RequestRejected(HTTPStatus.METHOD_NOT_ALLOWED)

    def _generation(self, method: str, parameters: QueryParameters) -> JsonObject:
        if method not in ("GET", "POST"):
            raise RequestRejected(HTTPStatus.METHOD_NOT_ALLOWED)
        if method == "POST":
            try:
                self.set_generation(parameters.text("name"))
            except ConfigError as exc:
                raise RequestRejected(HTTPStatus.BAD_REQUEST, str(exc)) from exc
        return {"generation": self.generation}

    def _overview(self) -> JsonObject:
        source, customer = self._source, self._customer
        log_lists = {"publishing": source.publishing, "connections": source.connections, **source.activity}
        overview: JsonObject = {
            "generation": self.generation,
            "totals": {name: len(log_list) for name, log_list in log_lists.items()},
            "customer": {"rate": customer.rate, "calls": customer.call_count, "refused": customer.refusal_count},
            "allowed": list(INCIDENTS),
        }
        if isinstance(self._source, SimulatedWorld):
            overview["time"] = timestamp(self._source.now)
            overview["incidents"] = [_incident_document(incident) for incident in self._source.incidents]
        return overview


def _start_incident(world: SimulatedWorld, name: str, parameters: QueryParameters) -> JsonObject:
    parameters.reject_unknown(("platform", "duration"))
    duration = parameters.duration("duration", 30 * MINUTE)
    parameters.raise_errors()
    try:
        world.start_incident(name, platform=parameters.text("platform") or None, duration=duration)
    except ConfigError as exc:
        raise RequestRejected(HTTPStatus.BAD_REQUEST, str(exc)) from exc
    return {"incidents": [_incident_document(incident) for incident in world.incidents]}


def _incident_document(incident: Incident) -> Any:
    times = {"since": timestamp(incident.since), "until": timestamp(incident.until)}
    return {**msgspec.to_builtins(incident), **times}
