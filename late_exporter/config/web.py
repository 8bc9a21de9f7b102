"""The file of ``--web.config.file``: TLS, users, headers and limits of the web server, as the exporter-toolkit has it.

The format is that of https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md, so that the
file which a team has for its other exporters does here as well. Paths in it are relative to it.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Self, TypeAlias

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from late_exporter.config.tls import Tls, TlsError, create_context
from late_exporter.config.types import EMPTY_VALUES, Section, duration, integer, quote, read_file
from late_exporter.errors import ConfigError
from late_exporter.protocols import Log

__all__ = ["RequestRate", "WebConfig", "WebConfigWatcher", "load"]

MAX_FILE = 1 << 20

HEADERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Content-Security-Policy": (),
        "Strict-Transport-Security": (),
        "X-Content-Type-Options": ("nosniff",),
        "X-Frame-Options": ("deny", "sameorigin"),
        "X-XSS-Protection": (),
    }
)
"""The headers that a file may set, and the values they may have where not any will do."""

HASH = re.compile(r"\$2[abxy]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")

REASONS = MappingProxyType(
    {
        "bool_parsing": "must be true or false",
        "bool_type": "must be true or false",
        "dict_type": "must be a mapping",
        "extra_forbidden": "unknown",
        "model_type": "must be a mapping",
        "string_type": "must be one value",
        "tuple_type": "must be a list",
    }
)
"""What pydantic's types of errors mean to whoever wrote the file."""

FileStamp: TypeAlias = tuple[int, int, int] | None
"""What tells one state of a file from another; None: it is not there."""


@dataclass(frozen=True, slots=True)
class RequestRate:
    """A token bucket: ``burst`` requests at once, and one more after every ``interval`` seconds."""

    interval: float
    burst: int


@dataclass(frozen=True, slots=True)
class WebConfig:
    """How the web server is to behave.

    Args:
        ssl_context: For TLS; None is plain HTTP.
        allowed_sans: A client's certificate has to carry one of these names; empty: any will do.
        headers: Of every answer.
        users: The bcrypt hash of each user's password; without any, nobody is asked for one.
        open_paths: Paths for which nobody is asked for a password.
        rate: Limits all requests together.
        files: What the configuration was read from, and how that looked then.
        warnings: What of it has no effect here.
    """

    ssl_context: ssl.SSLContext | None = None
    allowed_sans: frozenset[str] = frozenset()
    headers: tuple[tuple[str, str], ...] = ()
    users: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    open_paths: frozenset[str] = frozenset()
    rate: RequestRate | None = None
    files: Mapping[Path, FileStamp] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def load(path: Path) -> WebConfig:
    """Read the file, and the certificates that it names; raises ConfigError with every mistake there is."""
    return _load(path, {})


class WebConfigWatcher:
    """How the web server is to behave, as of now: its file and certificates are read again when they change.

    Args:
        config: As it was read at first.
        log: Hears of what cannot be read; then all stays as it was.
    """

    def __init__(self, config: WebConfig, log: Log) -> None:
        self._log = log
        self.replace(config)

    def replace(self, config: WebConfig) -> None:
        """Go on with what was read anew."""
        self._config = config
        self._files = config.files
        for remark in config.warnings:
            self._log.warning("web configuration", remark=remark)

    def current(self) -> WebConfig:
        """The configuration."""
        if any(_looks(file) != looked for file, looked in self._files.items()):
            self._read()
        return self._config

    def _read(self) -> None:
        files: dict[Path, FileStamp] = {}
        try:
            self.replace(_load(next(iter(self._files)), files))
        except ConfigError as exc:
            self._files = files  # a file that is missing may come later
            self._log.warning("web configuration not changed", error="; ".join(exc.problems))
        else:
            self._log.info("web configuration changed")


def _load(path: Path, files: dict[Path, FileStamp]) -> WebConfig:
    """Read the file; ``files`` takes what that depends on, even where it fails, as it looks before it is read."""
    files[path] = _looks(path)
    root = _root(path)
    given, problems = _given(path, root)
    if given is None or problems:
        raise ConfigError(*problems)
    tls, beside, limit = given.tls_server_config, path.parent, given.rate_limit
    files.update((beside / name, _looks(beside / name)) for name in tls.files)
    try:
        context = create_context(tls, beside) if tls.is_set else None
    except TlsError as exc:
        raise ConfigError(f"{_place(path, root, ('tls_server_config', exc.option))}: {exc}") from None
    return WebConfig(
        ssl_context=context,
        allowed_sans=frozenset(tls.client_allowed_sans),
        headers=tuple((name, value) for name, value in given.http_server_config.headers.items() if value),
        users={name: hashed.encode() for name, hashed in given.basic_auth_users.items()},
        open_paths=frozenset(given.auth_excluded_paths),
        rate=RequestRate(limit.interval, limit.burst) if limit.interval else None,
        files=files,
        warnings=tuple(_remarks(given)),
    )


def _looks(file: Path) -> FileStamp:
    try:
        found = file.stat()
    except (OSError, ValueError):
        return None
    return found.st_ctime_ns, found.st_ino, found.st_size


def _one(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("must be one value")  # noqa: TRY004 - pydantic wants a ValueError
    return value


def _usable_hash(text: str) -> str:
    if not HASH.fullmatch(text):
        raise ValueError("must be a bcrypt hash, as htpasswd -nBC 10 makes it")
    return text


def _usable_name(name: str) -> str:
    if not name or ":" in name or not name.isprintable():
        raise ValueError("a user's name must be printable, and without a colon")
    return name


def _usable_headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if name not in HEADERS:
            raise ValueError(f"{name} cannot be set; there are {', '.join(HEADERS)}")
        if value and HEADERS[name] and value not in HEADERS[name]:
            raise ValueError(f"{name} must be {' or '.join(HEADERS[name])}")
        if not value.isprintable() or not value.isascii():
            raise ValueError(f"{name} must be printable ASCII")
    return headers


def _rooted(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError("a path must begin with /")
    return path


class _Http(Section):
    http2: bool | None = None
    headers: Annotated[dict[str, str], AfterValidator(_usable_headers)] = Field(default_factory=dict)


class _RateLimit(Section):
    interval: Annotated[float, duration("0"), BeforeValidator(_one)] = 0.0
    burst: Annotated[int, integer(0), BeforeValidator(_one)] = 0

    @model_validator(mode="after")
    def _lets_pass(self) -> Self:
        if self.interval and not self.burst:
            raise ValueError("burst must be at least 1, or no request would ever pass")
        return self


class _Given(Section):
    tls_server_config: Tls = Tls()
    http_server_config: _Http = _Http()
    basic_auth_users: dict[
        Annotated[str, AfterValidator(_usable_name)], Annotated[str, AfterValidator(_usable_hash)]
    ] = Field(default_factory=dict)
    rate_limit: _RateLimit = _RateLimit()
    auth_excluded_paths: tuple[Annotated[str, AfterValidator(_rooted)], ...] = ()


def _root(path: Path) -> yaml.Node:
    try:
        read = read_file(str(path), MAX_FILE)
        if len(read) > MAX_FILE:
            raise ValueError("larger than 1 MiB")  # noqa: TRY301 - told as the other reasons are
        root = yaml.compose(read.decode("utf-8-sig"), Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        # What it quotes may be a part of a secret.
        problem = re.sub(r"""(['"]).{2,}\1""", "...", str(exc.problem), flags=re.DOTALL)
        raise ConfigError(f"{place}: not valid YAML: {problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise ConfigError(f"{path}: not a text file in UTF-8") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply") from None
    except OverflowError:
        raise ConfigError(f"{path}: holds an escape that is no character") from None
    except ValueError as exc:
        raise ConfigError(f"{path}: {exc}") from None
    if root is None or (isinstance(root, yaml.ScalarNode) and root.value in EMPTY_VALUES):
        return yaml.MappingNode("", [])
    return root


def _given(path: Path, root: yaml.Node) -> tuple[_Given | None, list[str]]:
    problems: list[str] = []
    plain = _plain(path, root, problems, {})
    if not isinstance(plain, dict):
        return None, [f"{path}: must be a mapping, as in basic_auth_users: {{alice: $2y$10$...}}"]
    try:
        return _Given.model_validate(plain), problems
    except ValidationError as exc:
        errors = sorted(exc.errors(), key=lambda error: _line(root, error["loc"]))
        return None, [*problems, *(_problem(path, root, error) for error in errors)]


def _plain(path: Path, node: yaml.Node, problems: list[str], known: dict[int, Any]) -> Any:
    """The node as dicts, lists and texts, each node once, however many aliases it has; wrong keys are mistakes."""
    if id(node) in known:
        return known[id(node)]
    match node:
        case yaml.MappingNode():
            mapping: dict[str, Any] = {}
            known[id(node)] = mapping
            for key, value in node.value:
                place = f"{path}:{key.start_mark.line + 1}"
                if not isinstance(key, yaml.ScalarNode):
                    problems.append(f"{place}: a key must be one word")
                    continue
                if key.value in mapping:
                    problems.append(f"{place}: {_named((key.value,))}: given twice")
                mapping[key.value] = _plain(path, value, problems, known)
            return mapping
        case yaml.SequenceNode():
            items: list[Any] = []
            known[id(node)] = items
            items += [_plain(path, item, problems, known) for item in node.value]
            return items
        case _:
            return node.value


def _problem(path: Path, root: yaml.Node, error: ErrorDetails) -> str:
    place = _place(path, root, tuple(part for part in error["loc"] if part != "[key]"))
    match error["type"]:
        case "literal_error":
            return f"{place}{quote(error['input'])}: must be one of {error['ctx']['expected']}"
        case "value_error":
            return f"{place}: {error['ctx']['error']}"
        case kind:
            return f"{place}: {REASONS.get(kind) or error['msg'].removeprefix('Input ')}"


def _place(path: Path, root: yaml.Node, loc: tuple[int | str, ...]) -> str:
    return f"{path}:{_line(root, loc)}: {_named(loc)}"


def _named(loc: tuple[int | str, ...]) -> str:
    """The keys that lead to a place. Behind a colon in one, or in place of one, stands a secret by mistake."""
    return ".".join(re.sub(r":.*|\$2.*", "***", str(part), flags=re.DOTALL) for part in loc)


def _line(root: yaml.Node, loc: tuple[int | str, ...]) -> int:
    """The line of what is at a place, or of what is nearest to it; counted from 1."""
    node, line = root, 1
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == part), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line


def _remarks(given: _Given) -> Iterator[str]:
    yield from (f"tls_server_config.{remark}" for remark in given.tls_server_config.remarks())
    if not given.tls_server_config.is_set and given.tls_server_config != Tls():
        yield "tls_server_config: without a certificate there is no TLS"
    if given.http_server_config.http2:
        yield "http_server_config.http2: HTTP/2 is not supported, HTTP/1.1 is served"
