# ruff: noqa: INP001 - a script, not a module
"""Print the changelog section of a release tag, or with --image the tags that its image gets.

It fails if tag, version and changelog disagree. The tags of all releases are read from standard
input.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection
from pathlib import Path

from packaging.version import Version

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


def image_tags(tag: str, releases: Collection[str]) -> list[str]:
    """Return the tags that the image of a release gets: those of a series only move forward.

    Args:
        tag: Tag of the release, such as v1.2.3.
        releases: Tags of all releases.
    """
    version = Version(tag)
    newer = [each for each in map(Version, releases) if version < each and not each.is_prerelease]
    tags = [tag.removeprefix("v")]
    if version.is_prerelease:
        return tags
    if not any(each.release[:2] == version.release[:2] for each in newer):
        tags.append(f"{version.major}.{version.minor}")
    if not newer:
        tags.append("latest")
    return tags


def main() -> None:
    """Print the notes, or the tags of the image, of the tag given as argument."""
    *flags, tag = sys.argv[1:]
    try:
        text = notes(tag, __version__, CHANGELOG.read_text("utf-8"))
    except ValueError as exc:
        sys.exit(f"no release: {exc}")
    if flags:
        text = " ".join(image_tags(tag, sys.stdin.read().split()))
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    main()
