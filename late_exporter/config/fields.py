"""Types of the settings: what pydantic makes of the text of an option, and what it rejects."""

# Annotations are evaluated by pydantic.

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar
from urllib.parse import parse_qsl

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    HttpUrl,
    PlainSerializer,
    PlainValidator,
    SecretStr,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
)

from late_exporter.config import types
from late_exporter.config.messages import suggest
from late_exporter.metrics.catalogue import CATALOGUE

T = TypeVar("T")

RESERVED_PATHS = ("/", "/config", "/-/healthy", "/-/ready", "/-/reload", "/-/quit")
PROCESS_FAMILIES = ("process_*", "python_*")  # those of prometheus_client, not in the catalogue
POSTGRES = "postgresql://"
_HTTP_URL = TypeAdapter(HttpUrl)
NOT_A_KEY = (
    "not a valid key (its value is not shown); a key is 1 to 512 visible ASCII characters without "
    "whitespace"
)


@dataclass(frozen=True)
class SecretFile:
    """A file that holds an API key or a password, and its content, which may change."""

    path: Path
    key: SecretStr = field(compare=False)

    def __str__(self) -> str:
        return str(self.path)


def parsed_by(parse: Callable[[str], Any]) -> PlainValidator:
    """Return a validator that parses a text with a function that raises ValueError."""

    def validate(value: object) -> Any:
        if not isinstance(value, str):
            raise ValueError("must be one value")  # noqa: TRY004 - pydantic expects a ValueError
        return parse(value)

    return PlainValidator(validate)


def duration(low: str, high: str = "100y") -> PlainValidator:
    """Return a validator of Prometheus durations, which become seconds."""

    def parse(text: str) -> float:
        seconds = types.parse_duration(text)
        if not types.parse_duration(low) <= seconds <= types.parse_duration(high):
            raise ValueError(f"must be at least {low} and at most {high}")
        return seconds

    return parsed_by(parse)


def matching(pattern: str, message: str) -> AfterValidator:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text) or not text.isprintable():
            raise ValueError(message)
        return text

    return AfterValidator(check)


def distinct(items: tuple[T, ...]) -> tuple[T, ...]:
    """Return the items; raise ValueError if one of them occurs twice."""
    for item in items:
        if items.count(item) > 1:
            raise ValueError(f"{item} is given twice")
    return items


def _ascending(bounds: tuple[float, ...]) -> tuple[float, ...]:
    if list(bounds) != sorted(set(bounds)):
        raise ValueError("must be in ascending order, each bound once")
    return bounds


def _split_buckets(value: Any) -> dict[str, list[str]]:
    """Return the bounds of each family, from a mapping or from ``FAMILY=BOUND,BOUND``."""
    buckets = value
    if not isinstance(value, Mapping):
        texts = re.split(r",(?=\s*\w+=)", ",".join(types.split_items(value)))
        buckets = dict(text.partition("=")[::2] for text in texts if text)
    return {name.strip(): types.split_items(bounds) for name, bounds in buckets.items()}


def _histogram(name: str) -> str:
    histograms = [family.name for family in CATALOGUE.values() if family.kind == "histogram"]
    if name not in histograms:
        raise ValueError(f"is not a histogram; these are {', '.join(histograms)}")
    return name


def _family_name(name: str) -> str:
    if name not in CATALOGUE and name not in PROCESS_FAMILIES:
        raise ValueError(f"is not a family of the exporter{suggest(name, CATALOGUE, 'late_')}")
    return name


def _not_reserved(path: str) -> str:
    if path in RESERVED_PATHS:
        raise ValueError(f"must not be one of {', '.join(RESERVED_PATHS)}")
    return path


def _base_url(text: str) -> str:
    if "@" in text:
        raise ValueError(
            "must not contain a user or password; give the key with ZERNIO_API_KEY or "
            "--api.key-file"
        )
    if re.search("[?#]", text):
        raise ValueError("must not contain a query or fragment")
    try:
        url = _HTTP_URL.validate_python(text)
    except ValidationError:
        raise ValueError("must be a URL like https://zernio.com/api") from None
    if url.scheme == "http" and not _is_loopback(str(url.host).strip("[]")):
        raise ValueError(
            "must begin with https://; plain http is allowed for loopback addresses only"
        )
    return re.sub("(?<!/)/v1$", "", str(url).rstrip("/"))  # The vendor's own node writes it so.


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def parse_state_url(text: str) -> str:
    if re.fullmatch(f"{POSTGRES}[!-~]+", text):
        user = text.removeprefix(POSTGRES).rpartition("@")[0]
        names = dict(parse_qsl(text.partition("?")[2], keep_blank_values=True)).keys()
        if ":" in user or names & {"password", "sslpassword"}:
            raise ValueError(
                "must not contain a password; name a file that holds it with "
                "--state.password-file or PGPASSFILE"
            )
        return text
    if not re.fullmatch(r"sqlite://(/[^?#]*[^?#/])?", text) or not text.isprintable():
        raise ValueError(
            "must be sqlite:///relative/path.db, sqlite:////absolute/path.db, sqlite:// for "
            "memory, or postgresql://user@host/database"
        )
    return text


def _require_postgres(replicas: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - pydantic's signature
    if replicas and not info.data.get("url", POSTGRES).startswith(POSTGRES):
        raise ValueError(
            "replicas share a state in PostgreSQL; name its database with --state.url "
            "postgresql://user@host/database"
        )
    return replicas


def _key(text: str) -> str:
    key = text.strip()
    if not re.fullmatch(r"[!-~]{1,512}", key):
        raise ValueError(NOT_A_KEY)
    return key


def _key_file(path: str) -> SecretFile:
    key = _key(types.read_file(path).decode("latin-1"))
    return SecretFile(Path(path), SecretStr(key))


def _password_file(path: str) -> SecretFile:
    try:
        text = types.read_file(path).decode("utf-8").strip("\r\n")
    except UnicodeDecodeError:
        raise ValueError("the file is not UTF-8") from None
    if not re.fullmatch(r"[^\0\n]{1,1024}", text):
        raise ValueError("the file must contain one password")
    return SecretFile(Path(path), SecretStr(text))


CommaSeparated: TypeAlias = Annotated[
    tuple[T, ...], BeforeValidator(types.split_items), AfterValidator(distinct)
]
"""A tuple, from a comma-separated text, several texts, or both; empty for ``none``."""

StatusFeedName: TypeAlias = Literal["posts", "accounts", "webhooks", "billing"]
LowerCase: TypeAlias = Annotated[str, StringConstraints(to_lower=True)]
FeedName: TypeAlias = Literal[
    "publishing", "connections", "webhooks", "messaging", "workflow_event", "api_request"
]

Share: TypeAlias = Annotated[float, Field(gt=0, le=1)]
Bound: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]
ListenAddress: TypeAlias = Annotated[
    types.Address, parsed_by(types.parse_address), PlainSerializer(str)
]
HttpPath: TypeAlias = Annotated[
    str,
    matching(
        r"/[A-Za-z0-9._~/-]*", "must begin with / and contain only letters, digits and - . _ ~ /"
    ),
]
TelemetryPath: TypeAlias = Annotated[HttpPath, AfterValidator(_not_reserved)]
BaseUrl: TypeAlias = Annotated[str, AfterValidator(_base_url)]
StateUrl: TypeAlias = Annotated[str, AfterValidator(parse_state_url)]
Replicas: TypeAlias = Annotated[bool, AfterValidator(_require_postgres)]
Key: TypeAlias = Annotated[SecretStr, BeforeValidator(_key)]
KeyFile: TypeAlias = Annotated[SecretFile, parsed_by(_key_file), PlainSerializer(str)]
PasswordFile: TypeAlias = Annotated[SecretFile, parsed_by(_password_file), PlainSerializer(str)]
WorkspaceName: TypeAlias = Annotated[
    str, matching(r"[A-Za-z0-9_.-]{1,64}", "must be 1 to 64 letters, digits, or _ . -")
]
ProfileId: TypeAlias = Annotated[
    str,
    matching("[!-~]{1,200}", "must be 1 to 200 visible ASCII characters; leave it out to read all"),
]
LabelName: TypeAlias = Annotated[
    str,
    matching(
        r"(?!__|(?:workspace|job|instance)$)[A-Za-z_][A-Za-z0-9_]{0,63}",
        "must be 1 to 64 letters, digits or _, and not workspace, job, instance",
    ),
]
LabelValue: TypeAlias = Annotated[
    str, matching(".{1,100}", "must be 1 to 100 printable characters")
]
WorkspaceLabels: TypeAlias = dict[LabelName, LabelValue]
FamilyName: TypeAlias = Annotated[str, AfterValidator(_family_name)]
FamilyBuckets: TypeAlias = Annotated[
    dict[
        Annotated[str, AfterValidator(_histogram)],
        Annotated[tuple[Bound, ...], AfterValidator(_ascending)],
    ],
    BeforeValidator(_split_buckets),
]
