"""Parsers of option values, with which types are annotated; pydantic calls them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

_UNITS = {"y": 31_536_000.0, "w": 604_800.0, "d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}

_DURATION = "".join(rf"(?:([0-9]+){unit})?" for unit in _UNITS)
MAX_DIGITS = 18  # of whole numbers, so that they fit into 64 bits


class Parser:
    """Parser of an option's value.

    Args:
        parse: Function that parses a text. It raises ValueError, or returns None if ``message`` is the reason.
        message: Reason to reject a text.
        kind: Type of what is parsed.
    """

    def __init__(self, parse: Callable[[Any], object], message: str = "", *, kind: type = str) -> None:
        self._parse = parse
        self._message = message
        self._kind = kind

    def __call__(self, value: object) -> Any:
        if not isinstance(value, self._kind):
            expected = "a mapping" if self._kind is dict else "one value"
            raise ValueError(f"must be {expected}")  # noqa: TRY004 - pydantic expects a ValueError
        result = self._parse(value)
        if result is None:
            raise ValueError(self._message)
        return result

    def __get_pydantic_core_schema__(self, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema  # noqa: PLC0415 - takes long to import

        return core_schema.no_info_plain_validator_function(self)


class ListParser:
    """Parser of several values, each of which is parsed by the parser of its type.

    Args:
        split: Function that returns the texts of the values.
        check: Function that returns the values, or raises ValueError if they contradict each other.
    """

    def __init__(
        self,
        split: Callable[[str | Sequence[str] | None], list[str]],
        check: Callable[[tuple[Any, ...]], tuple[Any, ...]],
    ) -> None:
        self._split = split
        self._check = check

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema  # noqa: PLC0415 - as above

        values = core_schema.no_info_before_validator_function(self._split, handler(source))
        return core_schema.no_info_after_validator_function(self._check, values)


def integer(low: int, high: int | None = None) -> Parser:
    """Return a parser of whole numbers."""
    maximum = 10**MAX_DIGITS - 1 if high is None else high

    def parse(text: str) -> int:
        is_short = len(text) <= MAX_DIGITS
        if is_short and re.fullmatch(r"[0-9]+", text) and low <= int(text) <= maximum:
            return int(text)
        # Nearly every wrong number is a small one, for which a maximum of this size would only confuse.
        limit = "" if high is None and (is_short or not text.isdecimal()) else f" and at most {maximum}"
        raise ValueError(f"must be a whole number of at least {low}{limit}")

    return Parser(parse)


def duration(low: str, high: str = "100y") -> Parser:
    """Return a parser of Prometheus durations, which returns seconds."""

    def parse(text: str) -> float:
        seconds = _seconds(text)
        if not _seconds(low) <= seconds <= _seconds(high):
            raise ValueError(f"must be at least {low} and at most {high}")
        return seconds

    return Parser(parse)


def _seconds(text: str) -> float:
    """Parse units from large to small, each at most once, or a bare 0."""
    match = re.fullmatch(_DURATION, text)
    if text == "0":
        return 0.0
    if match is None or not text:
        raise ValueError("not a duration; write it like 500ms, 30s, 1h30m, 7d or 2w")
    return sum(float(count) * size for count, size in zip(match.groups(), _UNITS.values(), strict=True) if count)


def split_items(value: str | Sequence[str] | None) -> list[str]:
    """Return the items of comma-separated texts, none if there is no value; raise ValueError if all are empty."""
    if value is None:
        return []
    texts = [value] if isinstance(value, str) else value
    items = [item.strip() for text in texts for item in text.split(",")]
    if not any(items):
        raise ValueError("must name at least one")
    return items


def distinct(items: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the items; raise ValueError if one of them occurs twice."""
    duplicate = next((item for index, item in enumerate(items) if item in items[:index]), None)
    if duplicate is not None:
        raise ValueError(f"{duplicate} is given twice")
    return items
