"""The YAML file of ``--config.file``, read with the line of every value and of every mistake."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from late_exporter.config.options import OPTIONS, REAL, Layer, Option, WorkspaceRow, suggestion

__all__ = ["Document"]

_ALLOWED = {
    f"{option.section}.{option.key}": option for option in OPTIONS if not option.secret and option.name != "config.file"
}
_SECTIONS = {option.section for option in _ALLOWED.values()}
_PATHS = ("api.key-file", "web.config.file", "webhook.secret-file")


class Document:
    """A file, read into a layer as far as it is right.

    Args:
        path: As the user gave it.
        layer: Takes the values and the mistakes.
    """

    def __init__(self, path: str, layer: Layer) -> None:
        self._path = path
        self._layer = layer

    def read(self, content: bytes) -> None:
        """Read what the file holds."""
        try:
            root = yaml.compose(content.decode("utf-8-sig"), Loader=yaml.BaseLoader)
        except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as exc:
            self._layer.broken = True
            self._layer.problems.append(self._broken(exc))
            return
        if isinstance(root, yaml.MappingNode):
            self._read_root(root)
        elif root is not None:
            self._layer.problems.append(f"{self._path}: must be a mapping of sections, as in poll: {{interval: 30s}}")

    def _broken(self, exc: Exception) -> str:
        match exc:
            case yaml.MarkedYAMLError(problem_mark=yaml.Mark() as mark):
                return f"{self._path}:{mark.line + 1}:{mark.column + 1}: not valid YAML: {exc.problem}"
            case RecursionError():
                return f"{self._path}: nested too deeply"
            case yaml.YAMLError() | UnicodeDecodeError():
                return f"{self._path}: not a text file in UTF-8"
            case _:
                return f"{self._path}: not valid YAML: a character or a number in it is out of range"

    def _read_root(self, root: yaml.MappingNode) -> None:
        for name, key, node in self._pairs(root, ""):
            if name == "workspaces":
                self._read_workspaces(key, node)
            elif name in _SECTIONS:
                self._read_section(name, key, node)
            else:
                self._complain(key, key.value, "unknown" + suggestion(name, [*_SECTIONS, "workspaces"]))

    def _read_section(self, section: str, key: yaml.Node, node: yaml.Node) -> None:
        if isinstance(node, yaml.ScalarNode) and node.value in ("", "~", "null"):
            return
        if not isinstance(node, yaml.MappingNode):
            self._complain(key, section, "must be a mapping of options")
            return
        for name, name_key, value in self._pairs(node, f"{section}."):
            option = f"{section}.{name.replace('_', '-')}"
            if option in _ALLOWED:
                self._read_option(_ALLOWED[option], name_key, value)
            else:
                self._complain(name_key, f"{section}.{name_key.value}", "unknown" + suggestion(option, _ALLOWED))

    def _read_option(self, option: Option, key: yaml.Node, node: yaml.Node) -> None:
        place = self._place(key, option.name)
        match node:
            case yaml.ScalarNode():
                value = self._beside(node.value) if option.name in _PATHS else node.value
                self._layer.put(option, value, place)
            case yaml.SequenceNode() if option.many and all(isinstance(item, yaml.ScalarNode) for item in node.value):
                self._layer.put(option, [item.value for item in node.value], place)
            case _:
                allowed = "one value or a list of values" if option.many else "one value"
                self._complain(key, option.name, f"must be {allowed}")

    def _read_workspaces(self, key: yaml.Node, node: yaml.Node) -> None:
        if self._layer.command not in REAL:
            return
        self._layer.places["workspaces",] = self._place(key, "workspaces")
        if isinstance(node, yaml.SequenceNode):
            self._layer.values["workspaces"] = [self._workspace(*item) for item in enumerate(node.value)]
        else:
            self._complain(key, "workspaces", "must be a list of name, api_key_file and perhaps api_base_url")

    def _workspace(self, index: int, node: yaml.Node) -> dict[str, str]:
        here = f"workspaces[{index}]"
        row: dict[str, str] = {}
        self._layer.places["workspaces", index] = self._place(node, here)
        for name, key, value in self._pairs(node, f"{here}."):
            if name not in WorkspaceRow.model_fields:
                self._complain(key, f"{here}.{key.value}", "unknown" + suggestion(name, WorkspaceRow.model_fields))
                continue
            self._layer.places["workspaces", index, name] = self._place(key, f"{here}.{name}")
            text = value.value if isinstance(value, yaml.ScalarNode) else ""
            row[name] = self._beside(text) if name == "api_key_file" else text
        return row

    def _pairs(self, node: yaml.Node, prefix: str) -> Iterator[tuple[str, yaml.ScalarNode, yaml.Node]]:
        """Keys in snake case with their nodes, each key once; none where the node is no mapping."""
        lines: dict[str, int] = {}
        for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key, yaml.ScalarNode):
                self._complain(key, prefix.rstrip(".") or "key", "a key must be one word")
                continue
            name = key.value.replace("-", "_")
            if name in lines:
                self._complain(key, prefix + key.value, f"given twice, first in line {lines[name]}")
                continue
            lines[name] = key.start_mark.line + 1
            yield name, key, value

    def _beside(self, path: str) -> str:
        """Paths in a file are relative to the file, as in Prometheus' own."""
        return str(Path(self._path).parent / path) if path else ""

    def _place(self, node: yaml.Node, name: str) -> str:
        return f"{self._path}:{node.start_mark.line + 1}: {name}"

    def _complain(self, node: yaml.Node, name: str, reason: str) -> None:
        self._layer.problems.append(f"{self._place(node, name)}: {reason}")
