"""The manual page, from the same tables as the help."""

from __future__ import annotations

from collections.abc import Iterator

from late_exporter import __url__, __version__
from late_exporter.config.commands import COMMANDS, Command
from late_exporter.config.flags import ASKED
from late_exporter.config.options import OPTIONS, Option

__all__ = ["EXIT_CODES", "manual"]

EXIT_CODES = (
    (0, "Done, or stopped by a signal."),
    (1, "Something failed while running: no connection, a state that cannot be used, a check that found a problem."),
    (2, "Wrong usage or configuration; every mistake is told, and nothing was done."),
)


def manual() -> str:
    """The manual page in roff: ``late-exporter manual | man -l -``."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield f'.TH LATE\\-EXPORTER 1 "" "late\\-exporter {_roff(__version__)}" "User Commands"'
    yield ".SH NAME"
    yield "late\\-exporter \\- Prometheus exporter for the logs of Late"
    yield ".SH SYNOPSIS"
    yield from (line for command in COMMANDS.values() for line in _synopsis(command))
    yield ".SH DESCRIPTION"
    yield "Reads the publishing and connection logs of the Late API and counts every log exactly once for Prometheus."
    yield "Flags win over the environment, and the environment over the file of"
    yield "\\fB\\-\\-config.file\\fR."
    yield ".SH COMMANDS"
    for command in COMMANDS.values():
        yield ".TP"
        yield f"\\fB{_roff(' '.join((command.name, *command.arguments)))}\\fR"
        yield _roff(command.help)
        yield from map(_roff, command.notes)
        for action in command.actions:
            yield from (".TP", f"\\fB{_roff(' '.join((command.name, action.name, *action.arguments)))}\\fR")
            yield _roff(action.help)
    yield ".SH OPTIONS"
    for option in (*ASKED, *OPTIONS):
        yield from _option(option)
    yield ".SH EXIT STATUS"
    for code, meaning in EXIT_CODES:
        yield from (".TP", f"\\fB{code}\\fR", _roff(meaning))
    yield ".SH EXAMPLES"
    for command in COMMANDS.values():
        for arguments, meaning in command.examples:
            yield from (".TP", f"\\fBlate\\-exporter {_roff(arguments)}\\fR", _roff(meaning))
    yield ".SH SEE ALSO"
    yield f".UR {__url__}"
    yield "The project's page"
    yield ".UE"


def _synopsis(command: Command) -> Iterator[str]:
    words = " ".join((command.name, *command.arguments))
    yield f"\\fBlate\\-exporter\\fR {_roff(words)} [\\fIoption\\fR ...]"
    yield ".br"


def _option(option: Option) -> Iterator[str]:
    yield ".TP"
    if option.flag:
        metavar = f" \\fI{_roff(option.metavar)}\\fR" if option.metavar else ""
        yield f"\\fB{_roff(option.flag)}\\fR{metavar}"
    else:
        yield f"\\fB{_roff(option.variable)}\\fR"
    yield _roff(option.help)
    of = f"Of {', '.join(option.commands)}."
    default = f" Default {option.default}." if option.default else ""
    variable = f" Variable {option.variable}." if option.flag and option.variable else ""
    yield _roff(f"{of}{default}{variable}")


def _roff(text: str) -> str:
    """A text that roff takes as it is."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + escaped if escaped[:1] in {".", "'"} else escaped
