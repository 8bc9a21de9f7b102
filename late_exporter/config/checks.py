"""Options that contradict each other, or need each other."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from typing import TypeAlias

from late_exporter.config.command_groups import API_COMMANDS, FORMATS
from late_exporter.config.options import Location
from late_exporter.config.quoting import quote
from late_exporter.config.settings import Settings

DAY = 86_400.0
MAX_SIMULATED_LOGS = 2_000_000  # at startup; they take two minutes and 4 GB of memory
NO_KEY = (
    "no API key: set LATE_API_KEY or ZERNIO_API_KEY, or name a file that holds it with LATE_API_KEY_FILE or "
    "--api.key-file, or list workspaces in --config.file; the demo command needs no key"
)

Place: TypeAlias = Callable[..., str]  # flag, variable, or file and line of a value


def check_keys(
    command: str, locations: Container[Location], place: Place, *, is_broken: bool
) -> Iterator[str]:
    """Yield too many or too few API keys; a configuration file that is broken may hold one."""
    keys = [place(*path) for path in (("api", "key"), ("api", "key_file")) if path in locations]
    if ("workspaces",) in locations:
        workspaces = place("workspaces")
        yield from (
            f"{key}: drop it, each workspace in {workspaces} has its own api_key_file"
            for key in keys
        )
        if ("api", "profile_id") in locations:
            yield f"{place('api', 'profile_id')}: drop it, workspaces in {workspaces} have their own"
    elif len(keys) > 1:
        yield f"{' and '.join(keys)}: two keys are given; drop one of them"
    elif not keys and command in API_COMMANDS and not is_broken:
        yield NO_KEY


def check_settings(command: str, settings: Settings, place: Place) -> Iterator[str]:
    """Yield the mistakes in valid options of a command that do not go together."""
    name, formats = settings.flags.format, FORMATS.get(command)
    if formats and name not in formats:
        yield f"--format{quote(name)}: must be one of {', '.join(formats)}"
    yield from _check_replicas(settings, place)
    count = settings.simulate.logs_per_day * settings.simulate.history / DAY
    if count > MAX_SIMULATED_LOGS:
        yield (
            f"--simulate.logs-per-day and --simulate.history: these are {count:,.0f} logs at startup; reduce one of "
            f"them, at most {MAX_SIMULATED_LOGS:,} are possible"
        )


def _check_replicas(settings: Settings, place: Place) -> Iterator[str]:
    if settings.state.replicas and not settings.state.url.startswith("postgresql://"):
        replicas = f"{place('state', 'replicas')}{quote('true')}"
        remedy = "name its database with --state.url postgresql://user@host/database"
        yield f"{replicas}: replicas share a state in PostgreSQL; {remedy}"
