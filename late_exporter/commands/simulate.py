"""The commands ``simulate`` and ``demo``: a simulated API, alone or with an exporter."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from late_exporter import log
from late_exporter.commands.event_loop import Stop, run_until_stopped
from late_exporter.commands.exporter_client import LOOPBACK
from late_exporter.commands.output import write_line
from late_exporter.commands.run import serve_exporter
from late_exporter.config.sections import Incident, SimulateSettings
from late_exporter.config.settings import CommandContext
from late_exporter.config.types import Address
from late_exporter.simulator import SimulatedApi, SimulatedWorld, simulate_world
from late_exporter.simulator.profiles import PROFILES
from late_exporter.web.server import bind_socket, serve, url_of

LISTEN_FLAG = "--simulate.listen-address"
KEY = "sk_" + "0123456789abcdef" * 4
INSTRUCTIONS = """\
{about}. In another terminal:

  export ZERNIO_API_KEY={key}
  export LATE_EXPORTER_API__BASE_URL={url}
  {steps}"""
SIMULATOR_STEPS = ("{program} check", "{program} run")
DEMO_STEPS = (
    "export LATE_EXPORTER_WEB__LISTEN_ADDRESS={address}",
    "{program} status",
    "{program} accounts",
    "{program} posts --failed --since 1h",
)
DEMO_INCIDENTS: tuple[Incident, ...] = ("platform-outage", "revoked-token")
DEMO_LEAD = 900.0
"""Seconds since the demo's incidents began, so that its first minute already shows something."""


def simulate(context: CommandContext) -> int:
    listen_address = context.settings.simulate.listen_address
    with bind_socket(listen_address, LISTEN_FLAG) as bound:
        about = "It accepts any key of sk_ or zrk_ and 64 hexadecimal digits"
        instructions = _instructions(about, f"{url_of(bound)}/api", SIMULATOR_STEPS)
        options = context.settings.simulate
        return asyncio.run(
            run_until_stopped(lambda _: _serve_simulator(context, options, bound, instructions))
        )


def demo(context: CommandContext) -> int:
    return asyncio.run(run_until_stopped(partial(_run_demo, context)))


async def _run_demo(context: CommandContext, stop: Stop) -> None:
    options = context.settings.simulate
    lead = 0.0
    if not options.incident and not options.profile:
        options = options.model_copy(update={"incident": DEMO_INCIDENTS})
        lead = DEMO_LEAD

    with bind_socket(options.listen_address, LISTEN_FLAG) as bound:
        url = f"{url_of(bound)}/api"
        defaults = {"api.base-url": url, "api.key": KEY, "state.url": "sqlite://"}
        load_settings = partial(context.reload_settings, defaults=defaults)
        settings = load_settings()
        address = settings.web.listen_address[0]
        page = Address(LOOPBACK.get(address.host, address.host), address.port)
        about = f"The status page is at http://{page}/, the metrics at /metrics"
        instructions = _instructions(about, url, DEMO_STEPS, address=str(address))
        async with asyncio.TaskGroup() as group:
            serving = _serve_simulator(context, options, bound, instructions, lead=lead)
            group.create_task(serving)
            group.create_task(serve_exporter(settings, load_settings, stop))


def _instructions(about: str, url: str, steps: Sequence[str], *, address: str = "") -> str:
    """Return what to do in another terminal."""
    program = sys.argv[0]
    if Path(program).name != "late-exporter":
        program = f"{sys.executable} -m late_exporter"
    lines = [step.format(program=program, address=address) for step in steps]
    return INSTRUCTIONS.format(about=about, key=KEY, url=url, steps="\n  ".join(lines))


async def _serve_simulator(
    context: CommandContext,
    options: SimulateSettings,
    bound: socket.socket,
    instructions: str,
    *,
    lead: float = 0.0,
) -> None:
    """Serve the simulated API; its incidents began ``lead`` seconds ago."""
    world = await asyncio.to_thread(_create_world, options, lead)
    api = SimulatedApi(
        world,
        clock=time.time,
        rate_limit=options.rate_limit,
        customer_rate=options.customer_rate,
        generation=context.flags.generation,
    )
    log.get_logger("late_exporter").info(
        "simulating the Zernio API", address=url_of(bound), logs=len(world.publishing.rows)
    )
    with suppress(OSError):  # No one has to read them.
        write_line(instructions)
    await serve(api, [bound])


def _create_world(options: SimulateSettings, lead: float) -> SimulatedWorld:
    start = time.time() - lead
    profile = PROFILES[options.profile] if options.profile else None
    world = simulate_world(
        options.seed,
        start,
        logs_per_day=options.logs_per_day,
        history=options.history,
        profile=profile,
    )
    for incident in options.incident:
        world.start_incident(incident)
    world.advance(time.time())
    return world
