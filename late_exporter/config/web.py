"""The web configuration file (``--web.config.file``): TLS and users of the web server.

The format is that of the exporter-toolkit, so that a team can use the same file for all of its
exporters: https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md.
Paths are relative to the file. Two sections are ignored; other keys that are not supported are
rejected by name, because each of them limits who may connect or what they may see.
"""

from __future__ import annotations

import re
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from late_exporter.config.fields import matching
from late_exporter.config.messages import describe
from late_exporter.config.types import EMPTY_VALUES, read_file
from late_exporter.config.yaml_file import YamlFile
from late_exporter.errors import ConfigError
from late_exporter.protocols import Logger

UserName: TypeAlias = Annotated[
    str, matching(r"[^:]+", "a user name must be printable and must not contain a colon")
]
HASH = re.compile(r"\$2[abxy]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")

MAX_COST = 14
"""Cost of a hash that takes about a second; one is computed at a time."""

IGNORED_SECTIONS = ("http_server_config", "rate_limit")
"""Sections of the format that are accepted, because a file is shared, and have no effect."""

VERSIONS = MappingProxyType({"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3})
VERIFY_MODES = MappingProxyType(
    {"VerifyClientCertIfGiven": ssl.CERT_OPTIONAL, "RequireAndVerifyClientCert": ssl.CERT_REQUIRED}
)

# Change time, inode and size of a file; None if it does not exist.
FileStamp: TypeAlias = tuple[int, int, int] | None


@dataclass(frozen=True, slots=True)
class WebConfig:
    """Configuration of the web server.

    Args:
        ssl_context: Context of TLS connections; None for plain HTTP.
        users: The bcrypt hash of each user's password; empty to disable authentication.
        files: Files that the configuration was read from, with the stamp of each at that time.
        ignored: Sections of the file that have no effect.
    """

    ssl_context: ssl.SSLContext | None = None
    users: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    files: Mapping[Path, FileStamp] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()


class WebConfigWatcher:
    """Current web configuration: its file and certificates are read again when they change.

    Methods may be called from any thread.

    Attributes:
        on_read: Called after each change of a file, with whether the files could be read.
    """

    on_read: Callable[[bool], object] | None = None

    def __init__(self, config: WebConfig, log: Logger) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._use(config)

    def replace(self, config: WebConfig) -> None:
        with self._lock:
            self._use(config)

    def current(self) -> WebConfig:
        with self._lock:
            if any(stamp_of(file) != stamp for file, stamp in self._files.items()):
                self._reload()
            return self._config

    def _use(self, config: WebConfig) -> None:
        self._config = config
        self._files = config.files
        if config.ignored:
            self._log.info(
                "web configuration has ignored sections", names=", ".join(config.ignored)
            )

    def _reload(self) -> None:
        files: dict[Path, FileStamp] = {}
        problems: Sequence[str] = ()
        try:
            self._use(load(next(iter(self._files)), files))
        except ConfigError as exc:
            problems = exc.problems
            self._files = files  # a missing file may appear later
            self._log.warning("web configuration not changed", error="; ".join(problems))
        else:
            self._log.info("web configuration changed")
        if self.on_read is not None:
            self.on_read(not problems)


def stamp_of(file: Path) -> FileStamp:
    """Return the stamp of a file, by which a change of it is noticed."""
    try:
        status = file.stat()
    except (OSError, ValueError):
        return None
    return status.st_ctime_ns, status.st_ino, status.st_size


class _Section(BaseModel):
    """A section of the file: unknown keys are rejected, keys without a value keep their default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_empty_values(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {
            key: value
            for key, value in values.items()
            if key not in cls.model_fields or value not in EMPTY_VALUES
        }


class _TlsError(ValueError):
    """An option that cannot be used, with the reason."""

    def __init__(self, option: str, reason: str) -> None:
        super().__init__(reason)
        self.option = option


def _check_hash(text: str) -> str:
    match = HASH.fullmatch(text)
    if match is None:
        raise ValueError("must be a bcrypt hash, as htpasswd -nBC 10 makes it")
    if int(match[1]) > MAX_COST:
        raise ValueError(
            f"the cost of the bcrypt hash is {int(match[1])}, and must be at most {MAX_COST}, "
            "because anyone can have one computed; make another one with htpasswd -nBC 10"
        )
    return text


class _Tls(_Section):
    """Section ``tls_server_config``."""

    cert_file: str
    key_file: str
    client_ca_file: str = ""
    client_auth_type: Literal[
        "NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"
    ] = "NoClientCert"
    min_version: Literal["TLS12", "TLS13"] = "TLS12"


class _FileContent(_Section):
    tls_server_config: _Tls | None = None
    basic_auth_users: dict[UserName, Annotated[str, AfterValidator(_check_hash)]] = Field(
        default_factory=dict
    )
    http_server_config: Any = None
    rate_limit: Any = None


def load(path: Path, files: dict[Path, FileStamp] | None = None, *, place: str = "") -> WebConfig:
    """Read the file and the certificates that it names; raise ConfigError with every mistake.

    Args:
        path: Path of the file.
        files: Receives the stamps of all files that the configuration depends on, even if it is
            invalid. Each is taken before the file is read, so that no later change is missed.
        place: What to name if the file cannot be read, by default its path.
    """
    files = {} if files is None else files
    files[path] = stamp_of(path)
    try:
        file = YamlFile(str(path), read_file(str(path), must_be_regular=True))
    except ValueError as exc:
        raise ConfigError(f"{place or path}: {exc}") from None
    if not isinstance(file.values, dict):
        example = "basic_auth_users: {alice: $2y$10$...}"
        raise ConfigError(f"{path}: must be a mapping, as in {example}")
    try:
        content = _FileContent.model_validate(file.values)
    except ValidationError as exc:
        raise ConfigError(*(_describe(error, file) for error in exc.errors())) from None

    ssl_context = None
    tls = content.tls_server_config
    if tls is not None:
        for name in (tls.cert_file, tls.key_file, tls.client_ca_file):
            if name:
                files[path.parent / name] = stamp_of(path.parent / name)
        try:
            ssl_context = _create_context(tls, path.parent)
        except _TlsError as exc:
            raise ConfigError(f"{file.place(('tls_server_config', exc.option))}: {exc}") from None
    return WebConfig(
        ssl_context=ssl_context,
        users={name: text.encode() for name, text in content.basic_auth_users.items()},
        files=files,
        ignored=tuple(name for name in IGNORED_SECTIONS if name in file.values),
    )


def _describe(error: ErrorDetails, file: YamlFile) -> str:
    keys = tuple(key for key in error["loc"] if key != "[key]")
    if error["type"] == "missing":
        return describe(error, file.place(keys[:-1]), with_value=False)
    if error["type"] == "extra_forbidden":
        section = _Tls if len(keys) > 1 else _FileContent
        names = [name for name in section.model_fields if name not in IGNORED_SECTIONS]
        return f"{file.place(keys)}: not supported; supported are {', '.join(names)}"
    return describe(error, file.place(keys), with_value=error["type"] == "literal_error")


def _create_context(tls: _Tls, folder: Path) -> ssl.SSLContext:
    """Return the context of TLS connections; raise _TlsError.

    Relative paths start at ``folder``.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.minimum_version = VERSIONS[tls.min_version]
    _set_certificate(context, tls, folder)
    _set_clients(context, tls, folder)
    return context


def _set_certificate(context: ssl.SSLContext, tls: _Tls, folder: Path) -> None:
    def reject_encrypted() -> str:
        raise _TlsError("key_file", "encrypted private keys are not supported")

    cert_file = _readable_file("cert_file", folder / tls.cert_file)
    key_file = _readable_file("key_file", folder / tls.key_file)
    try:
        context.load_cert_chain(cert_file, key_file, password=reject_encrypted)
    except OSError as exc:
        raise _TlsError("cert_file", f"cannot use certificate and key: {_reason(exc)}") from None


def _set_clients(context: ssl.SSLContext, tls: _Tls, folder: Path) -> None:
    if tls.client_auth_type not in VERIFY_MODES:
        if tls.client_ca_file:
            allowed = " or ".join(VERIFY_MODES)
            reason = f"must be {allowed}, because client_ca_file is set"
            raise _TlsError("client_auth_type", reason)
        return
    if not tls.client_ca_file:
        reason = f"is missing, but client_auth_type is {tls.client_auth_type}"
        raise _TlsError("client_ca_file", reason)
    client_ca_file = _readable_file("client_ca_file", folder / tls.client_ca_file)
    context.verify_mode = VERIFY_MODES[tls.client_auth_type]
    try:
        context.load_verify_locations(client_ca_file)
    except OSError as exc:
        reason = f"contains no readable certificate: {_reason(exc)}"
        raise _TlsError("client_ca_file", reason) from None


def _readable_file(option: str, path: Path) -> str:
    """Return the path of a file; raise _TlsError, with a clearer reason than OpenSSL's."""
    try:
        read_file(str(path), 0)
    except ValueError as exc:
        raise _TlsError(option, f"{path}: {exc}") from None
    return str(path)


def _reason(exc: OSError) -> str:
    """Return OpenSSL's reason; it has none if the file is not in PEM format."""
    reason = getattr(exc, "reason", None)
    return str(reason).replace("_", " ").lower() if reason else "not in PEM format"
