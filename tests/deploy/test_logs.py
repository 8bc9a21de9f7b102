"""Configurations of agents that send the events of a file to Loki."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from late_exporter.feeds.log_events import LogEvent

FOLDER = Path(__file__).parents[2] / "deploy" / "logs"
FILE = "/var/log/late-exporter/events.jsonl"
LABELS = {"workspace", "platform", "status"}
"""Labels in Loki, besides the job; the dashboards select lines by them."""


def test_every_configuration_reads_the_documented_file() -> None:
    """All read the file that their first lines and logrotate name."""
    assert ["alloy.alloy", "late-exporter.logrotate", "vector.yaml"] == sorted(path.name for path in FOLDER.iterdir())
    assert [] == [path.name for path in FOLDER.iterdir() if FILE not in path.read_text("utf-8")]
    assert LABELS | {"time"} <= set(LogEvent.__struct_fields__)


def test_the_labels_in_loki_are_those_of_the_dashboards() -> None:
    """Alloy and Vector send the job and the same labels."""
    (labels,) = re.findall(r"stage\.labels \{\s+values = \{(.*)\}", (FOLDER / "alloy.alloy").read_text("utf-8"))
    assert LABELS == set(re.findall(r"(\w+) = ", labels))
    sink = yaml.safe_load((FOLDER / "vector.yaml").read_text("utf-8"))["sinks"]["loki"]
    assert {"job": "late-exporter", **{label: f"{{{{ {label} }}}}" for label in LABELS}} == sink["labels"]
