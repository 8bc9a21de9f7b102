"""YAML as nested dicts, lists and strings, with the line of every value and of every mistake."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeAlias

import yaml

from late_exporter.config.types import EMPTY_VALUES, MAX_FILE
from late_exporter.errors import ConfigError
from late_exporter.masking import KEY_PATTERN, quote

Keys: TypeAlias = tuple[int | str, ...]


class YamlFile:
    """A parsed YAML file; ``normalize`` maps spellings of a key that mean the same to one of them.

    Keys below those of a section, as in ``web: {user_workspaces: {customer-a: [brand-a]}}``, are names that stay as
    they are.
    """

    def __init__(self, path: str, content: bytes, normalize: Callable[[str], str] = str) -> None:
        self._path = path
        self._normalize = normalize
        self._root = self._compose(content)
        self._problems: list[tuple[int, str]] = []
        self.values: Any = self._convert(self._root, (), {})
        """The content; an empty file is an empty dict."""

    @property
    def problems(self) -> list[str]:
        """Mistakes in the order of their lines."""
        return [problem for _, problem in sorted(self._problems, key=lambda pair: pair[0])]

    def reject(self, keys: Keys, reason: str, *, name: str = "", value: object = None) -> None:
        """Record a mistake; ``value`` is quoted if it is text."""
        self._problems.append((self.line(keys), f"{self.place(keys, name)}{quote(value)}: {reason}"))

    def place(self, keys: Keys, name: str = "") -> str:
        """Return "path:line: name" of a value, or of the closest parent that the file has."""
        return f"{self._path}:{self.line(keys)}: {name or _name(keys)}"

    def line(self, keys: Keys) -> int:
        """Return the line of a value, or of the closest parent that the file has, counted from 1."""
        node, line = self._root, 1
        for key in keys:
            if isinstance(node, yaml.MappingNode):
                pair = next(
                    (pair for pair in node.value if self._normalize(str(pair[0].value)) == self._normalize(str(key))),
                    None,
                )
                if pair is None:
                    break
                line, node = _line(pair[0]), pair[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
                node = node.value[key]
                line = _line(node)
        return line

    def _compose(self, content: bytes) -> yaml.Node:
        if len(content) > MAX_FILE:
            raise ConfigError(f"{self._path}: larger than 1 MiB")
        try:
            root = yaml.compose(content.decode("utf-8-sig"), Loader=yaml.BaseLoader)
        except yaml.MarkedYAMLError as exc:
            mark = exc.problem_mark
            place = f"{self._path}:{mark.line + 1}:{mark.column + 1}" if mark else self._path
            problem = str(exc.problem).replace(r"character '\t' that cannot start any token", "a tab; use spaces")
            # A quoted token may be part of a secret.
            problem = re.sub(r"'[^'\s]{2,}'|\"[^\"\s]{2,}\"", "...", problem)
            raise ConfigError(f"{place}: not valid YAML: {problem}") from None
        except (yaml.YAMLError, UnicodeDecodeError):
            raise ConfigError(f"{self._path}: not a text file in UTF-8") from None
        except RecursionError:
            raise ConfigError(f"{self._path}: nested too deeply") from None
        except (ValueError, OverflowError):
            raise ConfigError(f"{self._path}: not valid YAML: a character or number is out of range") from None
        if root is None or (isinstance(root, yaml.ScalarNode) and root.value in EMPTY_VALUES):
            return yaml.MappingNode("", [])
        return root

    def _convert(self, node: yaml.Node, keys: Keys, by_node: dict[int, Any]) -> Any:
        """Convert a node once, however many aliases refer to it."""
        if isinstance(node, yaml.ScalarNode):
            return node.value
        if id(node) in by_node:
            return by_node[id(node)]
        if isinstance(node, yaml.SequenceNode):
            items = by_node[id(node)] = []
            items += [self._convert(item, (*keys, index), by_node) for index, item in enumerate(node.value)]
            return items
        mapping: dict[str, Any] = {}
        by_node[id(node)] = mapping
        lines: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._problems.append((_line(key), f"{self._path}:{_line(key)}: a key must be one word"))
                continue
            name = key.value if _are_names(keys) else self._normalize(key.value)
            if name in lines:
                place = f"{self._path}:{_line(key)}: {_name((*keys, key.value))}"
                self._problems.append((_line(key), f"{place}: given twice, first in line {lines[name]}"))
                continue
            lines[name] = _line(key)
            mapping[name] = self._convert(value, (*keys, name), by_node)
        return mapping


def _are_names(parents: Keys) -> bool:
    """Return whether the keys of a mapping are names, given the keys that lead to it."""
    return len(parents) > 1 and isinstance(parents[1], str)


def _line(node: yaml.Node) -> int:
    line: int = node.start_mark.line
    return line + 1


def _name(keys: Keys) -> str:
    """Join the keys; what follows a colon, or looks like a hash or a key, may be a misplaced secret."""
    name = ""
    for key in keys:
        if isinstance(key, int):
            name += f"[{key}]"
        else:
            name += "." * bool(name) + re.sub(rf":.*|\$2.*|{KEY_PATTERN}", "***", key, flags=re.DOTALL)
    return name
