"""Golden files of the chart rendered with typical values; ``python -m tests.deploy.golden`` updates them."""

from __future__ import annotations

import shutil
import sys

from deploy.kubernetes.files import CHART, ROOT
from tests.deploy.manifests import abridge, helm_template

FOLDER = ROOT / "tests/golden/helm"
INSTALLED_FILES = {path.name.removesuffix("-values.yaml"): path for path in sorted((CHART / "ci").glob("*.yaml"))}
"""Values with which .ci/kind installs the chart."""

DATABASE = ROOT / "tests/deploy/database"
VALUES_FILES = INSTALLED_FILES | {path.name.removesuffix("-values.yaml"): path for path in DATABASE.glob("*.yaml")}
"""These, and values that need a database, which is not in that cluster."""


def render(helm: str, name: str) -> str:
    """Return the rendered chart, with rules and dashboards replaced by their file names."""
    lines = abridge(helm_template(helm, "--values", VALUES_FILES[name])).splitlines()
    # Helm versions differ in the empty lines between documents.
    return "\n".join(line.rstrip() for line in lines if line.strip()) + "\n"


def main() -> None:
    """Update the golden files."""
    helm = shutil.which("helm") or sys.exit("helm is not installed")
    for name in VALUES_FILES:
        (FOLDER / f"{name}.yaml").write_text(render(helm, name), "utf-8")


if __name__ == "__main__":
    main()
