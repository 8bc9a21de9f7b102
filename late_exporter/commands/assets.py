"""The command ``assets``: write the rules, dashboards and units that belong to this version."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from late_exporter.errors import LateError

COMPLETION_NAMES = {"bash": "late-exporter.bash", "zsh": "_late-exporter", "fish": "late-exporter.fish"}
PACKAGE_FOLDER = "late_exporter/assets/"
"""Folder in the wheel, as in the table ``force-include`` of pyproject.toml, which lists the assets."""


def write_assets(folder: str | Path, completions: Mapping[str, str]) -> list[Path]:
    """Write all assets below a folder, which is created if necessary; return their paths.

    Files of the same names are replaced, others are left alone.

    Args:
        folder: Folder to write to.
        completions: Completion scripts by shell.

    Raises:
        LateError: A file or a folder cannot be written, or this installation lacks the assets.
    """
    files = {Path(folder, name): content for name, content in find_assets()}
    if not files:
        raise LateError("this installation has no assets; install late-exporter from its wheel or its source")
    for shell, text in completions.items():
        files[Path(folder, "completions", COMPLETION_NAMES[shell])] = f"{text}\n".encode()
    for path, content in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError as exc:
            raise LateError(f"{exc.filename or path}: cannot be written: {exc.strerror}") from exc
    return sorted(files)


def find_assets() -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the assets, in the installed package or else in the source tree."""
    package = resources.files("late_exporter")
    installed = package / "assets"
    if installed.is_dir():
        yield from _walk(installed, "")
        return
    root = Path(str(package)).parent
    try:
        build = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]
    except (OSError, KeyError):
        return
    for source, target in build["targets"]["wheel"]["force-include"].items():
        yield from _walk(root / source, target.removeprefix(PACKAGE_FOLDER))


def _walk(item: Traversable, name: str) -> Iterator[tuple[str, bytes]]:
    if item.is_file():
        yield name, item.read_bytes()
    else:
        for child in item.iterdir():
            yield from _walk(child, f"{name}/{child.name}".removeprefix("/"))
