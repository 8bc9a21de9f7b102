"""Write the AlertmanagerConfig next to this module; with --check, only verify that it is up to date."""

from __future__ import annotations

import sys

from deploy.alertmanager.operator import CONFIG, FOLDER, render


def main() -> None:
    """Update the file, or exit with an error if --check finds it outdated."""
    path, text = FOLDER / CONFIG, render()
    if "--check" not in sys.argv[1:]:
        path.write_text(text, "utf-8")
    elif not path.exists() or path.read_text("utf-8") != text:
        sys.exit(f"{CONFIG} is outdated; run python -m deploy.alertmanager")


if __name__ == "__main__":
    main()
