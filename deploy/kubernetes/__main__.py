"""Write the generated Kubernetes and Helm files; with --check, only verify that they are up to date."""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.kubernetes.files import ROOT, render


def outdated_files() -> list[Path]:
    """Return the files that differ from the generated text, or are missing."""
    files = render()
    return sorted(
        path for path in files if not path.exists() or path.read_text("utf-8") != files[path]
    )


def main() -> None:
    """Update the files, or exit with an error if --check finds outdated ones."""
    paths = outdated_files()
    if "--check" in sys.argv[1:]:
        if paths:
            names = ", ".join(str(path.relative_to(ROOT)) for path in paths)
            sys.exit(f"outdated: {names}; run python -m deploy.kubernetes")
        return
    files = render()
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[path], "utf-8")


if __name__ == "__main__":
    main()
