"""Types of option values, each parsed from text; a ValueError says what a value must be.

A type is annotated with its parser, which pydantic calls. Commands that load no settings use this module too, so it
imports only what is quick to import.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, TypeAlias, TypeVar

from late_exporter.config.parsers import ListParser, Parser, distinct, split_items
from late_exporter.masking import quote

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")

RESERVED_PATHS = ("/", "/config", "/-/healthy", "/-/ready", "/-/reload", "/-/quit")
MAX_BUCKETS = 50
MAX_FILE = 1 << 20
MAX_PORT = 65_535
MAX_SOCKET_PATH = 107
MAX_LABEL_VALUE = 100
EMPTY_VALUES = ("", "~", "null")
NOT_A_URL = "must be a URL like https://zernio.com/api"
TARGET_LABELS = ("workspace", "job", "instance")
"""Labels that every series has already."""

INVALID_NAME = "must be 1 to 64 letters, digits, or _ . -"

NOT_A_KEY = "a key is 1 to 512 visible ASCII characters without whitespace"

# Patterns are compiled when they are first used: a command needs few of them, and compiling takes long.
NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_NAME = r"[A-Za-z0-9_.-]{1,64}"
_HOST_AND_PORT = r"(?:\[(?P<six>[^\[\]\s]+)\]|(?P<host>[A-Za-z0-9._-]*))(?::(?P<port>[0-9]{1,5}))?"


class Address(NamedTuple):
    """A TCP address to listen on; an empty host means every interface."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class UnixPath(NamedTuple):
    """A Unix socket to listen on."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"


MAX_PASSWORD = 1024
"""Maximum length of a password, in characters."""


class Secret:
    """A text that no representation shows."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def get_secret_value(self) -> str:
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other.get_secret_value()

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "Secret('***')"


class SecretFile(NamedTuple):
    """The content of a file that holds an API key or the secret of webhooks."""

    path: Path
    key: Secret


def _positive(high: float, message: str) -> Parser:
    return Parser(
        lambda text: float(text) if re.fullmatch(NUMBER, text) and 0.0 < float(text) <= high else None, message
    )


def _matching(pattern: str, message: str) -> Parser:
    return Parser(lambda text: text if re.fullmatch(pattern, text) and text.isprintable() else None, message)


def _workspace_labels(labels: dict[str, object]) -> tuple[tuple[str, str], ...]:
    for name, value in labels.items():
        if not re.fullmatch(r"(?!__)[A-Za-z_][A-Za-z0-9_]{0,63}", name) or name in TARGET_LABELS:
            names = ", ".join(TARGET_LABELS)
            raise ValueError(f"{quote(name).strip()}: must be 1 to 64 letters, digits or _, and not {names}")
        is_text = isinstance(value, str) and value not in EMPTY_VALUES
        if not (is_text and len(str(value)) <= MAX_LABEL_VALUE and str(value).isprintable()):
            raise ValueError(f"the value of {name} must be 1 to {MAX_LABEL_VALUE} printable characters, not null")
    return tuple((name, str(value)) for name, value in labels.items())


def _profile_id(text: str) -> str:
    if text in EMPTY_VALUES:
        raise ValueError("leave it out to read all profiles")
    if not re.fullmatch(r"[!-~]{1,200}", text):
        raise ValueError("must be 1 to 200 visible ASCII characters, no whitespace")
    return text


def _timestamp(text: str) -> float:
    from datetime import UTC, datetime  # noqa: PLC0415 - as above

    try:
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError("not a time; write it like 2026-11-20T08:00:00Z") from None


def _target_label(text: str) -> tuple[str, str] | None:
    name, equals, value = text.partition("=")
    if not equals or not value or not re.fullmatch(r"(?!__)[A-Za-z_][A-Za-z0-9_]*", name):
        return None
    return name, value


def _split_items_or_none(value: str | Sequence[str] | None) -> list[str]:
    texts = [value] if isinstance(value, str) else list(value or ())
    return [] if texts in ([], [""], ["none"]) else split_items(texts)


def _ascending(bounds: tuple[float, ...]) -> tuple[float, ...]:
    if list(bounds) != sorted(set(bounds)):
        raise ValueError("must be in ascending order, each bound once")
    if len(bounds) > MAX_BUCKETS:
        raise ValueError(f"at most {MAX_BUCKETS} bounds are allowed, not {len(bounds)}")
    return bounds


def _address(text: str) -> Address | None:
    host, port = _host_and_port(text)
    return Address(host, int(port)) if port else None


def _address_or_path(text: str) -> Address | UnixPath | None:
    path = text.removeprefix("unix:")
    if path == text:
        return _address(text)
    from pathlib import Path  # noqa: PLC0415 - takes long to import

    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        raise ValueError(f"the path of a socket has at most {MAX_SOCKET_PATH} bytes")
    return UnixPath(Path(path)) if path and "\0" not in path else None


def _host_and_port(text: str) -> tuple[str, str]:
    """Return host and port, each empty if it is missing, both empty if either is invalid."""
    match = re.fullmatch(_HOST_AND_PORT, text)
    if match is None or int(match["port"] or 0) > MAX_PORT:
        return "", ""
    host = match["six"] or match["host"]
    if match["six"] or re.fullmatch(r"[0-9.]+", host):
        import ipaddress  # noqa: PLC0415 - as above

        try:
            (ipaddress.IPv6Address if match["six"] else ipaddress.IPv4Address)(host)
        except ValueError:
            return "", ""
    return host, match["port"] or ""


def _http_path(text: str) -> str:
    if not re.fullmatch(r"/[A-Za-z0-9._~/-]*", text):
        raise ValueError("must begin with / and contain only letters, digits and - . _ ~ /")
    return text


def _telemetry_path(text: str) -> str:
    _http_path(text)
    if text in RESERVED_PATHS:
        raise ValueError(f"must not be one of {', '.join(RESERVED_PATHS)}")
    return text


def _webhook_path(text: str) -> str:
    if not re.fullmatch(r"(?:/[A-Za-z0-9._~-]+)+", text):
        raise ValueError("must be a path like /webhook, of letters, digits and - . _ ~ between slashes")
    if any(f"{path}/".startswith(f"{text}/") for path in RESERVED_PATHS):
        raise ValueError(f"must not be one of {', '.join(RESERVED_PATHS)}, nor a parent of one")
    return text


def _base_url(text: str) -> str:
    if not re.fullmatch(r"https?://[!-~]+", text) or "\\" in text:
        raise ValueError(NOT_A_URL)
    if "@" in text:
        raise ValueError("must not contain a user or password; give the key with LATE_API_KEY or --api.key-file")
    if "?" in text or "#" in text:
        raise ValueError("must not contain a query or fragment")
    host, port = _host_and_port(text.partition("://")[2].partition("/")[0])
    if not host or "%" in host or int(port or 443) == 0:
        raise ValueError(NOT_A_URL)
    if text.startswith("http:") and not _is_loopback(host):
        raise ValueError("must begin with https://; plain http is allowed for loopback addresses only")
    return text.rstrip("/")


def _is_loopback(host: str) -> bool:
    import ipaddress  # noqa: PLC0415 - as above

    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _key(secret: Secret) -> Secret:
    key = secret.get_secret_value().strip()
    if not key:
        raise ValueError("is empty; " + NOT_A_KEY)
    if not re.fullmatch(r"[!-~]{1,512}", key):
        raise ValueError("not a valid key (its value is not shown); " + NOT_A_KEY)
    return Secret(key)


def _key_file(path: str) -> SecretFile:
    from pathlib import Path  # noqa: PLC0415 - as above

    text = read_file(path, 4096).decode("latin-1")
    if not text.strip():
        raise ValueError("the file is empty")
    return SecretFile(Path(path), _key(Secret(text)))


def _password_file(path: str) -> SecretFile:
    from pathlib import Path  # noqa: PLC0415 - as above

    try:
        text = read_file(path, MAX_PASSWORD).decode("utf-8").strip("\r\n")
    except UnicodeDecodeError:
        raise ValueError("the file is not UTF-8") from None
    if not text or len(text) > MAX_PASSWORD or "\0" in text or "\n" in text:
        raise ValueError("the file must contain one password")
    return SecretFile(Path(path), Secret(text))


def parse_state_url(text: str) -> str:
    if re.fullmatch(r"postgresql://[!-~]+", text):
        from urllib.parse import parse_qsl  # noqa: PLC0415 - as above

        rest = text.removeprefix("postgresql://")
        # A password that is not quoted may have a slash or a question mark, at which the host seems to end.
        users = [rest.partition(sign)[0].rpartition("@")[0] for sign in "/?"]
        names = dict(parse_qsl(rest.partition("?")[2], keep_blank_values=True)).keys()
        if ":" in "".join(users) or names & {"password", "sslpassword"}:
            raise ValueError(
                "must not contain a password; name a file that holds it with --state.password-file or PGPASSFILE"
            )
        return text
    if not re.fullmatch(r"sqlite://(/[^?#]*[^?#/])?", text) or not text.isprintable():
        raise ValueError(
            "must be sqlite:///relative/path.db, sqlite:////absolute/path.db, sqlite:// for memory, or"
            " postgresql://user@host/database"
        )
    return text


def read_file(path: str, limit: int = MAX_FILE, *, must_be_regular: bool = False) -> bytes:
    """Return the content of a file, cut one byte after the limit; raise ValueError if it cannot be read.

    ``must_be_regular`` also rejects pipes and devices, whose content is gone when they are read again.
    """
    from pathlib import Path  # noqa: PLC0415 - as above

    if not path or "\0" in path:
        raise ValueError("must be the path of a file")
    try:
        if must_be_regular and not stat.S_ISREG(Path(path).stat().st_mode):
            raise ValueError("must be a regular file, because it is read again when it changes")
        with Path(path).open("rb") as file:
            return file.read(limit + 1)
    except OSError as exc:
        raise ValueError(exc.strerror or type(exc).__name__) from exc


def may_use_tls(web_config_file: str | None) -> bool:
    """Return whether a server with this file of its web configuration may use TLS.

    A server without TLS logs an attempt to use it, which a health check would repeat every few seconds.
    """
    if web_config_file is None:
        return False
    try:
        return b"tls_server_config" in read_file(web_config_file)
    except ValueError:
        return True


def is_workspace_name(text: str) -> bool:
    return re.fullmatch(_NAME, text) is not None


def is_utf8(text: str) -> bool:
    """Return whether an argument or a variable was UTF-8; Python keeps other bytes as surrogates."""
    return text.isascii() or not re.search("[\ud800-\udfff]", text)


CommaSeparated: TypeAlias = Annotated[tuple[T, ...], ListParser(split_items, distinct)]
"""A tuple, parsed from a comma-separated text, several texts, or both."""

StatusFeedName: TypeAlias = Literal["posts", "accounts", "cooldowns", "webhooks", "billing"]
StatusFeedNames: TypeAlias = Annotated[tuple[StatusFeedName, ...], ListParser(_split_items_or_none, distinct)]
"""As CommaSeparated, but possibly ``none`` or empty."""

FeedName: TypeAlias = Literal["publishing", "connections", "webhooks", "messaging", "workflow_event", "api_request"]
Bound: TypeAlias = Annotated[float, _positive(sys.float_info.max, "must be a number of seconds above 0")]
Bounds: TypeAlias = Annotated[tuple[Bound, ...], ListParser(split_items, _ascending)]
Share: TypeAlias = Annotated[float, _positive(1.0, "must be a number above 0 and at most 1")]
Bool: TypeAlias = Annotated[
    bool, Parser(lambda text: {"true": True, "false": False}.get(text.lower()), "must be true or false")
]
parse_listen_address = Parser(
    _address_or_path, "not an address; write it like :10077, 127.0.0.1:10077, [::1]:10077 or unix:/run/late.sock"
)
ListenAddress: TypeAlias = Annotated[Address | UnixPath, parse_listen_address]
TcpAddress: TypeAlias = Annotated[
    Address, Parser(_address, "not an address; write it like :10077, 127.0.0.1:10077 or [::1]:10077")
]
Timestamp: TypeAlias = Annotated[float, Parser(_timestamp)]
TargetLabel: TypeAlias = Annotated[
    tuple[str, str],
    Parser(_target_label, "must be a name and a value, like job=late; a name must not begin with __"),
]
HttpPath: TypeAlias = Annotated[str, Parser(_http_path)]
TelemetryPath: TypeAlias = Annotated[str, Parser(_telemetry_path)]
WebhookPath: TypeAlias = Annotated[str, Parser(_webhook_path)]
BaseUrl: TypeAlias = Annotated[str, Parser(_base_url)]
Key: TypeAlias = Annotated[Secret, Parser(_key, kind=Secret)]
KeyFile: TypeAlias = Annotated[SecretFile, Parser(_key_file)]
ProfileId: TypeAlias = Annotated[str, Parser(_profile_id)]
WorkspaceLabels: TypeAlias = Annotated[tuple[tuple[str, str], ...], Parser(_workspace_labels, kind=dict)]
WorkspaceName: TypeAlias = Annotated[str, _matching(_NAME, INVALID_NAME)]
StateUrl: TypeAlias = Annotated[str, Parser(parse_state_url)]
PasswordFile: TypeAlias = Annotated[SecretFile, Parser(_password_file)]
