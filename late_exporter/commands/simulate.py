"""The commands ``simulate`` and ``demo``: a simulated API, alone or with an exporter."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import suppress
from functools import partial
from operator import methodcaller

from late_exporter import log
from late_exporter.commands.event_loop import Stop, run_until_stopped
from late_exporter.commands.output import write_line
from late_exporter.commands.run import serve_exporter
from late_exporter.config.sections import Incident, SimulateSettings
from late_exporter.config.settings import CommandContext
from late_exporter.config.types import Address
from late_exporter.errors import LateError
from late_exporter.simulator import SimulatedApi, SimulatedWorld
from late_exporter.web.server import serve
from late_exporter.web.sockets import bind_socket, url_of

KEY = "sk_" + "0123456789abcdef" * 4
INSTRUCTIONS = """\
{about}. In another terminal:

  export ZERNIO_API_KEY={key}
  export LATE_EXPORTER_API__BASE_URL={url}
  {steps}"""
DEMO_STEPS = (
    "late-exporter status",
    "late-exporter accounts",
    "late-exporter posts --failed --since 1h",
)
DEMO_INCIDENTS: tuple[Incident, ...] = ("platform-outage", "revoked-token")
DEMO_LEAD = 900.0  # seconds since the demo's incidents began, so that its first minute already shows something


def demo(context: CommandContext) -> int:
    return asyncio.run(run_until_stopped(partial(_run_demo, context)))


def simulate(context: CommandContext) -> int:
    with bind_socket(
        context.settings.simulate.listen_address, "--simulate.listen-address"
    ) as bound:
        return asyncio.run(run_until_stopped(lambda _: _serve_simulator(context, bound)))


async def _run_demo(context: CommandContext, stop: Stop) -> None:
    with _bind_demo_api(context.settings.simulate.listen_address) as bound:
        with_api = methodcaller("with_api", f"{url_of(bound)}/api", KEY)
        settings = with_api(context.settings)
        async with asyncio.TaskGroup() as group:
            group.create_task(_serve_simulator(context, bound, is_demo=True))
            group.create_task(
                serve_exporter(settings, lambda: with_api(context.reload_settings()), stop)
            )


def _bind_demo_api(address: Address) -> socket.socket:
    """Return a socket of an address, or of a free port: only the demo and its commands have to know which one."""
    try:
        return bind_socket(address)
    except LateError:
        return bind_socket(Address(address.host, 0))


async def _serve_simulator(
    context: CommandContext, bound: socket.socket, *, is_demo: bool = False
) -> None:
    options, lead = context.settings.simulate, 0.0
    if is_demo and not options.incident:
        options, lead = options.model_copy(update={"incident": DEMO_INCIDENTS}), DEMO_LEAD
    world = await asyncio.to_thread(_create_world, options, lead)
    api = SimulatedApi(
        world,
        clock=time.time,
        rate_limit=options.rate_limit,
        customer_rate=options.customer_rate,
        generation=context.flags.generation,
    )
    url = url_of(bound)
    log.get_logger("late_exporter").info(
        "simulating the Zernio API", address=url, logs=len(world.publishing.rows)
    )
    about = "It accepts any key of sk_ or zrk_ and 64 hexadecimal digits"
    steps = ["late-exporter check", "late-exporter run"]
    if is_demo:
        address = context.settings.web.listen_address[0]
        about = f"The status page is at {address}, the metrics at /metrics"
        steps = [f"export LATE_EXPORTER_WEB__LISTEN_ADDRESS={address}", *DEMO_STEPS]
    with suppress(OSError):  # No one has to read them.
        write_line(
            INSTRUCTIONS.format(about=about, key=KEY, url=f"{url}/api", steps="\n  ".join(steps))
        )
    await serve(api, [bound])


def _create_world(options: SimulateSettings, lead: float) -> SimulatedWorld:
    """Return a simulated world, in which the incidents began ``lead`` seconds ago."""
    start = time.time() - lead
    world = SimulatedWorld(
        options.seed, start, logs_per_day=options.logs_per_day, history=options.history
    )
    for incident in options.incident:
        world.start_incident(incident)
    world.advance(time.time())
    return world
