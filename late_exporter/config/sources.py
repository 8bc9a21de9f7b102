"""Read the settings: flags win over the environment, the environment over the configuration file.

All mistakes of all sources are reported at once, each with its place: the flag, the variable, or the file and line.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from late_exporter.config.commands import API_COMMANDS, COMMANDS, EXPORTER_COMMANDS, SERVER_COMMANDS
from late_exporter.config.config_source import (
    ConfigSource,
    command_defaults,
    defaults_of,
    first_value,
    read_flags,
    read_sources,
)
from late_exporter.config.flags import COMMAND_FLAGS, CommandFlags
from late_exporter.config.options import Location, suggest
from late_exporter.config.parsers import distinct, split_items
from late_exporter.config.sections import ShardingSettings
from late_exporter.config.settings import OPTIONS, Settings
from late_exporter.config.sharding import POD_NAME, pod_name, pod_ordinal
from late_exporter.config.types import Address, UnixPath, may_use_tls, parse_listen_address, read_file
from late_exporter.errors import ConfigError
from late_exporter.masking import quote

if TYPE_CHECKING:
    from late_exporter.config.web import WebConfig

DAY = 86_400.0
MAX_SIMULATED_LOGS = 2_000_000  # at startup; they take two minutes and 4 GB of memory
MIN_MASKED_LENGTH = 8
NO_KEY = (
    "no API key: set LATE_API_KEY or ZERNIO_API_KEY, or name a file that holds it with LATE_API_KEY_FILE or "
    "--api.key-file, or list workspaces in --config.file; the demo command needs no key"
)


def load(command: str, flags: Mapping[str, Sequence[str]], environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of a command; raise ConfigError with every mistake.

    Options of other commands are ignored, and their files not read. Flags are named as in
    ``{"poll.interval": ["30s"]}``.
    """
    from late_exporter.config.validation import validate_settings  # noqa: PLC0415 - pydantic takes long to import

    environ = os.environ if environ is None else environ
    sources = read_sources(command, flags, environ)
    places = {location: place for source in reversed(sources) for location, place in source.places.items()}
    problems = [problem for source in sources for problem in source.problems]
    settings = None
    try:
        settings = validate_settings([*(source.values for source in sources), defaults_of(OPTIONS)], places)
    except ConfigError as exc:
        problems += exc.problems
    problems += _check_keys(command, places, is_broken=any(source.is_broken for source in sources))
    web_config, web_problems = _load_web_config(command, sources)
    problems += web_problems
    problems += [*_check_webhooks(settings, places), *_check_replicas(settings, places)] if settings else ()
    if settings is not None:
        problems += _check_simulated_history(settings)
        settings = _with_shard(settings, environ)
        problems += _check_shard(settings, places, environ)
    if settings is not None and not web_problems and command in SERVER_COMMANDS:
        problems += _check_webhook_auth(settings, web_config, places)
        problems += _check_user_workspaces(settings, web_config, places)
    if settings is None or problems:
        raise ConfigError(*_mask_keys(environ, problems))
    return settings._replace(loaded_web_config=web_config)


def health_check_target(flags: Mapping[str, Sequence[str]]) -> tuple[Address | UnixPath, bool] | None:
    """Return the first address of the configuration and whether TLS may be in use, or None if there is a mistake.

    The health check runs every few seconds, so this parses only what it needs, without pydantic.
    """
    sources = read_sources("healthcheck", flags, os.environ)
    if any(source.problems for source in sources):
        return None
    addresses, _ = first_value(sources, "web.listen-address") or (defaults_of(OPTIONS)["web"]["listen_address"], "")
    try:
        address: Address | UnixPath = distinct(tuple(map(parse_listen_address, split_items(addresses))))[0]
    except ValueError:
        return None
    file, _ = first_value(sources, "web.config.file") or (None, "")
    return address, may_use_tls(file)


def parse_flags(command: str, flags: Mapping[str, Sequence[str]]) -> CommandFlags:
    """Return the flags of a command, given as in ``{"limit": ["5"]}``; raise ConfigError with every mistake."""
    from late_exporter.config.validation import validate_flags  # noqa: PLC0415 - as above

    source = read_flags(command, flags, COMMAND_FLAGS)
    problems = source.problems + _check_format(command, flags)
    values = defaults_of(COMMAND_FLAGS) | command_defaults(command, COMMAND_FLAGS).values | source.values
    try:
        command_flags = validate_flags(values, source.places)
    except ConfigError as exc:
        raise ConfigError(*problems, *exc.problems) from None
    if problems:
        raise ConfigError(*problems)
    return command_flags


def parse_format(command: str, flags: Mapping[str, Sequence[str]]) -> str:
    """Return the output format of a command that has no other flags; raise ConfigError with every mistake."""
    source = read_flags(command, flags, COMMAND_FLAGS)
    if problems := source.problems + _check_format(command, flags):
        raise ConfigError(*problems)
    formats = COMMANDS[command].formats
    format_name: str = source.values.get("format", formats[0] if formats else "")
    return format_name


def _check_format(command: str, flags: Mapping[str, Sequence[str]]) -> list[str]:
    formats = COMMANDS[command].formats
    return [
        f"--format{quote(text)}: must be one of {', '.join(formats)}"
        for text in flags.get("format", ())
        if text not in formats
    ]


def _load_web_config(command: str, sources: Sequence[ConfigSource]) -> tuple[WebConfig | None, Sequence[str]]:
    path, place = first_value(sources, "web.config.file") or ("", "")
    if not place or command not in EXPORTER_COMMANDS:
        return None, ()
    from pathlib import Path  # noqa: PLC0415 - as above

    from late_exporter.config import web_file  # noqa: PLC0415 - as above

    try:
        read_file(path, 0, must_be_regular=True)
        return web_file.load(Path(path)), ()
    except ConfigError as exc:
        return None, exc.problems
    except ValueError as exc:
        return None, [f"{place}{quote(path)}: {exc}"]


def _check_keys(command: str, places: Mapping[Location, str], *, is_broken: bool) -> Iterator[str]:
    keys = [places["api", name] for name in ("key", "key_file") if ("api", name) in places]
    if ("workspaces",) in places:
        reason = f"drop it, each workspace in {places['workspaces',]} has its own api_key_file"
        yield from (f"{key}: {reason}" for key in keys)
        if ("api", "profile_id") in places:
            yield f"{places['api', 'profile_id']}: drop it, workspaces in {places['workspaces',]} have their own"
    elif len(keys) > 1:
        yield f"{' and '.join(keys)}: two keys are given; drop one of them"
    elif not keys and command in API_COMMANDS and not is_broken:
        yield NO_KEY


def _check_webhooks(settings: Settings, places: Mapping[Location, str]) -> Iterator[str]:
    path = settings.webhook.path
    if path is not None:
        place = f"{places['webhook', 'path']}{quote(path)}"
        if settings.webhook.secret_file is None:
            yield f"{place}: name a file that holds the secret of the webhooks with --webhook.secret-file"
        if f"{settings.web.telemetry_path}/".startswith(f"{path}/"):
            yield f"{place}: must not be --web.telemetry-path{quote(settings.web.telemetry_path)} or its parent"
    elif settings.webhook.listen_address:
        yield f"{places['webhook', 'listen_address']}: needs --webhook.path, the path that receives webhooks there"
    for address in settings.webhook.listen_address:
        is_fixed = not isinstance(address, Address) or address.port != 0
        if is_fixed and address in settings.web.listen_address:
            place = f"{places['webhook', 'listen_address']}{quote(str(address))}"
            yield f"{place}: is also --web.listen-address, which serves the metrics; choose another address"


def _with_shard(settings: Settings, environ: Mapping[str, str]) -> Settings:
    """Return the settings with the shard that follows from the name of the pod, if none is set."""
    shard, total = settings.sharding
    if shard is None and total > 1:
        shard = pod_ordinal(pod_name(environ))
    return settings._replace(sharding=ShardingSettings(shard, total))


def _check_shard(settings: Settings, places: Mapping[Location, str], environ: Mapping[str, str]) -> Iterator[str]:
    shard, total = settings.sharding
    name = f"{POD_NAME if environ.get(POD_NAME) else 'host name'}{quote(pod_name(environ))}"
    place = f"{places['sharding', 'shard']}{quote(str(shard))}" if ("sharding", "shard") in places else name
    if shard is not None and ("sharding", "total_shards") not in places:
        yield f"{place}: needs --total-shards, the number of shards"
    elif shard is None and total > 1:
        total_place = f"{places['sharding', 'total_shards']}{quote(str(total))}"
        yield f"{total_place}: needs --shard, because the {name} does not end with a number, as in late-exporter-0"
    elif shard is not None and shard >= total:
        yield f"{place}: must be less than --total-shards, {total}, because shards are numbered from 0"


def _check_replicas(settings: Settings, places: Mapping[Location, str]) -> Iterator[str]:
    place = f"{places['state', 'replicas']}{quote('true')}" if settings.state.replicas else ""
    if place and not settings.state.url.startswith("postgresql://"):
        remedy = "name its database with --state.url postgresql://user@host/database"
        yield f"{place}: replicas share a state in PostgreSQL; {remedy}"
    if place and settings.sharding.total_shards > 1:
        total_place = f"{places['sharding', 'total_shards']}{quote(str(settings.sharding.total_shards))}"
        yield f"{place}: replicas share all workspaces, and shards have a state each; drop it, or drop {total_place}"


def _check_simulated_history(settings: Settings) -> Iterator[str]:
    count = settings.simulate.logs_per_day * settings.simulate.history / DAY
    if count > MAX_SIMULATED_LOGS:
        yield (
            f"--simulate.logs-per-day and --simulate.history: these are {count:,.0f} logs at startup; reduce one of "
            f"them, at most {MAX_SIMULATED_LOGS:,} are possible"
        )


def _check_webhook_auth(
    settings: Settings, web_config: WebConfig | None, places: Mapping[Location, str]
) -> Iterator[str]:
    if settings.webhook.require_auth and (web_config is None or not web_config.users):
        yield f"{places['webhook', 'require_auth']}: needs basic_auth_users in the file of --web.config.file"


def _check_user_workspaces(
    settings: Settings, web_config: WebConfig | None, places: Mapping[Location, str]
) -> Iterator[str]:
    bound, existing = settings.web.user_workspaces, [workspace.name for workspace in settings.workspaces]
    users = web_config.users if web_config is not None else {}
    if not bound:
        return
    place = places["web", "user_workspaces"]
    for user, workspaces in bound:
        if user not in users:
            yield f"{place}: {user} is not in basic_auth_users of the file of --web.config.file{suggest(user, users)}"
        for name in workspaces:
            if name not in existing:
                yield f"{place}: there is no workspace {name}{suggest(name, existing)}"
    for path in settings.web.unauthenticated_paths:
        if path not in ("/-/healthy", "/-/ready"):
            path_place = f"{places['web', 'unauthenticated_paths']}{quote(path)}"
            yield f"{path_place}: must need a password, because --web.user-workspaces limits what users may see"


def _mask_keys(environ: Mapping[str, str], problems: Sequence[str]) -> list[str]:
    """Mask API keys that were also set as something else; masking a short one would hide too much."""
    messages = list(problems)
    for name in (name for option in OPTIONS if option.secret for name in (option.variable, option.alias)):
        key = environ.get(name, "").strip()
        if len(key) >= MIN_MASKED_LENGTH:
            messages = [problem.replace(key, "***") for problem in messages]
    return messages
