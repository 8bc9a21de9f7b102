"""Options, commands and flags as Markdown tables for the documentation."""

from __future__ import annotations

from late_exporter.config.commands import COMMANDS
from late_exporter.config.flags import COMMAND_FLAGS
from late_exporter.config.options import Option
from late_exporter.config.settings import OPTIONS


def options_markdown() -> str:
    rows = ["| flag | variable | default | commands | |", "|---|---|---|---|---|"]
    for option in OPTIONS:
        flag = f"`{option.flag}`" if option.flag else "-"
        overrides = ", ".join(f"`{command}`: `{value}`" for command, value in option.command_defaults.items())
        default = _default(option) + (f" ({overrides})" if overrides else "")
        variables = " or ".join(f"`{name}`" for name in (option.variable, option.alias) if name)
        rows.append(f"| {flag} | {variables} | {default} | {', '.join(option.commands)} | {_escape(option.help)} |")
    return "\n".join(rows)


def commands_markdown() -> str:
    rows = (f"| `{' '.join((command.name, *command.arguments))}` | {command.help} |" for command in COMMANDS.values())
    return "\n".join(["| command | |", "|---|---|", *rows])


def flags_markdown() -> str:
    """Return the table of flags that belong to single commands."""
    rows = ["| flag | default | commands | |", "|---|---|---|---|"]
    for option in COMMAND_FLAGS:
        choices = "".join(f" `{name}`: {', '.join(words)}." for name, words in option.command_choices.items())
        default = "the first" if choices else _default(option)
        rows.append(f"| `{option.flag}` | {default} | {', '.join(option.commands)} | {_escape(option.help)}{choices} |")
    return "\n".join(rows)


def _default(option: Option) -> str:
    return f"`{option.default}`" if option.default else "-"


def _escape(text: str) -> str:
    return text.replace("|", "\\|")
