"""What people ask the simulator itself: how it goes, and to break something."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Protocol

import msgspec

from late_exporter.errors import ConfigError
from late_exporter.simulator.events import MINUTE, timestamp
from late_exporter.simulator.incidents import INCIDENTS, Incident
from late_exporter.simulator.log_list import Archive, Row
from late_exporter.simulator.query import Parameters, Refusal
from late_exporter.simulator.world import World

__all__ = ["Console", "Source", "welcome"]

PATH = "/_simulator"
WELCOME = f"""\
A simulated Late API: nothing here is real, no post leaves this process.

  KEY=sk_$(printf '0%.0s' $(seq 64))    any well-formed key will do, unless keys were given
  curl -H "Authorization: Bearer $KEY" 'http://HOST/v1/posts/logs?limit=5'
  curl -H "Authorization: Bearer $KEY" 'http://HOST/v1/connections/logs?limit=5'
  curl -H "Authorization: Bearer $KEY" 'http://HOST/v1/logs?limit=5'    in generation zernio

Look at it, and break something (no key needed):

  curl http://HOST{PATH}
  curl -X POST 'http://HOST{PATH}/incidents/platform-outage?platform=instagram&duration=30m'
  curl -X DELETE http://HOST{PATH}/incidents/platform-outage
  curl -X POST 'http://HOST{PATH}/generation?name=zernio'    or late, or both

Incidents:
{"".join(f"  {name:18}{kind.story}{chr(10)}" for name, kind in INCIDENTS.items())}"""


def welcome(host: str) -> bytes:
    """A page of plain text that says what this is and what to curl."""
    return WELCOME.replace("HOST", host or "localhost").encode()


class Source(Protocol):
    """Where the logs come from: a World, or bare archives; ``activity`` has those of the further types."""

    publishing: Archive
    connections: Archive
    activity: Mapping[str, Archive]

    def advance(self, now: float) -> None:
        """Let everything happen up to a Unix time."""


class Api(Protocol):
    """What of the API the console can change."""

    generation: str


class Console:
    """The endpoints below /_simulator; incidents need a World."""

    def __init__(self, source: Source, api: Api) -> None:
        self._source = source
        self._api = api

    def document(self, method: str, route: str, parameters: Parameters) -> Row:
        """Answer a request, or raise Refusal."""
        if route == PATH:
            if method != "GET":
                raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "Method not allowed")
            return self._overview()
        if route == f"{PATH}/generation":
            return self._generation(method, parameters)
        name = route.removeprefix(f"{PATH}/incidents/")
        if name == route or not isinstance(self._source, World):
            raise Refusal(HTTPStatus.NOT_FOUND, "Not found")
        if name not in INCIDENTS:
            raise Refusal(HTTPStatus.NOT_FOUND, f"Unknown incident {name!r}", details={"allowed": list(INCIDENTS)})
        if method == "POST":
            return _start(self._source, name, parameters)
        if method == "DELETE":
            return {"stopped": [_shown(incident) for incident in self._source.stop_incident(name)]}
        raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "Method not allowed")

    def _generation(self, method: str, parameters: Parameters) -> Row:
        if method not in ("GET", "POST"):
            raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "Method not allowed")
        if method == "POST":
            try:
                self._api.generation = parameters.text("name")
            except ConfigError as problem:
                raise Refusal(HTTPStatus.BAD_REQUEST, str(problem)) from problem
        return {"generation": self._api.generation}

    def _overview(self) -> Row:
        totals = {"publishing": len(self._source.publishing), "connections": len(self._source.connections)}
        overview: Row = {"generation": self._api.generation, "totals": totals, "allowed": list(INCIDENTS)}
        if isinstance(self._source, World):
            overview["time"] = timestamp(self._source.now)
            overview["incidents"] = [_shown(incident) for incident in self._source.incidents]
        return overview


def _start(world: World, name: str, parameters: Parameters) -> Row:
    duration = parameters.duration("duration", 30 * MINUTE)
    parameters.check()
    try:
        world.start_incident(name, platform=parameters.text("platform") or None, duration=duration)
    except ConfigError as problem:
        raise Refusal(HTTPStatus.BAD_REQUEST, str(problem)) from problem
    return {"incidents": [_shown(incident) for incident in world.incidents]}


def _shown(incident: Incident) -> Any:
    return {**msgspec.to_builtins(incident), "until": timestamp(incident.until)}
