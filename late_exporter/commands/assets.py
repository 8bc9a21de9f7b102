"""The commands ``assets`` and ``runbook``: rules, dashboards, units and runbooks that belong to this version."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from late_exporter import __url__
from late_exporter.config.sections import CommandFlags
from late_exporter.errors import ConfigError, LateError

COMPLETION_NAMES = {
    "bash": "late-exporter.bash",
    "zsh": "_late-exporter",
    "fish": "late-exporter.fish",
}
PACKAGE_FOLDER = "late_exporter/assets/"
"""Folder in the wheel, as in the table ``force-include`` of pyproject.toml, which lists the assets."""


def write_assets(
    folder: str | Path, completions: Mapping[str, str], flags: CommandFlags
) -> list[Path]:
    """Write all assets below a folder, which is created if necessary; return their paths.

    Files of the same names are replaced, others are left alone.

    Args:
        folder: Folder to write to.
        completions: Completion scripts by shell.
        flags: Address of the runbooks.

    Raises:
        LateError: A file or a folder cannot be written, or this installation lacks the assets.
    """
    files = {Path(folder, name): content for name, content in find_assets()}
    if not files:
        raise LateError(
            "this installation has no assets; install late-exporter from its wheel or its source"
        )
    for shell, text in completions.items():
        files[Path(folder, "completions", COMPLETION_NAMES[shell])] = f"{text}\n".encode()
    for path, content in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_adapt(content, flags) if path.suffix == ".yml" else content)
        except OSError as exc:
            raise LateError(f"{exc.filename or path}: cannot be written: {exc.strerror}") from exc
    return sorted(files)


def _adapt(content: bytes, flags: CommandFlags) -> bytes:
    """Return a file of rules with the address of the runbooks of the command line."""
    if not flags.runbook_url:
        return content
    ours = f"{__url__}/blob/main/deploy/prometheus/runbooks/"
    return content.replace(ours.encode(), f"{flags.runbook_url.rstrip('/')}/".encode())


@cache
def runbooks() -> Mapping[str, str]:
    """Return the runbooks by the name of their alert."""
    return {
        Path(name).stem: text.decode()
        for name, text in find_assets()
        if name.startswith("prometheus/runbooks/")
    }


def runbook_text(name: str = "") -> str:
    """Return the runbook of an alert, or without a name those of all alerts; raise ConfigError if there is none."""
    if name and name not in runbooks():
        raise ConfigError(f"no runbook {name}; the command runbook without a name lists them")
    return runbooks()[name].rstrip() if name else "\n".join(sorted(runbooks()))


def find_assets() -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the assets, in the installed package or else in the source tree."""
    package = resources.files("late_exporter")
    installed = package / "assets"
    if installed.is_dir():
        yield from _walk(installed, "")
        return
    root = Path(str(package)).parent
    try:
        build = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"][
            "build"
        ]
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
