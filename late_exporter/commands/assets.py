"""The commands ``assets`` and ``runbook``: rules, dashboards and runbooks of this version."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from late_exporter import __url__, __version__
from late_exporter.commands.output import write_lines
from late_exporter.config.messages import suggest
from late_exporter.config.settings import CommandContext
from late_exporter.errors import ConfigError, LateError

PACKAGE_FOLDER = "late_exporter/assets/"
"""Folder in the wheel, as in the table ``force-include`` of pyproject.toml, which lists all."""

BRANCH_URL = f"{__url__}/blob/main/"
VERSION_URL = f"{__url__}/blob/v{__version__}/"


def assets(context: CommandContext) -> int:
    """Write all assets below a folder, and print their paths."""
    (folder,) = context.args
    return write_lines(map(str, write_assets(folder)))


def write_assets(folder: str | Path) -> list[Path]:
    """Write all assets below a folder, which is created if necessary; return their paths.

    Files of the same names are replaced, others are left alone.

    Raises:
        LateError: A file or a folder cannot be written, or this installation lacks the assets.
    """
    root = Path(folder)
    files = {root / name: content for name, content in find_assets()}
    if not files:
        raise LateError(
            "this installation has no assets; install late-exporter from its wheel or its source"
        )
    for path, content in files.items():
        # Through a link, someone else would choose which files are replaced.
        for parent in (path.parent, *path.parent.parents):
            if parent.is_symlink() and parent.is_relative_to(root):
                raise LateError(f"{parent}: is a link; name the folder that it leads to")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _replace(path, content)
        except OSError as exc:
            raise LateError(f"{path}: cannot be written: {exc.strerror}") from exc
    return sorted(files)


def _replace(path: Path, content: bytes) -> None:
    """Write a file beside another one and replace that, so that no reader sees half of it.

    A link is replaced itself, not the file that it leads to.
    """
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    try:
        with beside.open("xb") as file:
            file.write(content)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


@cache
def runbooks() -> Mapping[str, str]:
    """Return the runbooks by the name of their alert, with links that work anywhere."""
    return {
        Path(name).stem: text.decode().replace("](../../../", f"]({VERSION_URL}")
        for name, text in find_assets()
        if name.startswith("prometheus/runbooks/")
    }


def runbook(context: CommandContext) -> int:
    """Print the runbook of an alert, or without a name the names of all."""
    if not context.args:
        return write_lines(sorted(runbooks()))
    (name,) = context.args
    if name not in runbooks():
        hint = suggest(name, runbooks(), "Late")
        raise ConfigError(f"no runbook {name}{hint or '; without a name, runbook lists them'}")
    return write_lines([runbooks()[name].rstrip()])


def link_version(content: bytes) -> bytes:
    """Return a file with links to the documents of this version.

    Files in the repository link its branch, whose documents may be those of a later version.
    """
    return content.replace(BRANCH_URL.encode(), VERSION_URL.encode())


def find_assets() -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the assets, in the installed package or else in the source tree."""
    for name, content in _find_files():
        yield name, link_version(content)


def _find_files() -> Iterator[tuple[str, bytes]]:
    package = resources.files("late_exporter")
    installed = package / "assets"
    if installed.is_dir():
        yield from _walk(installed, "")
        return

    root = Path(str(package)).parent
    try:
        project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
        included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    except (OSError, KeyError):
        return
    for source, target in included.items():
        yield from _walk(root / source, target.removeprefix(PACKAGE_FOLDER))


def _walk(item: Traversable, name: str) -> Iterator[tuple[str, bytes]]:
    if item.is_file():
        yield name, item.read_bytes()
        return
    for child in item.iterdir():
        yield from _walk(child, f"{name}/{child.name}".removeprefix("/"))
