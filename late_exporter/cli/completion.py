"""Completion for shells, from the tables of commands and options."""

from __future__ import annotations

from collections.abc import Iterator

from late_exporter.config.commands import COMMANDS, Command
from late_exporter.config.flags import ASKED
from late_exporter.config.options import OPTIONS, Option

__all__ = ["completion"]

FILES = ("FILE",)
"""The values that are files."""


def completion(shell: str) -> str:
    """The script that a shell has to read: bash, zsh or fish."""
    return "\n".join({"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]())


def _flags(command: Command) -> list[Option]:
    return [option for option in (*ASKED, *OPTIONS) if option.flag and command.name in option.commands]


def _choices(option: Option, command: Command) -> tuple[str, ...]:
    if option.name == "format":
        return command.formats
    return option.choices if option.metavar else ("true", "false")


def _arguments(command: Command) -> tuple[str, ...]:
    """What may stand for the command's first argument, where that is one of a few words."""
    return command.firsts


def _bash() -> Iterator[str]:
    yield "# bash completion for late-exporter: source <(late-exporter completion bash)"
    yield "_late_exporter() {"
    yield "  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command= at"
    yield "  for ((at = 1; at < COMP_CWORD; at++)); do"
    yield f"    case ${{COMP_WORDS[at]}} in {'|'.join(COMMANDS)}) command=${{COMP_WORDS[at]}}; break ;; esac"
    yield "  done"
    yield "  case $command:$before in"
    for command in COMMANDS.values():
        for option in _flags(command):
            place = f"{command.name}:{option.flag}" + (f"|:{option.flag}" if command.name == "run" else "")
            words = _choices(option, command)
            if option.metavar in FILES:
                yield f'    {place}) COMPREPLY=($(compgen -f -- "$word")); return ;;'
            elif option.metavar and words:
                yield f'    {place}) COMPREPLY=($(compgen -W "{" ".join(words)}" -- "$word")); return ;;'
            elif option.metavar:
                yield f"    {place}) COMPREPLY=(); return ;;"
    yield "  esac"
    yield "  case $command in"
    for command in COMMANDS.values():
        flags = " ".join(["--help", *(option.flag for option in _flags(command)), *_arguments(command)])
        yield f'    {command.name}) COMPREPLY=($(compgen -W "{flags}" -- "$word")) ;;'
    flags = " ".join([*COMMANDS, "--help", "--version", *(option.flag for option in _flags(COMMANDS["run"]))])
    yield f'    *) COMPREPLY=($(compgen -W "{flags}" -- "$word")) ;;'
    yield "  esac"
    yield "}"
    yield "complete -o default -F _late_exporter late-exporter"


def _zsh() -> Iterator[str]:
    yield "#compdef late-exporter"
    yield "# zsh completion for late-exporter: late-exporter completion zsh > ~/.zfunc/_late-exporter"
    yield "_late_exporter() {"
    yield "  local -a commands=("
    yield from (f"    {_quoted(f'{name}:{_plain(command.help)}')}" for name, command in COMMANDS.items())
    yield "  )"
    yield "  local command=${words[(r)(" + "|".join(COMMANDS) + ")]}"
    yield "  case ${command:-run} in"
    for command in COMMANDS.values():
        yield f"    {command.name})"
        yield "      _arguments '1: :->command' \\"
        for option in _flags(command):
            yield f"        {_quoted(_zsh_option(option, command))} \\"
        yield f"        {_quoted('*:' + _zsh_rest(command))}"
        yield "      ;;"
    yield "  esac"
    yield "  [[ $state == command ]] && _describe command commands"
    yield "}"
    yield "compdef _late_exporter late-exporter"


def _zsh_option(option: Option, command: Command) -> str:
    meaning = _plain(option.help).replace("[", "(").replace("]", ")")
    repeated = "*" if option.many else ""
    if not option.metavar:
        return f"{repeated}{option.flag}[{meaning}]"
    words = _choices(option, command)
    values = "_files" if option.metavar in FILES else f"({' '.join(words)})" if words else " "
    return f"{repeated}{option.flag}=[{meaning}]:{option.metavar}:{values}"


def _zsh_rest(command: Command) -> str:
    words = _arguments(command)
    return f":({' '.join(words)})" if words else ":_files" if "FILE" in " ".join(command.arguments) else ": "


def _fish() -> Iterator[str]:
    yield "# fish completion for late-exporter: late-exporter completion fish | source"
    yield "complete -c late-exporter -f"
    none = "not __fish_seen_subcommand_from " + " ".join(COMMANDS)
    for name, command in COMMANDS.items():
        yield f"complete -c late-exporter -n {_quoted(none)} -a {name} -d {_quoted(_plain(command.help))}"
    for name, command in COMMANDS.items():
        condition = f"__fish_seen_subcommand_from {name}"
        for option in _flags(command):
            words = _choices(option, command)
            takes = " -r -F" if option.metavar in FILES else " -x" if option.metavar else ""
            chosen = f" -a {_quoted(' '.join(words))}" if words and option.metavar else ""
            yield (
                f"complete -c late-exporter -n {_quoted(condition)} -l {option.flag[2:]}{takes}{chosen}"
                f" -d {_quoted(_plain(option.help))}"
            )
        if _arguments(command):
            yield f"complete -c late-exporter -n {_quoted(condition)} -a {_quoted(' '.join(_arguments(command)))}"


def _plain(text: str) -> str:
    """The first sentence."""
    return text.partition(". ")[0].rstrip(".").replace(":", ",")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
