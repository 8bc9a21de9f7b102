"""The standard variables of OpenTelemetry that switch the push of metrics on.

OpenTelemetry's SDK reads the others itself: headers, timeout, compression and certificates. It ignores wrong values, or
fails with them at each push, so they are rejected here. The variables:
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/ and
https://opentelemetry.io/docs/specs/otel/protocol/exporter/.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from late_exporter.api.headers import parse_number
from late_exporter.config.types import read_file
from late_exporter.errors import ConfigError
from late_exporter.masking import mask_url

INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
ATTRIBUTES = "OTEL_RESOURCE_ATTRIBUTES"
FILES = (
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CLIENT_KEY",
)
PROTOCOL = "http/protobuf"
COMPRESSIONS = ("none", "gzip", "deflate")
DEFAULT_INTERVAL_MS = 60_000
MAX_TIMEOUT = 1_000_000
"""Maximum timeout in seconds; Python's sockets take up to two million."""

MIN_SECRET_LENGTH = 8
"""Length from which a value is redacted; a shorter one may be a part of any text."""

MISSING_PACKAGES = (
    "needs more packages; run: pip install 'late-exporter[otlp]', or unset the variable, or set "
    "OTEL_METRICS_EXPORTER=none to push nothing"
)


class OtlpConfig(NamedTuple):
    """Where and how often to push.

    Args:
        variable: Variable that has the endpoint.
        endpoint: URL.
        interval: Seconds between two pushes.
        secrets: Texts that no message may contain.
    """

    variable: str
    endpoint: str
    interval: float
    secrets: tuple[str, ...] = ()


def read_otlp(environ: Mapping[str, str]) -> OtlpConfig | None:
    """Return the configuration of the push; None if it is off; raise ConfigError with every mistake."""
    variable, endpoint = _first(environ, "OTEL_EXPORTER_OTLP_ENDPOINT")
    if not endpoint or _is_disabled(environ):
        return None
    problems = [*_problems(environ, variable, endpoint)]
    if problems:
        raise ConfigError(*problems)
    milliseconds = int(environ.get(INTERVAL, "").strip() or DEFAULT_INTERVAL_MS)
    _, headers = _first(environ, "OTEL_EXPORTER_OTLP_HEADERS")
    values = [item.partition("=")[2].strip() for item in headers.split(",")]
    values += [item.partition("=")[2] or item for item in urlsplit(endpoint).query.split("&")]
    secrets = [secret for value in values for secret in header_secrets(value)]
    return OtlpConfig(variable, endpoint, milliseconds / 1000, tuple(secrets))


def header_secrets(value: str) -> set[str]:
    """Return what no message may contain: a header's value, what follows its scheme, and a password in it."""
    scheme, _, token = unquote(value).rpartition(" ")
    texts = {value, unquote(value), token}
    if scheme.lower() == "basic":
        with suppress(ValueError):
            texts.add(b64decode(token).decode().partition(":")[2])
    return {text for text in texts if len(text) >= MIN_SECRET_LENGTH}


def _is_disabled(environ: Mapping[str, str]) -> bool:
    is_disabled = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    return is_disabled or environ.get("OTEL_METRICS_EXPORTER", "").strip().lower() == "none"


def _problems(environ: Mapping[str, str], variable: str, endpoint: str) -> Iterator[str]:
    if not _is_url(endpoint):
        yield f"{variable}: must be a URL like http://localhost:4318"
    elif "@" in endpoint:
        yield f'{variable} "{mask_url(endpoint)}": must not contain a user or password; use OTEL_EXPORTER_OTLP_HEADERS'
    name, protocol = _first(environ, "OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol and protocol != PROTOCOL:
        yield f"{name}: must be {PROTOCOL}; other protocols are not supported"
    if not re.fullmatch(r"|0*[1-9][0-9]{0,8}", environ.get(INTERVAL, "").strip()):
        yield f"{INTERVAL}: must be a number of milliseconds, at least 1"
    name, headers = _first(environ, "OTEL_EXPORTER_OTLP_HEADERS")
    if not _is_list(headers):
        yield f"{name}: must be a list like api-key=secret,other=value (its value is not shown)"
    yield from _problems_of_client(environ)
    if not _is_list(environ.get(ATTRIBUTES, "")):
        yield f"{ATTRIBUTES}: must be a list like service.instance.id=a,team=b"


def _problems_of_client(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield mistakes that OpenTelemetry's SDK ignores, or finds at the first push."""
    name, timeout = _first(environ, "OTEL_EXPORTER_OTLP_TIMEOUT")
    if timeout and not 0 < (parse_number(timeout) or 0) <= MAX_TIMEOUT:
        yield f"{name}: must be a number of seconds above 0, at most {MAX_TIMEOUT}"
    name, compression = _first(environ, "OTEL_EXPORTER_OTLP_COMPRESSION")
    if compression and compression.lower() not in COMPRESSIONS:
        yield f"{name}: must be none, gzip or deflate"
    for variable in FILES:
        name, path = _first(environ, variable)
        try:
            if path:
                read_file(path, 0, must_be_regular=True)
        except ValueError as exc:  # without the path, which may be the content by mistake
            yield f"{name}: {exc}"


def _first(environ: Mapping[str, str], variable: str) -> tuple[str, str]:
    """Return the name and value of a variable, or of its variant for metrics if that is set; an empty one is not."""
    variant = variable.replace("OTLP_", "OTLP_METRICS_")
    name = variant if environ.get(variant, "").strip() else variable
    return name, environ.get(name, "").strip()


def _is_list(text: str) -> bool:
    """Return whether a text is a list of names with values."""
    return all(re.fullmatch(r"|[^=\s]+\s*=.*", item.strip()) for item in text.split(","))


def _is_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0 and text.isprintable()
    except ValueError:
        return False
