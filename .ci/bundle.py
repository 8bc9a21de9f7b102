# ruff: noqa: INP001 - a script, not a module
"""Write the archives of rules and dashboards of a release. Usage: bundle.py FOLDER.

The dashboards are in the form that grafana.com takes, with the ids that they have there, from
grafana/grafana-com.json: null until a dashboard has been uploaded for the first time.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from late_exporter import __version__
from late_exporter.commands.assets import link_version

ROOT = Path(__file__).parent.parent
GRAFANA_VERSION = "11.0.0"
"""Oldest version of Grafana that is supposed to show the dashboards."""

RULE_FILES = (
    "deploy/prometheus/late-exporter.*.yml",
    "deploy/prometheus/runbooks/*.md",
    "deploy/alertmanager/**/*",
)


def rule_files(root: Path) -> dict[str, bytes]:
    """Return the files of the archive of rules: rules, runbooks and routes."""
    paths = {
        path for pattern in RULE_FILES for path in root.glob(pattern) if "secrets" not in path.parts
    }
    files = {
        str(path.relative_to(root / "deploy")): path.read_bytes()
        for path in sorted(paths)
        if path.is_file()
    }
    return files | {"LICENSE": (root / "LICENSE").read_bytes()}


def dashboard_files(root: Path) -> dict[str, bytes]:
    """Return the dashboards as grafana.com takes them."""
    ids = json.loads((root / "grafana/grafana-com.json").read_text("utf-8"))
    dashboards = [
        json.loads(path.read_text("utf-8"))
        for path in sorted((root / "grafana/dashboards").glob("*.json"))
    ]
    return {
        f"{each['uid']}.json": (
            json.dumps(for_grafana_com(each, ids[each["uid"]]), indent=2) + "\n"
        ).encode()
        for each in dashboards
    }


def for_grafana_com(dashboard: Mapping[str, Any], gnet_id: int | None) -> dict[str, Any]:
    """Return a dashboard with its requirements; a variable, not an input, is its data source."""
    types = {panel["type"] for panel in _panels(dashboard)} - {"row"}
    requirements = [
        {"type": "grafana", "id": "grafana", "name": "Grafana", "version": GRAFANA_VERSION},
        {"type": "datasource", "id": "prometheus", "name": "Prometheus", "version": "1.0.0"},
        *({"type": "panel", "id": kind, "name": kind, "version": ""} for kind in sorted(types)),
    ]
    return {"__inputs": [], "__requires": requirements, **dashboard, "id": None, "gnetId": gnet_id}


def _panels(dashboard: Mapping[str, Any]) -> list[Any]:
    return [each for panel in dashboard.get("panels", ()) for each in (panel, *_panels(panel))]


def write_archive(path: Path, files: Mapping[str, bytes], time: int) -> None:
    """Write a tar archive that depends on the files and on the time only.

    Its links lead to the documents of this version.
    """
    folder = path.name.removesuffix(".tar.gz")
    with (
        path.open("wb") as target,
        gzip.GzipFile("", "wb", fileobj=target, mtime=time) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, file in sorted(files.items()):
            content = link_version(file)
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size = len(content)
            entry.mtime = time
            entry.mode = 0o644
            archive.addfile(entry, io.BytesIO(content))


def main() -> None:
    """Write the archives, with the time of SOURCE_DATE_EPOCH."""
    folder = Path(sys.argv[1])
    time = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    folder.mkdir(parents=True, exist_ok=True)
    for name, files in (("rules", rule_files(ROOT)), ("dashboards", dashboard_files(ROOT))):
        write_archive(folder / f"late-exporter-{name}-{__version__}.tar.gz", files, time)


if __name__ == "__main__":
    main()
