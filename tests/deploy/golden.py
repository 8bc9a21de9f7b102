"""The golden renders of the values in the chart's ci/; ``python -m tests.deploy.golden`` writes them anew."""

from __future__ import annotations

import shutil
import sys

from deploy.kubernetes.files import CHART, ROOT
from tests.deploy.manifests import abridge, helm_template

__all__ = ["FOLDER", "VALUES_FILES", "render"]

FOLDER = ROOT / "tests/golden/helm"
VALUES_FILES = {path.name.removesuffix("-values.yaml"): path for path in sorted((CHART / "ci").glob("*.yaml"))}


def render(helm: str, name: str) -> str:
    """What helm makes of one of the values; rules and dashboards, which have files of their own, only by name."""
    lines = abridge(helm_template(helm, "--values", VALUES_FILES[name]), "https://grafana.example.com/").splitlines()
    # Between documents, versions of helm differ in empty lines.
    return "\n".join(line.rstrip() for line in lines if line.strip()) + "\n"


def main() -> None:
    """Write the renders."""
    helm = shutil.which("helm") or sys.exit("helm is not installed")
    for name in VALUES_FILES:
        (FOLDER / f"{name}.yaml").write_text(render(helm, name), "utf-8")


if __name__ == "__main__":
    main()
