"""An exporter of a simulated world, in virtual time and with default intervals, without processes and network."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from late_exporter.api.responses import ApiResponse
from late_exporter.health import Quota
from late_exporter.simulator import SimulatedApi, SimulatedWorld
from tests.support.client import FakeClient, QueryParams
from tests.support.clock import VirtualClock
from tests.support.exporter import ExporterHarness
from tests.support.late_api import KEY
from tests.support.settings import settings_of

FEEDS = ("publishing", "connections")
HEADERS = {"authorization": f"Bearer {KEY}", "user-agent": "late-exporter/1"}
RATE_LIMIT = 600


class SimulatedExporter(ExporterHarness):
    """An exporter of a simulated world.

    Args:
        world: World that the API shows.
        clock: Clock of the exporter and the API.
        options: Arguments of ExporterHarness.

    Attributes:
        customer_requests: Requests per minute that others send with the key.
    """

    customer_requests = 0

    def __init__(self, world: SimulatedWorld, clock: VirtualClock, *options: Any, **named_options: Any) -> None:
        self.world = world
        self._api = SimulatedApi(world, clock=clock.time, rate_limit=RATE_LIMIT, generation="zernio")
        super().__init__(
            FakeClient(self.respond, rate_limit=RATE_LIMIT),
            *options,
            clock=clock,
            feeds=FEEDS,
            generation="zernio",
            status={str(name): seconds for name, seconds in settings_of("run").status.intervals.items()},
            zero_hold=75.0,
            **named_options,
        )

    def respond(self, path: str, params: QueryParams) -> ApiResponse | None:
        """Return the response of the simulated API, or None if it is an error."""
        response = self._api.handle("GET", f"/api{path}", urlencode(params), HEADERS)
        self.apis["default"].quota = Quota(
            limit=RATE_LIMIT,
            remaining=int(response.headers["X-RateLimit-Remaining"]) - self.customer_requests,
            reset=float(response.headers["X-RateLimit-Reset"]),
            customer_requests=self.customer_requests,
        )
        return ApiResponse(response.body, self.clock.now) if response.status == 200 else None

    def poll_feeds(self) -> list[str]:
        """Poll each feed, refresh the status feeds that are due, and return the outcomes of the polls."""
        outcomes = [self.poll(feed=feed).outcome for feed in FEEDS]
        self.refresh_due_status()
        return outcomes
