"""The golden renders of the values in the chart's ci/; ``python -m tests.deploy.renders`` writes them anew."""

from __future__ import annotations

import shutil
import sys

from deploy.kubernetes.files import CHART, ROOT
from tests.deploy.manifests import abridged, template

__all__ = ["FOLDER", "VALUES", "render"]

FOLDER = ROOT / "tests/golden/helm"
VALUES = {path.name.removesuffix("-values.yaml"): path for path in sorted((CHART / "ci").glob("*.yaml"))}


def render(helm: str, name: str) -> str:
    """What helm makes of one of the values; rules and dashboards, which have files of their own, only by name."""
    lines = abridged(template(helm, "--values", VALUES[name]), "https://grafana.example.com/").splitlines()
    # Between documents, versions of helm differ in empty lines.
    return "\n".join(line.rstrip() for line in lines if line.strip()) + "\n"


def main() -> None:
    """Write the renders."""
    helm = shutil.which("helm") or sys.exit("helm is not installed")
    for name in VALUES:
        (FOLDER / f"{name}.yaml").write_text(render(helm, name), "utf-8")


if __name__ == "__main__":
    main()
