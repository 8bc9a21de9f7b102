"""The web configuration file (``--web.config.file``): TLS, users, headers and rate limit of the web server.

The format is that of the exporter-toolkit, so that a team can use the same file for all of its exporters:
https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md. Paths are relative to the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, ValidationError

from late_exporter.config.fields import duration, matching
from late_exporter.config.tls import Tls, TlsError, create_context
from late_exporter.config.types import read_file
from late_exporter.config.web import FileStamp, RequestRate, WebConfig, stamp_of
from late_exporter.config.web_section import Section, describe
from late_exporter.config.yaml_file import YamlFile
from late_exporter.errors import ConfigError

UserName: TypeAlias = Annotated[str, matching(r"[^:]+", "a user name must be printable and must not contain a colon")]
HeaderValue: TypeAlias = Annotated[str, matching(r"[ -~]*", "must be printable ASCII")]
HASH = re.compile(r"\$2[abxy]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")

MAX_COST = 14
"""Cost of a hash that takes about a second; one is computed at a time, and a wrong password takes the longest one."""


def load(path: Path, files: dict[Path, FileStamp] | None = None, *, place: str = "") -> WebConfig:
    """Read the file and the certificates that it names; raise ConfigError with every mistake.

    ``place`` is named if the file cannot be read, by default its path.
    ``files`` receives the stamps of all files that the configuration depends on, even if it is invalid. Each is taken
    before the file is read, so that a later change is not missed.
    """
    files = {} if files is None else files
    files[path] = stamp_of(path)
    try:
        file = YamlFile(str(path), read_file(str(path), must_be_regular=True))
    except ValueError as exc:
        raise ConfigError(f"{place or path}: {exc}") from None
    content = _validate(path, file)
    tls, folder, limit = content.tls_server_config, path.parent, content.rate_limit
    names = filter(None, (tls.cert_file, tls.key_file, tls.client_ca_file))
    files.update((folder / name, stamp_of(folder / name)) for name in names)
    try:
        ssl_context = create_context(tls, folder) if tls.is_set else None
    except TlsError as exc:
        raise ConfigError(f"{file.place(('tls_server_config', exc.option))}: {exc}") from None
    return WebConfig(
        ssl_context=ssl_context,
        allowed_sans=frozenset(tls.client_allowed_sans),
        headers=tuple(content.http_server_config.headers.model_dump(by_alias=True, exclude_defaults=True).items()),
        users={name: bcrypt_hash.encode() for name, bcrypt_hash in content.basic_auth_users.items()},
        rate=RequestRate(limit.interval, limit.burst) if limit.interval else None,
        files=files,
        warnings=tuple(_warnings(content)),
    )


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


class _Headers(Section):
    content_security_policy: HeaderValue = Field("", alias="Content-Security-Policy")
    strict_transport_security: HeaderValue = Field("", alias="Strict-Transport-Security")
    content_type_options: Literal["", "nosniff"] = Field("", alias="X-Content-Type-Options")
    frame_options: Literal["", "deny", "sameorigin"] = Field("", alias="X-Frame-Options")
    xss_protection: HeaderValue = Field("", alias="X-XSS-Protection")


class _Http(Section):
    http2: bool | None = None
    headers: _Headers = _Headers.model_validate({})


class _RateLimit(Section):
    interval: Annotated[float, duration("0")] = 0.0
    burst: Annotated[int, Field(ge=0)] = 0


class _FileContent(Section):
    tls_server_config: Tls = Tls()
    http_server_config: _Http = _Http()
    basic_auth_users: dict[UserName, Annotated[str, AfterValidator(_check_hash)]] = Field(default_factory=dict)
    rate_limit: _RateLimit = _RateLimit()


def _validate(path: Path, file: YamlFile) -> _FileContent:
    if not isinstance(file.values, dict):
        raise ConfigError(f"{path}: must be a mapping, as in basic_auth_users: {{alice: $2y$10$...}}")
    try:
        content = _FileContent.model_validate(file.values)
    except ValidationError as exc:
        errors = [(tuple(key for key in error["loc"] if key != "[key]"), error) for error in exc.errors()]
        raise ConfigError(
            *(describe(error, file.place(keys), with_value=error["type"] == "literal_error") for keys, error in errors)
        ) from None
    return content


def _warnings(content: _FileContent) -> Iterator[str]:
    yield from (f"tls_server_config.{warning}" for warning in content.tls_server_config.warnings())
    if not content.tls_server_config.is_set and content.tls_server_config != Tls():
        yield "tls_server_config: ignored, because TLS needs a certificate"
    if content.rate_limit.interval and not content.rate_limit.burst:
        yield "rate_limit.burst: every request is rejected, because it is 0"
    if content.http_server_config.http2:
        yield "http_server_config.http2: HTTP/2 is not supported, HTTP/1.1 is served"
