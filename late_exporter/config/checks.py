"""Options that contradict each other, or need each other."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from typing import TypeAlias

from late_exporter.config.command_groups import API_COMMANDS, FORMATS, SERVER_COMMANDS
from late_exporter.config.options import Location, suggest
from late_exporter.config.quoting import quote
from late_exporter.config.settings import Settings
from late_exporter.config.sharding import pod_name, pod_ordinal

DAY = 86_400.0
MAX_SIMULATED_LOGS = 2_000_000  # at startup; they take two minutes and 4 GB of memory
NO_KEY = (
    "no API key: set LATE_API_KEY or ZERNIO_API_KEY, or name a file that holds it with LATE_API_KEY_FILE or "
    "--api.key-file, or list workspaces in --config.file; the demo command needs no key"
)

Place: TypeAlias = Callable[..., str]  # flag, variable, or file and line of a value


def check_keys(command: str, locations: Container[Location], place: Place, *, is_broken: bool) -> Iterator[str]:
    """Yield too many or too few API keys; a configuration file that is broken may hold one."""
    keys = [place(*path) for path in (("api", "key"), ("api", "key_file")) if path in locations]
    if ("workspaces",) in locations:
        workspaces = place("workspaces")
        yield from (f"{key}: drop it, each workspace in {workspaces} has its own api_key_file" for key in keys)
        if ("api", "profile_id") in locations:
            yield f"{place('api', 'profile_id')}: drop it, workspaces in {workspaces} have their own"
    elif len(keys) > 1:
        yield f"{' and '.join(keys)}: two keys are given; drop one of them"
    elif not keys and command in API_COMMANDS and not is_broken:
        yield NO_KEY


def with_shard(settings: Settings, environ: Mapping[str, str]) -> Settings:
    """Return the settings with the shard that follows from the name of the pod, if none is set."""
    sharding = settings.sharding
    if sharding.shard is not None or sharding.total_shards == 1:
        return settings
    ordinal = pod_ordinal(pod_name(environ))
    return settings.model_copy(update={"sharding": sharding.model_copy(update={"shard": ordinal})})


def check_settings(
    command: str, settings: Settings, locations: Container[Location], place: Place, environ: Mapping[str, str]
) -> Iterator[str]:
    """Yield the mistakes in valid options of a command that do not go together."""
    name, formats = settings.flags.format, FORMATS.get(command)
    if formats and name not in formats:
        yield f"--format{quote(name)}: must be one of {', '.join(formats)}"
    yield from _check_replicas(settings, place)
    yield from _check_shard(settings, locations, place, environ)
    if command in SERVER_COMMANDS:
        yield from _check_users(settings, place)
    count = settings.simulate.logs_per_day * settings.simulate.history / DAY
    if count > MAX_SIMULATED_LOGS:
        yield (
            f"--simulate.logs-per-day and --simulate.history: these are {count:,.0f} logs at startup; reduce one of "
            f"them, at most {MAX_SIMULATED_LOGS:,} are possible"
        )


def _check_replicas(settings: Settings, place: Place) -> Iterator[str]:
    if not settings.state.replicas:
        return
    replicas, total = f"{place('state', 'replicas')}{quote('true')}", settings.sharding.total_shards
    if not settings.state.url.startswith("postgresql://"):
        remedy = "name its database with --state.url postgresql://user@host/database"
        yield f"{replicas}: replicas share a state in PostgreSQL; {remedy}"
    if total > 1:
        other = f"{place('sharding', 'total_shards')}{quote(str(total))}"
        yield f"{replicas}: replicas share all workspaces, and shards have a state each; drop it, or drop {other}"


def _check_shard(
    settings: Settings, locations: Container[Location], place: Place, environ: Mapping[str, str]
) -> Iterator[str]:
    shard, total = settings.sharding.shard, settings.sharding.total_shards
    name = f"{'POD_NAME' if environ.get('POD_NAME') else 'host name'}{quote(pod_name(environ))}"
    source = f"{place('sharding', 'shard')}{quote(str(shard))}" if ("sharding", "shard") in locations else name
    if shard is not None and ("sharding", "total_shards") not in locations:
        yield f"{source}: needs --total-shards, the number of shards"
    elif shard is None and total > 1:
        reason = f"because the {name} does not end with a number, as in late-exporter-0"
        yield f"{place('sharding', 'total_shards')}{quote(str(total))}: needs --shard, {reason}"
    elif shard is not None and shard >= total:
        yield f"{source}: must be less than --total-shards, {total}, because shards are numbered from 0"


def _check_users(settings: Settings, place: Place) -> Iterator[str]:
    """Yield what needs users of the web configuration that do not exist."""
    users, bound = settings.web_config.users, settings.web.user_workspaces
    existing = [workspace.name for workspace in settings.workspaces]
    for user, workspaces in bound.items():
        if user not in users:
            reason = f"is not in basic_auth_users of the file of --web.config.file{suggest(user, users)}"
            yield f"{place('web', 'user_workspaces')}: {user} {reason}"
        for name in workspaces:
            if name not in existing:
                yield f"{place('web', 'user_workspaces')}: there is no workspace {name}{suggest(name, existing)}"
    for path in settings.web.unauthenticated_paths if bound else ():
        if path not in ("/-/healthy", "/-/ready"):
            reason = "must need a password, because --web.user-workspaces limits what users may see"
            yield f"{place('web', 'unauthenticated_paths')}{quote(path)}: {reason}"
