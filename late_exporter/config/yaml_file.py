"""YAML files as nested dicts, lists and texts, with the line of every mistake."""

from __future__ import annotations

import re
from typing import Any

import yaml

from late_exporter.config.options import Location
from late_exporter.config.types import MAX_FILE, read_file
from late_exporter.errors import ConfigError
from late_exporter.masking import KEY_PATTERN

NULL = "tag:yaml.org,2002:null"


class _Loader(yaml.BaseLoader):
    """A loader of texts and nulls, which rejects keys that are empty or given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - yaml's signature
        values = super().construct_mapping(node, deep)
        known = set[str]()
        for key, _ in node.value:
            if key.tag == NULL:
                problem = "a name is missing before the colon"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            if key.value in known:
                problem = f"{masked(key.value)} is given twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            known.add(key.value)
        return values


_Loader.add_implicit_resolver(NULL, re.compile("(~|null)?$"), ["~", "n", ""])
_Loader.add_constructor(NULL, lambda *_: None)


class YamlFile:
    """A YAML file of sections, with the places of its values.

    Args:
        path: Path of the file, which is read again at a reload.
        place: What names the file, in an error about a file that cannot be read.

    Attributes:
        values: The content, with texts and None; an empty file is an empty dict.

    Raises:
        ConfigError: It cannot be read, or is no mapping.
    """

    def __init__(self, path: str, place: str) -> None:
        self._path = path
        try:
            content = read_file(path, must_be_regular=True)
        except ValueError as exc:
            raise ConfigError(f"{place}: {exc}") from None
        if len(content) > MAX_FILE:
            raise ConfigError(f"{path}: larger than 1 MiB")
        try:
            loader = _Loader(content.decode("utf-8-sig"))
            self._root = loader.get_single_node()
            values = None if self._root is None else loader.construct_document(self._root)
        except yaml.MarkedYAMLError as exc:
            raise ConfigError(self._syntax_error(exc)) from None
        except (UnicodeDecodeError, yaml.YAMLError):
            raise ConfigError(f"{path}: not a text file in UTF-8") from None
        except (RecursionError, ValueError, OverflowError):
            reason = "nested too deeply, or a character or number is out of range"
            raise ConfigError(f"{path}: not valid YAML: {reason}") from None
        self.values: dict[str, Any] = {} if values is None else values
        if not isinstance(self.values, dict):
            raise ConfigError(f"{path}: must be a mapping of sections")

    def place(self, keys: Location) -> str:
        """Return "path:line: name" of a value, with the line of its closest parent in the file."""
        node = self._root
        line = 1
        for key in keys:
            if isinstance(node, yaml.MappingNode):
                members = {name.value: (name, value) for name, value in node.value}
                if key not in members:
                    break
                name, node = members[key]
                line = name.start_mark.line + 1
            elif isinstance(node, yaml.SequenceNode) and isinstance(key, int):
                node = node.value[key]
                line = node.start_mark.line + 1
        path = "".join(f"[{key}]" if isinstance(key, int) else f".{masked(key)}" for key in keys)
        return f"{self._path}:{line}: {path.removeprefix('.')}"

    def _syntax_error(self, error: yaml.MarkedYAMLError) -> str:
        mark = error.problem_mark
        place = f"{self._path}:{mark.line + 1}:{mark.column + 1}" if mark else self._path
        # A quoted token may be part of a secret.
        problem = re.sub(r"'[^'\s]{3,}'|\"[^\"\s]{2,}\"", "...", str(error.problem))
        return f"{place}: not valid YAML: {problem}"


def masked(key: str) -> str:
    """Mask what follows a colon, or looks like a hash or a key: it may be a misplaced secret."""
    return re.sub(rf":.*|\$2.*|{KEY_PATTERN}", "***", key, flags=re.DOTALL)
