"""The flags of single commands, which have neither a variable nor a place in a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from late_exporter.commands import COMMANDS
from late_exporter.errors import ConfigError
from late_exporter.options import option, table
from late_exporter.values import Switch, duration, shown

__all__ = ["ASKED", "Asked", "ask"]


AUDIT = ("audit",)


class Asked(BaseModel):
    """What a command is to do; what it does not have is left at its default."""

    model_config = ConfigDict(frozen=True)

    format: str = option(
        "", "FORMAT", "How to print.", tuple(name for name, command in COMMANDS.items() if command.formats)
    )

    once: Switch = option(
        "false",
        "",
        "Poll every feed until it is caught up, print the metrics, and end; exit 1 where a poll failed.",
        ("run",),
    )
    since: Annotated[float, duration("1m", "90d")] | None = option(
        None,
        "DURATION",
        "How far back to compare; all that the API shows and the exporter was to count if left out.",
        AUDIT,
    )
    workspace: str | None = option(None, "NAME", "Only this workspace.", AUDIT)
    wait: Annotated[float, duration("0s", "1d")] = option(
        "2m",
        "DURATION",
        "How long a running exporter may take to count what is in doubt, before it is a difference.",
        AUDIT,
    )


ASKED = tuple(table(Asked, variables=False))


def ask(command: str, flags: Mapping[str, Sequence[str]]) -> Asked:
    """What the flags of a command say; raises ConfigError with every mistake there is."""
    rows = {row.name: row for row in ASKED}
    problems = [
        f"{rows[name].flag}: given {len(texts)} times"
        for name, texts in flags.items()
        if len(texts) > 1 and not rows[name].many
    ]
    values: dict[str, Any] = {
        name.replace("-", "_"): list(texts) if rows[name].many else texts[-1] for name, texts in flags.items()
    }
    problems += _unprintable(command, flags.get("format", ()))
    formats = COMMANDS[command].formats
    values.setdefault("format", formats[0] if formats else "")
    try:
        asked = Asked(**values)
    except ValidationError as exc:
        problems += [
            f"--{str(error['loc'][0]).replace('_', '-')}{shown(error['input'])}: {error['ctx']['error']}"
            for error in exc.errors()
        ]
        raise ConfigError(*problems) from None
    if problems:
        raise ConfigError(*problems)
    return asked


def _unprintable(command: str, texts: Sequence[str]) -> Iterator[str]:
    formats = COMMANDS[command].formats
    yield from (f"--format{shown(text)}: must be one of {', '.join(formats)}" for text in texts if text not in formats)
