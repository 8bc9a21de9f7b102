"""Writes grafana/dashboards/; with --check, only tells whether they are up to date."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

try:
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
except ImportError:
    sys.exit("The dashboards are made with grafana-foundation-sdk==0.0.21: install the extra dev.")

from grafana.source import accounts, exporter, overview, platforms
from grafana.source.layout import Page, compose

FOLDER = Path(__file__).parent.parent / "dashboards"
PAGES = (overview.PAGE, platforms.PAGE, accounts.PAGE, exporter.PAGE)


def written(page: Page) -> str:
    """The file of a dashboard."""
    document = json.loads(JSONEncoder().encode(compose(page)))
    return json.dumps(pruned(document), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def pruned(value: Any) -> Any:
    """Without the placement that hides links and annotations in a menu, as the SDK has it."""
    if isinstance(value, dict):
        return {name: pruned(part) for name, part in value.items() if name != "placement" or part != "inControlsMenu"}
    if isinstance(value, list):
        return [pruned(part) for part in value]
    return value


def stale(files: Mapping[str, str]) -> list[str]:
    """The names of the files that are not as they should be, or that nobody writes."""
    found = {file.name: file.read_text("utf-8") for file in FOLDER.glob("*.json")}
    return sorted(name for name in files.keys() | found.keys() if files.get(name) != found.get(name))


def main() -> None:
    """Write the dashboards, or fail where they are not up to date and that is all that was asked."""
    files = {f"{page.uid}.json": written(page) for page in PAGES}
    if "--check" in sys.argv[1:]:
        if names := stale(files):
            sys.exit(f"grafana/dashboards is not up to date: {', '.join(names)}; run python -m grafana.source")
        return
    for name in stale(files):
        if name in files:
            (FOLDER / name).write_text(files[name], "utf-8")
        else:
            (FOLDER / name).unlink()


if __name__ == "__main__":
    main()
