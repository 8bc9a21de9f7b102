"""Options that give each of several names a list of values: ``NAME=VALUE,VALUE``, or a mapping in the file."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeAlias

from late_exporter.config.options import suggest
from late_exporter.config.parsers import Parser, split_items
from late_exporter.config.types import INVALID_NAME, MAX_BUCKETS, NUMBER, is_workspace_name
from late_exporter.masking import quote

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

MAX_SUGGESTIONS = 3


class NamedList(NamedTuple):
    """A name with its values."""

    name: str
    values: tuple[Any, ...]

    def __str__(self) -> str:
        texts = [f"{value:.15g}" if isinstance(value, float) else str(value) for value in self.values]
        return f"{self.name}={','.join(texts)}"


class NamedListParser:
    """Parser of named lists, from texts or from a mapping.

    Args:
        form: How a name and its values are written.
        parse: Function that parses a name and its values, or raises ValueError.
    """

    def __init__(self, form: str, parse: Callable[[str, Sequence[str]], NamedList]) -> None:
        self._form = form
        self._parse = parse

    def __call__(self, value: object) -> tuple[NamedList, ...]:
        if value is None:
            return ()
        pairs = value.items() if isinstance(value, Mapping) else self._split(value)
        lists: dict[str, NamedList] = {}
        for name, texts in pairs:
            parsed = self._parse(name, split_items(texts))
            if parsed.name in lists:
                raise ValueError(f"{parsed.name} is given twice")
            lists[parsed.name] = parsed
        return tuple(lists.values())

    def _split(self, value: Any) -> Sequence[tuple[str, list[str]]]:
        """Group items: one without a name belongs to the name before it."""
        pairs: dict[str, list[str]] = {}
        for text in [value] if isinstance(value, str) else value:
            name = ""
            for item in split_items(text):
                before, equals, after = item.rpartition("=")
                name = before.strip() if equals else name
                if not name:
                    raise ValueError(f"must be {self._form}")
                pairs.setdefault(name, []).append(after.strip())
        return list(pairs.items())

    def __get_pydantic_core_schema__(self, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema  # noqa: PLC0415 - takes long to import

        return core_schema.no_info_plain_validator_function(self)


def _user_workspaces(user: str, workspaces: Sequence[str]) -> NamedList:
    for index, workspace in enumerate(workspaces):
        if not is_workspace_name(workspace):
            raise ValueError(f"the workspace{quote(workspace)} of {user} {INVALID_NAME}")
        if workspace in workspaces[:index]:
            raise ValueError(f"{user}={workspace} is given twice")
    return NamedList(user, tuple(workspaces))


def _buckets(family: str, bounds: Sequence[str]) -> NamedList:
    from late_exporter.metrics.catalogue import CATALOGUE  # noqa: PLC0415 - not needed without the option

    histograms = [name for name, each in CATALOGUE.items() if each.kind == "histogram"]
    if family not in histograms:
        raise ValueError(f"{quote(family).strip()} is not a histogram; these are {', '.join(histograms)}")
    values: list[float] = []
    for text in bounds:
        if not re.fullmatch(NUMBER, text) or not 0.0 < float(text) < math.inf:
            raise ValueError(f"the bound{quote(text)} of {family} must be a number above 0")
        values.append(float(text))
    if values != sorted(set(values)):
        raise ValueError(f"the bounds of {family} must be in ascending order, each bound once")
    if len(values) > MAX_BUCKETS:
        raise ValueError(f"at most {MAX_BUCKETS} bounds are allowed for {family}, not {len(values)}")
    return NamedList(family, tuple(values))


def _family_name(name: str) -> str:
    from late_exporter.metrics.catalogue import CATALOGUE  # noqa: PLC0415 - as above

    if name not in CATALOGUE:
        raise ValueError(f"is not a family of the exporter{suggest(name, CATALOGUE, 'late_', MAX_SUGGESTIONS)}")
    return name


UserWorkspaces: TypeAlias = Annotated[
    tuple[NamedList, ...], NamedListParser("USER=WORKSPACE, like customer-a=brand-a", _user_workspaces)
]
FamilyBuckets: TypeAlias = Annotated[
    tuple[NamedList, ...], NamedListParser("FAMILY=BOUND,BOUND, like late_publishing_attempts=1,2,3", _buckets)
]
FamilyName: TypeAlias = Annotated[str, Parser(_family_name)]
