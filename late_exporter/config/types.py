"""The types of values, each made of a text; ValueError says what would be right."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, SecretStr, model_validator
from pydantic import PlainValidator as Parsed

__all__ = [
    "EMPTY_VALUES",
    "INVALID_NAME",
    "RATE_LIMITS",
    "Address",
    "BaseUrl",
    "Bool",
    "Bounds",
    "CommaSeparated",
    "File",
    "Key",
    "KeyFile",
    "ListenAddress",
    "Parsed",
    "RateLimit",
    "Section",
    "Share",
    "StateUrl",
    "TargetLabel",
    "TcpAddress",
    "TelemetryPath",
    "Timestamp",
    "UnixPath",
    "WebhookPath",
    "WorkspaceName",
    "choice",
    "distinct",
    "duration",
    "integer",
    "is_workspace_name",
    "quote",
    "read_file",
]

T = TypeVar("T")

RESERVED_PATHS = ("/", "/-/healthy", "/-/ready", "/-/reload", "/-/quit")
MAX_BUCKETS = 50
MAX_PORT = 65_535
MAX_SOCKET_PATH = 107
MAX_SHOWN = 100
EMPTY_VALUES = ("", "~", "null")
NOT_A_URL = "must be a URL like https://getlate.dev/api"
INVALID_NAME = "must be 1 to 64 letters, digits, or _ . -"
RATE_LIMITS = {"free": 60, "build": 120, "accelerate": 600, "unlimited": 1200}
"""Requests a minute by plan."""
NOT_A_KEY = "a key is 1 to 512 visible ASCII characters without whitespace"

_UNITS = {"y": 31_536_000.0, "w": 604_800.0, "d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION = re.compile("".join(rf"(?:([0-9]{{1,12}}){unit})?" for unit in _UNITS))
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_HOST_AND_PORT = re.compile(r"(?:\[(?P<six>[^\[\]\s]+)\]|(?P<host>[A-Za-z0-9._-]*))(?::(?P<port>[0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; an empty host is every interface."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixPath:
    """Where to listen in the file system."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class _KeyFile:
    path: Path
    key: SecretStr


class Section(BaseModel):
    """Options in a file: an unknown one is a mistake, one without a value is not given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nothing(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {key: value for key, value in given.items() if key not in cls.model_fields or value not in EMPTY_VALUES}


def _parsed(parse: Callable[[str], object], complaint: str) -> Parsed:
    """A type whose texts give something other than None."""

    def parsed(text: str) -> object:
        value = parse(text)
        if value is None:
            raise ValueError(complaint)
        return value

    return Parsed(parsed)


def integer(low: int) -> Parsed:
    """A whole number."""
    return _parsed(
        lambda text: int(text) if re.fullmatch(r"[0-9]{1,18}", text) and int(text) >= low else None,
        f"must be a whole number of at least {low}",
    )


def choice(*allowed: str) -> Parsed:
    """One word of several."""
    return _parsed(lambda text: text if text in allowed else None, f"must be one of {', '.join(allowed)}")


def _positive(high: float, complaint: str) -> Parsed:
    return _parsed(
        lambda text: float(text) if _NUMBER.fullmatch(text) and 0.0 < float(text) <= high else None, complaint
    )


def _matching(pattern: str, complaint: str) -> Parsed:
    return _parsed(lambda text: text if re.fullmatch(pattern, text) and text.isprintable() else None, complaint)


def duration(low: str, high: str = "100y") -> Parsed:
    """Seconds, written as a duration of Prometheus."""

    def parse(text: str) -> float:
        seconds = _seconds(text)
        if not _seconds(low) <= seconds <= _seconds(high):
            raise ValueError(f"must be at least {low} and at most {high}")
        return seconds

    return Parsed(parse)


def _seconds(text: str) -> float:
    """Units from large to small, each at most once, or a bare 0."""
    match = _DURATION.fullmatch(text)
    if text == "0":
        return 0.0
    if match is None or not text:
        raise ValueError("not a duration; write it like 500ms, 30s or 1h30m")
    return sum(int(count) * size for count, size in zip(match.groups(), _UNITS.values(), strict=True) if count)


def _moment(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError("not a time; write it like 2026-11-20T08:00:00Z") from None


def _target_label(text: str) -> tuple[str, str] | None:
    name, equals, value = text.partition("=")
    if not equals or not value or not re.fullmatch(r"(?!__)[A-Za-z_][A-Za-z0-9_]*", name):
        return None
    return name, value


def _items(value: str | Sequence[str]) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    items = [item.strip() for text in texts for item in text.split(",")]
    if not any(items):
        raise ValueError("must name at least one")
    return items


def distinct(items: tuple[Any, ...]) -> tuple[Any, ...]:
    """The items, none of them twice."""
    twice = next((item for index, item in enumerate(items) if item in items[:index]), None)
    if twice is not None:
        raise ValueError(f"{twice} is given twice")
    return items


def _ascending(bounds: tuple[float, ...]) -> tuple[float, ...]:
    if list(bounds) != sorted(set(bounds)):
        raise ValueError("must be in ascending order, each bound once")
    if len(bounds) > MAX_BUCKETS:
        raise ValueError(f"at most {MAX_BUCKETS} bounds are allowed, not {len(bounds)}")
    return bounds


def _rate_limit(text: str) -> int | None:
    if text.lower() in RATE_LIMITS:
        return RATE_LIMITS[text.lower()]
    return int(text) if re.fullmatch(r"0*[1-9][0-9]{0,17}", text) else None


def _address(text: str) -> Address | None:
    host, port = _host_and_port(text)
    return Address(host, int(port)) if port else None


def _address_or_path(text: str) -> Address | UnixPath | None:
    path = text.removeprefix("unix:")
    if path == text:
        return _address(text)
    return UnixPath(Path(path)) if path and "\0" not in path and len(os.fsencode(path)) <= MAX_SOCKET_PATH else None


def _host_and_port(text: str) -> tuple[str, str]:
    """Each is empty where it was left out, both where they cannot be."""
    match = _HOST_AND_PORT.fullmatch(text)
    if match is None or int(match["port"] or 0) > MAX_PORT:
        return "", ""
    try:
        if match["six"]:
            ipaddress.IPv6Address(match["six"])
        elif re.fullmatch(r"[0-9.]+", match["host"]):
            ipaddress.IPv4Address(match["host"])
    except ValueError:
        return "", ""
    return match["six"] or match["host"], match["port"] or ""


def _telemetry_path(text: str) -> str:
    if not re.fullmatch(r"/[A-Za-z0-9._~/-]*", text):
        raise ValueError("must begin with / and hold only letters, digits and - . _ ~ /")
    if text in RESERVED_PATHS:
        raise ValueError(f"must not be one of {', '.join(RESERVED_PATHS)}")
    return text


def _webhook_path(text: str) -> str:
    if not re.fullmatch(r"(?:/[A-Za-z0-9._~-]+)+", text):
        raise ValueError("must be a path like /webhook, of letters, digits and - . _ ~ between slashes")
    if any(f"{path}/".startswith(f"{text}/") for path in RESERVED_PATHS):
        raise ValueError(f"must not be one of {', '.join(RESERVED_PATHS)}, nor above one")
    return text


def _base_url(text: str) -> str:
    if not re.fullmatch(r"https?://[!-~]+", text) or "\\" in text:
        raise ValueError(NOT_A_URL)
    if "@" in text:
        raise ValueError("must hold no user and no password; give the key with LATE_API_KEY or --api.key-file")
    if "?" in text or "#" in text:
        raise ValueError("must hold no query and no fragment")
    host, port = _host_and_port(text.partition("://")[2].partition("/")[0])
    if not host or "%" in host or int(port or 443) == 0:
        raise ValueError(NOT_A_URL)
    if text.startswith("http:") and not _is_loopback(host):
        raise ValueError("must begin with https://; plain http is for a loopback address only")
    return text.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _key(given: SecretStr) -> SecretStr:
    key = given.get_secret_value().strip()
    if not key:
        raise ValueError("is empty; " + NOT_A_KEY)
    if not re.fullmatch(r"[!-~]{1,512}", key):
        raise ValueError("not a usable key (it is not shown); " + NOT_A_KEY)
    return SecretStr(key)


def _key_file(path: str) -> _KeyFile:
    text = read_file(path, 4096).decode("latin-1")
    if not text.strip():
        raise ValueError("the file is empty")
    return _KeyFile(Path(path), _key(SecretStr(text)))


def read_file(path: str, limit: int) -> bytes:
    """What is in the file, one byte more than the limit at most."""
    if not path or "\0" in path:
        raise ValueError("must be the path of a file")
    try:
        with Path(path).open("rb") as file:
            return file.read(limit + 1)
    except OSError as exc:
        raise ValueError(exc.strerror or type(exc).__name__) from exc


def is_workspace_name(text: str) -> bool:
    """Whether a workspace can be configured under such a name."""
    return _NAME.fullmatch(text) is not None


def quote(value: object, *, url: bool = False) -> str:
    """A value as messages quote it: without what may be a key, and cut where it is long; empty for what is no text."""
    if isinstance(value, list | tuple) and value and all(isinstance(item, str) for item in value):
        value = ",".join(value)
    if not isinstance(value, str):
        return ""
    text = re.sub(r"sk_[0-9A-Za-z]{8,}", "***", value)
    text = _masked(text) if url or "://" in text else text
    return " " + json.dumps(text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "...", ensure_ascii=False)


def _masked(url: str) -> str:
    """The URL without user, password, query and fragment; where one cannot tell them apart, without all of them."""
    scheme, slashes, rest = url.partition("://") if "://" in url else ("", "", url)
    if "@" in rest and re.search(r"[?#]", rest):
        return f"{scheme}{slashes}***"
    rest = re.sub(r"^.*@", "***@", rest, flags=re.DOTALL)
    return scheme + slashes + re.sub(r"([?#]).+", r"\1***", rest, flags=re.DOTALL)


CommaSeparated: TypeAlias = Annotated[tuple[T, ...], BeforeValidator(_items), AfterValidator(distinct)]
"""A list, whether it has commas, was given in parts, or both."""

Bound: TypeAlias = Annotated[float, _positive(sys.float_info.max, "must be a number of seconds above 0")]
Bounds: TypeAlias = Annotated[tuple[Bound, ...], BeforeValidator(_items), AfterValidator(_ascending)]
Share: TypeAlias = Annotated[float, _positive(1.0, "must be a number above 0 and at most 1")]
Bool: TypeAlias = Annotated[
    bool, _parsed(lambda text: {"true": True, "false": False}.get(text.lower()), "must be true or false")
]
RateLimit: TypeAlias = Annotated[
    int, _parsed(_rate_limit, f"must be a whole number of at least 1, or one of {', '.join(RATE_LIMITS)}")
]
ListenAddress: TypeAlias = Annotated[
    Address | UnixPath,
    _parsed(
        _address_or_path, "not an address; write it like :10077, 127.0.0.1:10077, [::1]:10077 or unix:/run/late.sock"
    ),
]
TcpAddress: TypeAlias = Annotated[
    Address, _parsed(_address, "not an address; write it like :10077, 127.0.0.1:10077 or [::1]:10077")
]
File: TypeAlias = Annotated[Path, _parsed(Path, "must be the path of a file")]
Timestamp: TypeAlias = Annotated[float, Parsed(_moment)]
TargetLabel: TypeAlias = Annotated[
    tuple[str, str], _parsed(_target_label, "must be a name and a value, like job=late; names do not begin with __")
]
TelemetryPath: TypeAlias = Annotated[str, Parsed(_telemetry_path)]
WebhookPath: TypeAlias = Annotated[str, Parsed(_webhook_path)]
BaseUrl: TypeAlias = Annotated[str, Parsed(_base_url)]
Key: TypeAlias = Annotated[SecretStr, Parsed(_key)]
KeyFile: TypeAlias = Annotated[_KeyFile, Parsed(_key_file)]
WorkspaceName: TypeAlias = Annotated[str, _matching(_NAME.pattern, INVALID_NAME)]
StateUrl: TypeAlias = Annotated[
    str,
    _matching(
        r"sqlite://(/[^?#]*[^?#/])?",
        "must be sqlite:///relative/path.db, sqlite:////absolute/path.db, or sqlite:// for memory",
    ),
]
