"""The standard variables of OpenTelemetry that switch the push of metrics on.

OpenTelemetry's SDK reads the others itself: headers, timeout, compression and certificates. The variables:
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

from late_exporter.config.types import mask_url
from late_exporter.errors import ConfigError

ENDPOINTS = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
HEADERS = ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
PROTOCOL = "http/protobuf"
DEFAULT_INTERVAL_MS = 60_000
MIN_SECRET_LENGTH = 8
"""Length from which the value of a header is redacted; a shorter one may be a part of any text."""

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
    variable, endpoint = _first(environ, ENDPOINTS)
    if not endpoint or _is_disabled(environ):
        return None
    problems = [*_problems(environ, variable, endpoint)]
    if problems:
        raise ConfigError(*problems)
    milliseconds = int(environ.get(INTERVAL, "").strip() or DEFAULT_INTERVAL_MS)
    _, headers = _first(environ, HEADERS)
    values = [item.partition("=")[2].strip() for item in headers.split(",")]
    values += [item.partition("=")[2] or item for item in urlsplit(endpoint).query.split("&")]
    secrets = [secret for value in values for secret in header_secrets(value)]
    return OtlpConfig(variable, endpoint, milliseconds / 1000, tuple(secrets))


def header_secrets(value: str) -> set[str]:
    """Return what no message may contain of a header's value: all, what follows its scheme, and a password in it."""
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
    name, protocol = _first(environ, PROTOCOLS)
    if protocol and protocol != PROTOCOL:
        yield f"{name}: must be {PROTOCOL}; other protocols are not supported"
    if not re.fullmatch(r"|0*[1-9][0-9]{0,8}", environ.get(INTERVAL, "").strip()):
        yield f"{INTERVAL}: must be a number of milliseconds, at least 1"
    name, headers = _first(environ, HEADERS)
    if any(item.strip() and not re.fullmatch(r"[^=\s]+\s*=.*", item.strip()) for item in headers.split(",")):
        yield f"{name}: must be a list like api-key=secret,other=value (its value is not shown)"


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> tuple[str, str]:
    """Return the first variable that is set, and its value; an empty one counts as unset."""
    return next(((name, environ[name].strip()) for name in names if environ.get(name, "").strip()), (names[-1], ""))


def _is_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0 and text.isprintable()
    except ValueError:
        return False
