"""The web configuration file (``--web.config.file``): TLS and users of the web server.

The format is that of the exporter-toolkit, so that a team can use the same file for all of its
exporters: https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md.
Paths are relative to the file. Keys that are not supported are rejected by name: each of them
limits who may connect, or what they may see.
"""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, ValidationError
from pydantic_core import ErrorDetails

from late_exporter.config.fields import matching
from late_exporter.config.types import read_file
from late_exporter.config.web import FileStamp, WebConfig, stamp_of
from late_exporter.config.web_section import Section, describe
from late_exporter.config.yaml_file import YamlFile
from late_exporter.errors import ConfigError

UserName: TypeAlias = Annotated[
    str, matching(r"[^:]+", "a user name must be printable and must not contain a colon")
]
HASH = re.compile(r"\$2[abxy]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")

MAX_COST = 14
"""Cost of a hash that takes about a second; one is computed at a time."""

VERSIONS = MappingProxyType({"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3})
VERIFY_MODES = MappingProxyType(
    {"VerifyClientCertIfGiven": ssl.CERT_OPTIONAL, "RequireAndVerifyClientCert": ssl.CERT_REQUIRED}
)


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
            f"the cost of the bcrypt hash is {int(match[1])}, and must be at most {MAX_COST}, because anyone can have "
            "one computed; make another one with htpasswd -nBC 10"
        )
    return text


class _Tls(Section):
    """Section ``tls_server_config``."""

    cert_file: str
    key_file: str
    client_ca_file: str = ""
    client_auth_type: Literal[
        "NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"
    ] = "NoClientCert"
    min_version: Literal["TLS12", "TLS13"] = "TLS12"


class _FileContent(Section):
    tls_server_config: _Tls | None = None
    basic_auth_users: dict[UserName, Annotated[str, AfterValidator(_check_hash)]] = Field(
        default_factory=dict
    )


def load(path: Path, files: dict[Path, FileStamp] | None = None, *, place: str = "") -> WebConfig:
    """Read the file and the certificates that it names; raise ConfigError with every mistake.

    ``place`` is named if the file cannot be read, by default its path. ``files`` receives the
    stamps of all files that the configuration depends on, even if it is invalid. Each is taken
    before the file is read, so that a later change is not missed.
    """
    files = {} if files is None else files
    files[path] = stamp_of(path)
    try:
        file = YamlFile(str(path), read_file(str(path), must_be_regular=True))
    except ValueError as exc:
        raise ConfigError(f"{place or path}: {exc}") from None
    content = _validate(path, file)
    ssl_context = None
    tls = content.tls_server_config
    if tls is not None:
        names = filter(None, (tls.cert_file, tls.key_file, tls.client_ca_file))
        files.update((path.parent / name, stamp_of(path.parent / name)) for name in names)
        try:
            ssl_context = _create_context(tls, path.parent)
        except _TlsError as exc:
            raise ConfigError(f"{file.place(('tls_server_config', exc.option))}: {exc}") from None
    users = {name: bcrypt_hash.encode() for name, bcrypt_hash in content.basic_auth_users.items()}
    return WebConfig(ssl_context=ssl_context, users=users, files=files)


def _validate(path: Path, file: YamlFile) -> _FileContent:
    if not isinstance(file.values, dict):
        raise ConfigError(
            f"{path}: must be a mapping, as in basic_auth_users: {{alice: $2y$10$...}}"
        )
    try:
        content = _FileContent.model_validate(file.values)
    except ValidationError as exc:
        raise ConfigError(*(_describe(error, file) for error in exc.errors())) from None
    return content


def _describe(error: ErrorDetails, file: YamlFile) -> str:
    keys = tuple(key for key in error["loc"] if key != "[key]")
    if error["type"] == "missing":
        return describe(error, file.place(keys[:-1]), with_value=False)
    if error["type"] == "extra_forbidden":
        section = _Tls if len(keys) > 1 else _FileContent
        return f"{file.place(keys)}: not supported; supported are {', '.join(section.model_fields)}"
    return describe(error, file.place(keys), with_value=error["type"] == "literal_error")


def _create_context(tls: _Tls, folder: Path) -> ssl.SSLContext:
    """Return the context of TLS connections; raise _TlsError. Relative paths start at ``folder``."""
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
            raise _TlsError(
                "client_auth_type",
                f"must be {' or '.join(VERIFY_MODES)}, because client_ca_file is set",
            )
        return
    if not tls.client_ca_file:
        raise _TlsError(
            "client_ca_file", f"is missing, but client_auth_type is {tls.client_auth_type}"
        )
    client_ca_file = _readable_file("client_ca_file", folder / tls.client_ca_file)
    context.verify_mode = VERIFY_MODES[tls.client_auth_type]
    try:
        context.load_verify_locations(client_ca_file)
    except OSError as exc:
        raise _TlsError(
            "client_ca_file", f"contains no readable certificate: {_reason(exc)}"
        ) from None


def _readable_file(option: str, path: Path) -> str:
    """Return the path of a file; raise _TlsError with a clearer reason than OpenSSL if it cannot be read."""
    try:
        read_file(str(path), 0)
    except ValueError as exc:
        raise _TlsError(option, f"{path}: {exc}") from None
    return str(path)


def _reason(exc: OSError) -> str:
    """Return OpenSSL's reason; it has none if the file is not in PEM format."""
    reason = getattr(exc, "reason", None)
    return str(reason).replace("_", " ").lower() if reason else "not in PEM format"
