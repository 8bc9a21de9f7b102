"""YAML files as nested dicts, lists and texts, with the line of every mistake."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any

import yaml

from late_exporter.config.options import Location
from late_exporter.config.types import EMPTY_VALUES, MAX_FILE
from late_exporter.errors import ConfigError
from late_exporter.masking import KEY_PATTERN


class _Loader(yaml.BaseLoader):
    """A loader of texts, which rejects keys that are given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - yaml's signature
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key must be one word", key.start_mark
                )
            if key.value in lines:
                problem = f"{masked(key.value)} is given twice, first in line {lines[key.value]}"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            lines[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)


class YamlFile:
    """A parsed YAML file.

    Attributes:
        values: The content; an empty file is an empty dict.
    """

    def __init__(self, path: str, content: bytes) -> None:
        self._path = path
        if len(content) > MAX_FILE:
            raise ConfigError(f"{path}: larger than 1 MiB")
        try:
            self._text = content.decode("utf-8-sig")
            values = yaml.load(self._text, Loader=_Loader)  # noqa: S506 - makes texts only
        except yaml.MarkedYAMLError as exc:
            raise ConfigError(self._syntax_error(exc)) from None
        except (UnicodeDecodeError, yaml.YAMLError):
            raise ConfigError(f"{path}: not a text file in UTF-8") from None
        except (RecursionError, ValueError, OverflowError):
            reason = "nested too deeply, or a character or number is out of range"
            raise ConfigError(f"{path}: not valid YAML: {reason}") from None
        self.values: Any = {} if values is None or values in EMPTY_VALUES else values

    def place(self, keys: Location) -> str:
        """Return "path:line: name" of a value, with the line of its closest parent in the file."""
        node = self._root
        line = 1
        for key in keys:
            if isinstance(node, yaml.MappingNode):
                names = [_normalized(name.value) for name, _ in node.value]
                if _normalized(str(key)) not in names:
                    break
                name, node = node.value[names.index(_normalized(str(key)))]
                line = name.start_mark.line + 1
            elif isinstance(node, yaml.SequenceNode) and isinstance(key, int):
                node = node.value[key]
                line = node.start_mark.line + 1
        name = "".join(f"[{key}]" if isinstance(key, int) else f".{masked(key)}" for key in keys)
        return f"{self._path}:{line}: {name.removeprefix('.')}"

    @cached_property
    def _root(self) -> yaml.Node | None:
        return yaml.compose(self._text, Loader=_Loader)

    def _syntax_error(self, error: yaml.MarkedYAMLError) -> str:
        mark = error.problem_mark
        place = f"{self._path}:{mark.line + 1}:{mark.column + 1}" if mark else self._path
        problem = str(error.problem).replace(
            r"character '\t' that cannot start any token", "a tab; use spaces"
        )
        # A quoted token may be part of a secret.
        return f"{place}: not valid YAML: " + re.sub(
            r"'[^'\s]{2,}'|\"[^\"\s]{2,}\"", "...", problem
        )


def masked(key: str) -> str:
    """Mask what follows a colon, or looks like a hash or a key: it may be a misplaced secret."""
    return re.sub(rf":.*|\$2.*|{KEY_PATTERN}", "***", key, flags=re.DOTALL)


def _normalized(key: str) -> str:
    return key.replace("-", "_")
