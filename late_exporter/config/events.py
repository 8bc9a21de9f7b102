"""Types of the options of log events, each parsed from text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, TypeAlias

from late_exporter.config.parsers import Parser
from late_exporter.config.types import check_url, read_file

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLE_URLS = {"loki": "http://loki:3100", "otlp": "http://collector:4318"}

MAX_HEADERS = 16_384
"""Maximum size of a file with headers, in bytes."""

_HEADER_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"


class EventTarget(NamedTuple):
    """Where log events are delivered to: the kind of output, and its path or URL."""

    kind: Literal["stdout", "file", "loki", "otlp"]
    location: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.location}" if self.location else self.kind


class HeaderFile(NamedTuple):
    """A file with headers of HTTP requests, which is read again at each request."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


def _parse_target(text: str) -> EventTarget | None:
    kind, _, location = text.partition(":")
    if text == "stdout":
        return EventTarget("stdout")
    if kind == "file" and location and location.isprintable():
        return EventTarget("file", location)
    if kind not in ("loki", "otlp"):
        return None
    check_url(location, f"must be {kind}: and a URL, like {kind}:{EXAMPLE_URLS[kind]}", "see --events.headers-file")
    return EventTarget("loki" if kind == "loki" else "otlp", location.rstrip("/"))


def read_headers(path: str) -> dict[str, str]:
    """Return the headers in a file, one per line as in ``X-Scope-OrgID: acme``; raise ValueError for any other line."""
    text = read_file(path, MAX_HEADERS).decode("latin-1")
    headers = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, _, value = line.partition(":")
        if not re.fullmatch(_HEADER_NAME, name) or not re.fullmatch(r"[ -~]+", value.strip()):
            raise ValueError("each line must be a name, a colon and a value, like X-Scope-OrgID: acme")
        headers[name] = value.strip()
    if not headers or len(text) > MAX_HEADERS:
        raise ValueError(f"must contain headers, in at most {MAX_HEADERS} bytes")
    return headers


def _header_file(path: str) -> HeaderFile:
    from pathlib import Path  # noqa: PLC0415 - takes long to import

    read_headers(path)
    return HeaderFile(Path(path))


EventOutput: TypeAlias = Annotated[
    EventTarget, Parser(_parse_target, "must be stdout, file:PATH, loki:URL or otlp:URL")
]
HeadersFile: TypeAlias = Annotated[HeaderFile, Parser(_header_file)]
