"""Values of options and their parsers, which raise ValueError with what a value must be.

The health check and the web server use this module too, so it imports only what is quick to import;
the types with which the settings are annotated are in ``fields``.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

MAX_FILE = 1 << 20
MAX_PORT = 65_535

_UNITS = {
    "y": 31_536_000.0,
    "w": 604_800.0,
    "d": 86_400.0,
    "h": 3600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 0.001,
}
_DURATION = "".join(rf"(?:([0-9]+){unit})?" for unit in _UNITS)
_ADDRESS = (
    r"(?:\[(?P<six>[0-9a-fA-F:.]+(?:%\w+)?)\]|(?P<host>[A-Za-z0-9._-]*)):(?P<port>[0-9]{1,5})"
)


class Address(NamedTuple):
    """A TCP address to listen on; an empty host means every interface."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_duration(text: str) -> float:
    """Return the seconds of a Prometheus duration.

    That has units from large to small, each at most once, or is a bare 0.
    """
    if text == "0":
        return 0.0
    match = re.fullmatch(_DURATION, text)
    if match is None or not text:
        raise ValueError("not a duration; write it like 500ms, 30s, 1h30m, 7d or 2w")
    counts = map(float, match.groups("0"))
    return sum(count * size for count, size in zip(counts, _UNITS.values(), strict=True))


def format_duration(seconds: float) -> str:
    """Return a duration as in Prometheus, for example ``1h30m``."""
    rest = round(seconds * 1000)
    text = ""
    for unit, size in _UNITS.items():
        if unit in "yw":
            continue
        count, rest = divmod(rest, round(size * 1000))
        if count:
            text += f"{count}{unit}"
    return text or "0s"


def split_items(value: str | Sequence[str] | None) -> list[str]:
    """Return the items of comma-separated texts; None, ``none`` and an empty text have none."""
    texts = [value] if isinstance(value, str) else value or ()
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise ValueError("must be one value or a list of values")
    items = [item.strip() for text in texts for item in text.split(",")]
    return [] if items in (["none"], [""]) else items


def parse_address(text: str) -> Address:
    match = re.fullmatch(_ADDRESS, text)
    if match is None or int(match["port"]) > MAX_PORT:
        raise ValueError("not an address; write it like :10077, 127.0.0.1:10077, [::1]:10077")
    return Address(match["six"] or match["host"], int(match["port"]))


def read_file(path: str, *, must_be_regular: bool = False) -> bytes:
    """Return the content of a file, cut one byte after MAX_FILE.

    Args:
        path: Path of the file.
        must_be_regular: Whether to reject pipes and devices, which cannot be read again.

    Raises:
        ValueError: It cannot be read; the message is the reason.
    """
    if not path or "\0" in path:
        raise ValueError("must be the path of a file")
    try:
        if must_be_regular and not stat.S_ISREG(Path(path).stat().st_mode):
            raise ValueError("must be a regular file, because it is read again when it changes")
        with Path(path).open("rb") as file:
            return file.read(MAX_FILE + 1)
    except OSError as exc:
        raise ValueError(exc.strerror or type(exc).__name__) from exc
