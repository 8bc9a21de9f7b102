"""Writes what is made of other files; with --check, only tells whether it is up to date."""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.kubernetes.files import CHART, ROOT, written


def stale() -> list[Path]:
    """The files that are not as they should be, or that nobody writes."""
    files = written()
    copies = {path for path in (CHART / "files").rglob("*") if path.is_file()}
    return sorted(
        path
        for path in files.keys() | copies
        if path not in files or not path.exists() or path.read_text("utf-8") != files[path]
    )


def main() -> None:
    """Bring the files up to date, or fail where they are not and that is all that was asked."""
    paths = stale()
    if "--check" in sys.argv[1:]:
        if paths:
            names = ", ".join(str(path.relative_to(ROOT)) for path in paths)
            sys.exit(f"not up to date: {names}; run python -m deploy.kubernetes")
        return
    files = written()
    for path in paths:
        if path not in files:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[path], "utf-8")


if __name__ == "__main__":
    main()
