"""What people ask the simulator itself: how it goes, and to break something."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Protocol

import msgspec

from late_exporter.errors import ConfigError
from late_exporter.simulator.events import MINUTE, timestamp
from late_exporter.simulator.incidents import INCIDENTS, Incident
from late_exporter.simulator.log_list import LogList, LogRow
from late_exporter.simulator.query import QueryParameters, RequestRejected
from late_exporter.simulator.world import SimulatedWorld

__all__ = ["AdminEndpoints", "LogSource", "welcome_page"]

ADMIN_PATH = "/_simulator"
WELCOME_TEXT = f"""\
A simulated Late API: nothing here is real, no post leaves this process.

  KEY=sk_$(printf '0%.0s' $(seq 64))    any well-formed key will do, unless keys were given
  curl -H "Authorization: Bearer $KEY" 'http://HOST/v1/posts/logs?limit=5'
  curl -H "Authorization: Bearer $KEY" 'http://HOST/v1/connections/logs?limit=5'
  curl -H "Authorization: Bearer $KEY" 'http://HOST/v1/logs?limit=5'    in generation zernio

Look at it, and break something (no key needed):

  curl http://HOST{ADMIN_PATH}
  curl -X POST 'http://HOST{ADMIN_PATH}/incidents/platform-outage?platform=instagram&duration=30m'
  curl -X DELETE http://HOST{ADMIN_PATH}/incidents/platform-outage
  curl -X POST 'http://HOST{ADMIN_PATH}/generation?name=zernio'    or late, or both

Incidents:
{"".join(f"  {name:18}{kind.description}{chr(10)}" for name, kind in INCIDENTS.items())}"""


def welcome_page(host: str) -> bytes:
    """A page of plain text that says what this is and what to curl."""
    return WELCOME_TEXT.replace("HOST", host or "localhost").encode()


class LogSource(Protocol):
    """Where the logs come from: a World, or bare archives; ``activity`` has those of the further types."""

    publishing: LogList
    connections: LogList
    activity: Mapping[str, LogList]

    def advance(self, now: float) -> None:
        """Let everything happen up to a Unix time."""


class Api(Protocol):
    """What of the API the console can change."""

    generation: str


class AdminEndpoints:
    """The endpoints below /_simulator; incidents need a World."""

    def __init__(self, source: LogSource, api: Api) -> None:
        self._source = source
        self._api = api

    def handle(self, method: str, route: str, parameters: QueryParameters) -> LogRow:
        """Answer a request, or raise Refusal."""
        if route == ADMIN_PATH:
            if method != "GET":
                raise RequestRejected(HTTPStatus.METHOD_NOT_ALLOWED, "Method not allowed")
            return self._overview()
        if route == f"{ADMIN_PATH}/generation":
            return self._generation(method, parameters)
        name = route.removeprefix(f"{ADMIN_PATH}/incidents/")
        if name == route or not isinstance(self._source, SimulatedWorld):
            raise RequestRejected(HTTPStatus.NOT_FOUND, "Not found")
        if name not in INCIDENTS:
            raise RequestRejected(
                HTTPStatus.NOT_FOUND, f"Unknown incident {name!r}", details={"allowed": list(INCIDENTS)}
            )
        if method == "POST":
            return _start_incident(self._source, name, parameters)
        if method == "DELETE":
            return {"stopped": [_incident_document(incident) for incident in self._source.stop_incident(name)]}
        raise RequestRejected(HTTPStatus.METHOD_NOT_ALLOWED, "Method not allowed")

    def _generation(self, method: str, parameters: QueryParameters) -> LogRow:
        if method not in ("GET", "POST"):
            raise RequestRejected(HTTPStatus.METHOD_NOT_ALLOWED, "Method not allowed")
        if method == "POST":
            try:
                self._api.generation = parameters.text("name")
            except ConfigError as problem:
                raise RequestRejected(HTTPStatus.BAD_REQUEST, str(problem)) from problem
        return {"generation": self._api.generation}

    def _overview(self) -> LogRow:
        totals = {"publishing": len(self._source.publishing), "connections": len(self._source.connections)}
        overview: LogRow = {"generation": self._api.generation, "totals": totals, "allowed": list(INCIDENTS)}
        if isinstance(self._source, SimulatedWorld):
            overview["time"] = timestamp(self._source.now)
            overview["incidents"] = [_incident_document(incident) for incident in self._source.incidents]
        return overview


def _start_incident(world: SimulatedWorld, name: str, parameters: QueryParameters) -> LogRow:
    duration = parameters.duration("duration", 30 * MINUTE)
    parameters.raise_errors()
    try:
        world.start_incident(name, platform=parameters.text("platform") or None, duration=duration)
    except ConfigError as problem:
        raise RequestRejected(HTTPStatus.BAD_REQUEST, str(problem)) from problem
    return {"incidents": [_incident_document(incident) for incident in world.incidents]}


def _incident_document(incident: Incident) -> Any:
    return {**msgspec.to_builtins(incident), "until": timestamp(incident.until)}
