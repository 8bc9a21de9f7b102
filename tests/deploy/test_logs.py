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


def test_vector() -> None:
    """The labels are those of the dashboards, and the line keeps all fields."""
    document = yaml.safe_load((FOLDER / "vector.yaml").read_text("utf-8"))
    assert [FILE] == document["sources"]["late_events"]["include"]
    sink = document["sinks"]["loki"]
    assert {"job": "late-exporter", **{label: f"{{{{ {label} }}}}" for label in LABELS}} == sink["labels"]
    assert {"codec": "json", "except_fields": ["timestamp"]} == sink["encoding"]


def test_alloy() -> None:
    """The labels are those of the dashboards; every component that is named exists."""
    text = (FOLDER / "alloy.alloy").read_text("utf-8")
    (labels,) = re.findall(r"stage\.labels \{\s+values = \{(.*)\}", text)
    assert LABELS == set(re.findall(r"(\w+) = ", labels))
    assert '"job" = "late-exporter"' in text
    components = {".".join(parts) for parts in re.findall(r'^([\w.]+) "(\w+)" \{', text, re.MULTILINE)}
    used = set(re.findall(r"((?:local|loki)\.[\w.]+)\.(?:receiver|targets)", text))
    assert components == used | {"loki.source.file.late_events"}
