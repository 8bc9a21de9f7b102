"""Code blocks and commands of the Markdown documents."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = "late-exporter"
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
SEPARATORS = frozenset({"|", "||", "&&", "&", ";"})
REDIRECTIONS = frozenset({"<", ">", ">>"})

DOCUMENTS = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "grafana" / "README.md",
    ROOT / "deploy" / "helm" / "late-exporter" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "deploy" / "prometheus" / "runbooks").glob("*.md")),
)
"""The documents whose commands are checked."""


def document(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def blocks(text: str, language: str) -> list[str]:
    """Return the code blocks of a language, without the indentation of a list."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```", text, re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


def spans(text: str) -> str:
    """Return everything in a document that is code."""
    return "\n".join(re.findall(r"^ *```.*?^ *```|`[^`\n]+`", text, re.DOTALL | re.MULTILINE))


def commands(text: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of the commands in shell and console blocks, without assignments and redirections."""
    prompted = (line for block in blocks(text, "console") for line in re.findall(r"^\$ (.*)$", block, re.MULTILINE))
    for script in (*blocks(text, "sh"), *prompted):
        yield from _simple_commands(script)


def program_commands(text: str) -> Iterator[tuple[str, ...]]:
    """Yield the words after the name of the exporter of its commands in blocks and between backticks."""
    inline = re.findall(rf"`({PROGRAM} [^`\n]+)`", text)
    for words in (*commands(text), *map(shlex.split, inline)):
        if words[0] == PROGRAM and len(words) > 1:
            yield tuple(words[1:])


def _simple_commands(script: str) -> Iterator[tuple[str, ...]]:
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split, lexer.commenters = True, ""
        words: list[str] = []
        for token in [*_without_comment(lexer), ";"]:
            if token not in SEPARATORS:
                words.append(token)
                continue
            command = _plain(words)
            if command:
                yield command
            words = []


def _without_comment(tokens: shlex.shlex) -> Iterator[str]:
    for token in tokens:
        if token.startswith("#"):
            return
        yield token


def _plain(words: list[str]) -> tuple[str, ...]:
    """Drop assignments and redirections, and what ssh or sudo need before the command."""
    for place, word in enumerate(words):
        if word in REDIRECTIONS:
            words = words[:place]
            break
    while words and ASSIGNMENT.fullmatch(words[0]):
        words = words[1:]
    if words[:1] == ["sudo"]:
        words = words[1:]
    if words[:1] == ["ssh"]:
        words = words[2:]
    return tuple(words)
