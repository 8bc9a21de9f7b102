# ruff: noqa: INP001 - a script, not a module
"""Print the changelog section of a release tag; fail if tag, version and changelog disagree."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from late_exporter import __version__

CHANGELOG = Path(__file__).parent.parent / "CHANGELOG.md"


def notes(tag: str, version: str, changelog: str) -> str:
    """Return the changelog section of a tag, which must match the version."""
    if tag != f"v{version}":
        raise ValueError(f"the tag is {tag}, but the program has version {version}")
    sections = re.split(r"^## ", changelog, flags=re.MULTILINE)
    matches = [section for section in sections if section.startswith(f"[{version}] - ")]
    if len(matches) != 1:
        raise ValueError(
            f"CHANGELOG.md must have exactly one section for {version}, but has {len(matches)}"
        )
    text = matches[0].partition("\n")[2].strip()
    if not text:
        raise ValueError(f"the section of CHANGELOG.md for {version} is empty")
    return text


def main() -> None:
    """Print the notes of the tag given as argument."""
    try:
        sys.stdout.write(notes(sys.argv[1], __version__, CHANGELOG.read_text("utf-8")) + "\n")
    except ValueError as exc:
        sys.exit(f"no release: {exc}")


if __name__ == "__main__":
    main()
