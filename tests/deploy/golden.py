"""The plain manifest, and golden files of the chart rendered with typical values.

``python -m tests.deploy.golden`` writes them.
"""

from __future__ import annotations

import shutil
import sys

from deploy.chart import CHART, ROOT
from tests.deploy.manifests import SECRET_SETTING, abridge, helm_template

FOLDER = ROOT / "tests/golden/helm"
VALUES_FILES = {
    path.name.removesuffix("-values.yaml"): path
    for folder in (CHART / "ci", ROOT / "tests/deploy/database")
    for path in sorted(folder.glob("*.yaml"))
}
"""Values with which .ci/kind installs the chart, and values that need a database, which is not in that cluster."""

PLAIN_MANIFEST = ROOT / "deploy/kubernetes/late-exporter.yaml"
PLAIN_HEADER = """\
# late-exporter with default settings, made of the Helm chart by python -m tests.deploy.golden.
# It needs the API key in a Secret:
#   kubectl create secret generic late-api-key --from-file=api-key=FILE
#   kubectl apply --filename late-exporter.yaml
"""


def render(helm: str, name: str) -> str:
    """Return the chart rendered with the values of a file, without the contents of rules and dashboards."""
    return _tidy(abridge(helm_template(helm, "--values", VALUES_FILES[name])))


def render_plain(helm: str) -> str:
    """Return the plain manifest: the chart with default values, without the marks of Helm."""
    text = helm_template(helm, "--set", SECRET_SETTING, "--skip-tests", name="late-exporter")
    marks = ("# Source:", "helm.sh/chart:", "app.kubernetes.io/managed-by:")
    lines = [line for line in _tidy(text).splitlines() if not line.strip().startswith(marks)]
    return PLAIN_HEADER + "\n".join(lines) + "\n"


def _tidy(text: str) -> str:
    """Drop empty lines between documents, in which versions of Helm differ."""
    return "\n".join(line.rstrip() for line in text.splitlines() if line.strip()) + "\n"


def main() -> None:
    """Write the files."""
    helm = shutil.which("helm") or sys.exit("helm is not installed")
    PLAIN_MANIFEST.write_text(render_plain(helm), "utf-8")
    for name in VALUES_FILES:
        (FOLDER / f"{name}.yaml").write_text(render(helm, name), "utf-8")


if __name__ == "__main__":
    main()
