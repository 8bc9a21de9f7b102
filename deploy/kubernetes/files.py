"""The files below deploy/ that are made of others, so that rules, dashboards and options have one place."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import indent

from deploy.kubernetes.chart import options_schema, table

__all__ = ["CHART", "COMPONENTS", "DASHBOARDS", "ROOT", "RULES", "written"]

ROOT = Path(__file__).parents[2]
RULES = tuple(sorted((ROOT / "deploy/prometheus").glob("late-exporter.*.yml")))
DASHBOARDS = tuple(sorted((ROOT / "grafana/dashboards").glob("*.json")))

COMPONENTS = ROOT / "deploy/kubernetes/components"
CHART = ROOT / "deploy/helm/late-exporter"

HEADER = "# Written by python -m deploy.kubernetes: change what it is made of.\n"

RULE = """\
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: {name}
  labels:
    app.kubernetes.io/name: late-exporter
spec:
{rules}"""

DASHBOARD = """\
apiVersion: grafana.integreatly.org/v1beta1
kind: GrafanaDashboard
metadata:
  name: {name}
  labels:
    app.kubernetes.io/name: late-exporter
spec:
  instanceSelector:
    matchLabels:
      dashboards: grafana
  folder: Late
  configMapRef:
    name: {name}
    key: {key}
"""


def written() -> Mapping[Path, str]:
    """The files by their paths."""
    return {
        COMPONENTS / "prometheus-rule/prometheusrule.yaml": _stream(_rules()),
        COMPONENTS / "grafana-operator/grafanadashboards.yaml": _stream(_dashboards()),
        CHART / "values.schema.json": _schema(),
        CHART / "README.md": _readme(),
        **{CHART / "files/rules" / path.name: path.read_text("utf-8") for path in RULES},
        **{CHART / "files/dashboards" / path.name: path.read_text("utf-8") for path in DASHBOARDS},
    }


def _stream(documents: Iterator[str]) -> str:
    return HEADER + "---\n".join(documents)


def _rules() -> Iterator[str]:
    for path in RULES:
        rules = re.sub(r"\A(#.*\n)+", "", path.read_text("utf-8"))
        yield RULE.format(name=path.stem.replace(".", "-"), rules=indent(rules, "  "))


def _dashboards() -> Iterator[str]:
    for path in DASHBOARDS:
        yield DASHBOARD.format(name=f"late-dashboard-{path.stem.removeprefix('late-')}", key=path.name)


def _schema() -> str:
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    schema["properties"]["config"] = options_schema()
    return json.dumps(schema, indent=2) + "\n"


def _readme() -> str:
    before = (CHART / "README.md").read_text("utf-8")
    rows = table((CHART / "values.yaml").read_text("utf-8"))
    begin, end = "<!-- begin values -->", "<!-- end values -->"
    return re.sub(f"{begin}.*{end}", lambda _: f"{begin}\n{rows}\n{end}", before, flags=re.DOTALL)
