"""What a user has set, whichever way: flags win over the environment, the environment over the file.

Every value arrives as text, so one parser per option serves all three ways, and every mistake is told with the place
it came from.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails

from late_exporter.config import web as webconfig
from late_exporter.config.flags import CommandFlags
from late_exporter.config.options import EXPORTING, OPTIONS, PREFIX, REAL, Given, Layer, Loc, suggestion
from late_exporter.config.types import Address, UnixPath, quote, read_file
from late_exporter.config.web import WebConfig
from late_exporter.config.yaml_file import Document
from late_exporter.errors import ConfigError

__all__ = ["CommandContext", "Settings", "Simulate", "Webhook", "Workspace", "load"]

MAX_FILE = 1 << 20
LONG = 8
NO_KEY = (
    "no API key: set LATE_API_KEY or ZERNIO_API_KEY, or name a file that holds it with LATE_API_KEY_FILE or "
    "--api.key-file, or list workspaces in --config.file"
)

_BY_NAME = {option.name: option for option in OPTIONS}
_BY_VARIABLE = {name: option for option in OPTIONS for name in (option.variable, option.alias) if name}

# Kubernetes gives every pod variables for every Service: one named late-exporter must not stop the exporter.
_SERVICE_VARIABLE = re.compile(
    r"LATE_EXPORTER_(?!.*__)(?:[A-Z0-9]+_)*?"
    r"(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9]+)*|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)"
)


@dataclass(frozen=True, slots=True)
class Workspace:
    """One API key, and where it is good; ``key_file`` is what to read again when the key changes."""

    name: str
    base_url: str
    key: SecretStr | None = None
    key_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Webhook:
    """Which webhooks are taken; ``secret_file`` is what to read again when the secret changes."""

    secret: SecretStr
    secret_file: Path
    window: float


@dataclass(frozen=True, slots=True)
class Simulate:
    """What the simulated API is like; ``history`` is in seconds."""

    listen_address: Address
    seed: int
    logs_per_day: int
    history: float
    rate_limit: int
    incidents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the rest of the program gets; all times are in seconds, and ``webhook_poll_interval`` is 0 for none."""

    workspaces: tuple[Workspace, ...]
    api_generation: str
    api_timeout: float
    quota_share: float
    poll_interval: float
    lookback: float
    reconcile_interval: float
    audit_interval: float
    feeds: tuple[str, ...]
    state_url: str
    listen_addresses: tuple[Address | UnixPath, ...]
    systemd_socket: bool
    telemetry_path: str
    web_config_file: Path | None
    web_config: WebConfig
    enable_lifecycle: bool
    webhook_path: str | None
    webhook: Webhook | None
    webhook_poll_interval: float
    duration_buckets: tuple[float, ...]
    max_label_values: int
    max_accounts: int
    created_timestamps: bool
    log_level: str
    log_format: str
    simulate: Simulate

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be written."""
        found = [workspace.key for workspace in self.workspaces]
        found += [self.webhook.secret] if self.webhook else []
        return tuple(secret.get_secret_value() for secret in found if secret is not None)


@dataclass(frozen=True, slots=True)
class CommandContext:
    """What a command is called with.

    Args:
        settings: In force.
        reload_settings: Reads them anew.
        flags: The flags of the command itself.
        args: Its arguments.
    """

    settings: Settings
    reload_settings: Callable[[], Settings]
    flags: CommandFlags
    args: tuple[str, ...] = ()


def load(command: str, flags: Mapping[str, Sequence[str]], environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of a command; raises ConfigError with every mistake there is.

    Args:
        command: Options that it does not have are left out, and their files unread.
        flags: Texts by the option's name, as in ``{"poll.interval": ["30s"]}``.
        environ: The environment; None is that of the process.
    """
    environ = os.environ if environ is None else environ
    layers = _layers(command, flags, environ)
    places = {loc: place for layer in reversed(layers) for loc, place in layer.places.items()}
    problems = [problem for layer in layers for problem in layer.problems]
    given, wrong = _validated(layers)
    problems += [_problem(error, places) for error in wrong]
    problems += _problems_of_keys(command, places, broken=any(layer.broken for layer in layers))
    web, unusable = _web_config(layers) if command in EXPORTING else (WebConfig(), ())
    problems += unusable
    problems += _problems_of_webhooks(given, places) if given else ()
    if given is None or problems:
        raise ConfigError(*_without(_keys(environ), problems))
    return _settings(given, web)


def _layers(command: str, flags: Mapping[str, Sequence[str]], environ: Mapping[str, str]) -> list[Layer]:
    """What every source gives, in the order in which they win."""
    said = [_from_flags(command, flags), _from_environment(command, environ)]
    return [*said, _from_file(command, said), _defaults(command, environ)]


def _from_flags(command: str, flags: Mapping[str, Sequence[str]]) -> Layer:
    layer = Layer(command)
    for name, texts in flags.items():
        option = _BY_NAME[name]
        if len(texts) > 1 and not option.many:
            layer.problems.append(f"{option.flag}: given {len(texts)} times")
        layer.put(option, list(texts) if option.many else texts[-1], option.flag)
    return layer


def _from_environment(command: str, environ: Mapping[str, str]) -> Layer:
    layer = Layer(command)
    for variable, text in sorted(environ.items()):
        option = _BY_VARIABLE.get(variable)
        if option is not None and text:
            if variable == option.alias and environ.get(option.variable, text) != text:
                layer.problems.append(f"{option.variable} and {variable}: two keys are given; drop one of them")
            layer.put(option, SecretStr(text) if option.secret else text, variable)
        elif option is None and variable.startswith(PREFIX) and not _SERVICE_VARIABLE.fullmatch(variable):
            layer.problems.append(f"{variable}: unknown variable{suggestion(variable, _BY_VARIABLE, PREFIX)}")
    return layer


def _from_file(command: str, said: Sequence[Layer]) -> Layer:
    """What is in the file, where one of the layers names it."""
    layer = Layer(command)
    naming = next((named for named in said if "config_file" in named.values), None)
    if naming is None:
        return layer
    path = naming.values["config_file"]
    try:
        read = read_file(path, MAX_FILE)
        if len(read) > MAX_FILE:
            raise ValueError("larger than 1 MiB")  # noqa: TRY301 - told as the other reasons are
    except ValueError as exc:
        layer.broken = True
        layer.problems.append(f"{naming.places['config_file',]}{quote(path)}: {exc}")
    else:
        Document(path, layer).read(read)
    return layer


def _defaults(command: str, environ: Mapping[str, str]) -> Layer:
    """Only where a command or systemd has others than the model."""
    layer = Layer(command)
    directory = environ.get("STATE_DIRECTORY", "").partition(":")[0].rstrip("/")
    if directory:
        layer.put(_BY_NAME["state.url"], f"sqlite:///{directory}/late-exporter.db", "STATE_DIRECTORY")
    for option in OPTIONS:
        if command in option.others:
            layer.put(option, option.others[command], option.flag)
    return layer


def _validated(layers: Sequence[Layer]) -> tuple[Given | None, list[ErrorDetails]]:
    arguments: dict[str, Any] = {"layers": layers}
    try:
        return Given(**arguments), []
    except ValidationError as exc:
        return None, exc.errors()


def _web_config(layers: Sequence[Layer]) -> tuple[WebConfig, Sequence[str]]:
    """What the web server's own file says, and its mistakes."""
    naming = next((layer for layer in layers if "web_config_file" in layer.values), None)
    if naming is None:
        return WebConfig(), ()
    path = naming.values["web_config_file"]
    try:
        read_file(path, 0)
        return webconfig.load(Path(path)), ()
    except ConfigError as exc:
        return WebConfig(), exc.problems
    except ValueError as exc:
        return WebConfig(), [f"{naming.places['web_config_file',]}{quote(path)}: {exc}"]


def _problem(error: ErrorDetails, places: Mapping[Loc, str]) -> str:
    loc = error["loc"]
    place = next(places[loc[:size]] for size in range(len(loc), 0, -1) if loc[:size] in places)
    if error["type"] == "missing":
        return f"{place}: {loc[-1]} is missing"
    value = quote(error["input"], url=str(loc[-1]).endswith("url"))
    return f"{place}{value}: {error['ctx']['error']}"


def _problems_of_keys(command: str, places: Mapping[Loc, str], *, broken: bool) -> Iterator[str]:
    keys = [places[field,] for field in ("api_key", "api_key_file") if (field,) in places]
    if ("workspaces",) in places:
        reason = f"drop it, each workspace in {places['workspaces',]} has its own api_key_file"
        yield from (f"{key}: {reason}" for key in keys)
    elif len(keys) > 1:
        yield f"{' and '.join(keys)}: two keys are given; drop one of them"
    elif not keys and command in REAL and not broken:
        yield NO_KEY


def _keys(environ: Mapping[str, str]) -> list[str]:
    return [
        environ.get(name, "").strip() for option in OPTIONS if option.secret for name in (option.variable, option.alias)
    ]


def _problems_of_webhooks(given: Given, places: Mapping[Loc, str]) -> Iterator[str]:
    path, telemetry, relaxed = given.webhook_path, given.web_telemetry_path, given.webhook_poll_interval
    if path is not None:
        place = f"{places['webhook_path',]}{quote(path)}"
        if given.webhook_secret_file is None:
            yield f"{place}: name a file that holds the secret of the webhooks with --webhook.secret-file"
        if f"{telemetry}/".startswith(f"{path}/"):
            yield f"{place}: must not be --web.telemetry-path{quote(telemetry)}, nor above it"
    if relaxed is not None and relaxed < given.poll_interval:
        place = places["webhook_poll_interval",]
        yield f"{place}{quote(f'{relaxed:g}s')}: must be at least --poll.interval, {given.poll_interval:g}s"


def _without(keys: Sequence[str], problems: list[str]) -> list[str]:
    """The problems without a key that was given by mistake as something else too; a short one hides too much."""
    for key in keys:
        if len(key) >= LONG:
            problems = [problem.replace(key, "***") for problem in problems]
    return problems


def _settings(given: Given, web: WebConfig) -> Settings:
    return Settings(
        workspaces=tuple(_workspaces(given)),
        api_generation=given.api_generation,
        api_timeout=given.api_timeout,
        quota_share=given.api_quota_share,
        poll_interval=given.poll_interval,
        lookback=given.poll_lookback,
        reconcile_interval=given.poll_reconcile_interval,
        audit_interval=given.poll_audit_interval,
        feeds=given.poll_feeds,
        state_url=given.state_url,
        listen_addresses=given.web_listen_address,
        systemd_socket=given.web_systemd_socket,
        telemetry_path=given.web_telemetry_path,
        web_config_file=given.web_config_file,
        web_config=web,
        enable_lifecycle=given.web_enable_lifecycle,
        webhook_path=given.webhook_path,
        webhook=_webhook(given),
        webhook_poll_interval=given.webhook_poll_interval or 0.0,
        duration_buckets=given.metrics_duration_buckets,
        max_label_values=given.metrics_max_label_values,
        max_accounts=given.metrics_max_accounts,
        created_timestamps=given.metrics_created_timestamps,
        log_level=given.log_level,
        log_format=given.log_format,
        simulate=Simulate(
            listen_address=given.simulate_listen_address,
            seed=given.simulate_seed,
            logs_per_day=given.simulate_logs_per_day,
            history=given.simulate_history,
            rate_limit=given.simulate_rate_limit,
            incidents=given.simulate_incident,
        ),
    )


def _webhook(given: Given) -> Webhook | None:
    secret = given.webhook_secret_file
    if given.webhook_path is None or secret is None:
        return None
    return Webhook(secret.key, secret.path, given.webhook_replay_window)


def _workspaces(given: Given) -> Iterator[Workspace]:
    for row in given.workspaces or ():
        yield Workspace(row.name, row.api_base_url or given.api_base_url, row.api_key_file.key, row.api_key_file.path)
    if given.workspaces is None and given.api_key_file is not None:
        yield Workspace("default", given.api_base_url, given.api_key_file.key, given.api_key_file.path)
    elif given.workspaces is None:
        yield Workspace("default", given.api_base_url, given.api_key)
