"""Type of the option ``--events.output``, parsed from text."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, TypeAlias

from late_exporter.config.parsers import Parser


class EventTarget(NamedTuple):
    """Where log events are delivered to; ``path`` is that of a file."""

    kind: Literal["stdout", "file"]
    path: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.path}" if self.path else self.kind


def _parse_target(text: str) -> EventTarget | None:
    if text == "stdout":
        return EventTarget("stdout")
    kind, _, path = text.partition(":")
    return EventTarget("file", path) if kind == "file" and path and path.isprintable() else None


EventOutput: TypeAlias = Annotated[EventTarget, Parser(_parse_target, "must be stdout or file:PATH")]
