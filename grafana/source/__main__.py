"""Write grafana/dashboards/; with --check, only verify that the files are up to date."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

try:
    import grafana_foundation_sdk  # noqa: F401 - only to know whether it is there
except ImportError:
    sys.exit("The dashboards need grafana-foundation-sdk==0.0.21; run make dev.")

from grafana.source import accounts, exporter, overview, platforms
from grafana.source.layout import DashboardSpec, build_dashboard

FOLDER = Path(__file__).parent.parent / "dashboards"
DASHBOARDS = (overview.DASHBOARD, platforms.DASHBOARD, accounts.DASHBOARD, exporter.DASHBOARD)


def render(spec: DashboardSpec) -> str:
    """Return the JSON text of a dashboard."""
    return json.dumps(build(spec), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def build(spec: DashboardSpec) -> Any:
    """Return a dashboard as dictionaries and lists."""
    return without_menu_placement(to_data(build_dashboard(spec)))


def to_data(value: Any) -> Any:
    """Return dictionaries and lists for the models of the SDK."""
    if hasattr(value, "to_json"):
        return to_data(value.to_json())
    if isinstance(value, Mapping):
        return {name: to_data(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [to_data(part) for part in value]
    return value


def without_menu_placement(value: Any) -> Any:
    """Remove the ``placement`` that the SDK adds, which hides links and annotations in a menu."""
    if isinstance(value, dict):
        return {
            name: without_menu_placement(part)
            for name, part in value.items()
            if name != "placement" or part != "inControlsMenu"
        }
    if isinstance(value, list):
        return [without_menu_placement(part) for part in value]
    return value


def outdated_files(files: Mapping[str, str]) -> list[str]:
    """Return the names of the files that differ, are missing, or are left over."""
    existing = {file.name: file.read_text("utf-8") for file in FOLDER.glob("*.json")}
    return sorted(
        name for name in files.keys() | existing.keys() if files.get(name) != existing.get(name)
    )


def main() -> None:
    """Write the dashboards, or exit with an error if --check finds outdated ones."""
    files = {f"{page.uid}.json": render(page) for page in DASHBOARDS}
    if "--check" in sys.argv[1:]:
        if names := outdated_files(files):
            sys.exit(
                f"outdated in grafana/dashboards: {', '.join(names)}; run python -m grafana.source"
            )
        return
    for name in outdated_files(files):
        if name in files:
            (FOLDER / name).write_text(files[name], "utf-8")
        else:
            (FOLDER / name).unlink()


if __name__ == "__main__":
    main()
