"""The web configuration file (``--web.config.file``): TLS and users of the web server.

The format is that of the exporter-toolkit, so that a team can use the same file for all of its
exporters: https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md.
Paths are relative to the file. Two sections are ignored; other keys that are not supported are
rejected by name, because each of them limits who may connect or what they may see.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from late_exporter.config.fields import matching
from late_exporter.config.messages import describe
from late_exporter.config.yaml_file import YamlFile
from late_exporter.errors import ConfigError
from late_exporter.log import Logger

UserName: TypeAlias = Annotated[
    str, matching(r"[^:]+", "a user name must be printable and must not contain a colon")
]
Hash: TypeAlias = Annotated[
    str,
    # A cost of 14 takes about a second; one hash is computed at a time, and anyone can have one
    # computed.
    matching(
        r"\$2[abxy]\$(0[4-9]|1[0-4])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}",
        "must be a bcrypt hash with a cost of at most 14, as htpasswd -nBC 10 makes it",
    ),
]

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


class _Tls(BaseModel):
    """Section ``tls_server_config``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cert_file: str
    key_file: str
    client_ca_file: str = ""
    client_auth_type: Literal[
        "NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"
    ] = "NoClientCert"
    min_version: Literal["TLS12", "TLS13"] = "TLS12"


class _FileContent(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    tls_server_config: _Tls | None = None
    basic_auth_users: dict[UserName, Hash] | None = None
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
    file = YamlFile(str(path), place or str(path))
    try:
        content = _FileContent.model_validate(file.values)
    except ValidationError as exc:
        raise ConfigError(*(_describe(error, file) for error in exc.errors())) from None

    ssl_context = None
    tls = content.tls_server_config
    if tls is not None:
        # Relative paths start at the folder of the file.
        for name in (tls.cert_file, tls.key_file, tls.client_ca_file):
            if name:
                files[path.parent / name] = stamp_of(path.parent / name)
        ssl_context = _create_context(tls, path.parent, file)
    return WebConfig(
        ssl_context=ssl_context,
        users={name: text.encode() for name, text in (content.basic_auth_users or {}).items()},
        files=files,
        ignored=tuple(name for name in IGNORED_SECTIONS if name in file.values),
    )


def _describe(error: ErrorDetails, file: YamlFile) -> str:
    section = _Tls if len(error["loc"]) > 1 else _FileContent
    supported = [name for name in section.model_fields if name not in IGNORED_SECTIONS]
    # Anything but a choice may be a secret.
    return describe(error, file.place, supported, with_value=error["type"] == "literal_error")


def _create_context(tls: _Tls, folder: Path, file: YamlFile) -> ssl.SSLContext:
    """Return the context of TLS connections; raise ConfigError."""

    def problem(option: str, reason: str) -> ConfigError:
        return ConfigError(f"{file.place(('tls_server_config', option))}: {reason}")

    def reject_encrypted() -> str:
        raise ValueError("encrypted private keys are not supported")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.minimum_version = VERSIONS[tls.min_version]
    try:
        context.load_cert_chain(
            folder / tls.cert_file, folder / tls.key_file, password=reject_encrypted
        )
    except (OSError, ValueError) as exc:
        names = f"{tls.cert_file} with the key {tls.key_file}"
        raise problem("cert_file", f"cannot use {names}: {_reason(exc)}") from None

    asks_for_certificates = tls.client_auth_type in VERIFY_MODES
    if asks_for_certificates != bool(tls.client_ca_file):
        modes = " or ".join(VERIFY_MODES)
        raise problem("client_ca_file", f"needs a client_auth_type of {modes}, and these need it")
    if asks_for_certificates:
        context.verify_mode = VERIFY_MODES[tls.client_auth_type]
        try:
            context.load_verify_locations(folder / tls.client_ca_file)
        except (OSError, ValueError) as exc:
            reason = f"cannot use {tls.client_ca_file}: {_reason(exc)}"
            raise problem("client_ca_file", reason) from None
    return context


def _reason(exc: OSError | ValueError) -> str:
    """Return why a file cannot be used; OpenSSL has no reason if it is not in PEM format."""
    if isinstance(exc, ssl.SSLError):
        reason = getattr(exc, "reason", None)
        return reason.replace("_", " ").lower() if reason else "not in PEM format"
    return str(exc.strerror) if isinstance(exc, OSError) else str(exc)
