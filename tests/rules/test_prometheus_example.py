"""The example configuration of Prometheus, with and without its lines for replicas."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.program import run_command
from tests.rules.rule_files import FOLDER

EXAMPLE = (FOLDER / "prometheus.yml").read_text("utf-8")

FOR_REPLICAS = re.sub(r"^    # (metric_relabel_configs:|  - \{)", r"    \1", EXAMPLE, flags=re.MULTILINE)
"""The example without the comment signs at its lines for replicas."""

CONSTANT_INSTANCE = {
    "source_labels": ["workspace"],
    "regex": ".+",
    "target_label": "instance",
    "replacement": "late-exporter",
}


def relabelings(text: str) -> list[Any]:
    """Return the relabelings of the metrics of the only job."""
    (job,) = yaml.safe_load(text)["scrape_configs"]
    return list(job.get("metric_relabel_configs", []))


def test_instance_is_constant_only_for_replicas() -> None:
    """Messages about a single exporter name its address; series continue in another replica."""
    assert relabelings(EXAMPLE) == []
    assert relabelings(FOR_REPLICAS) == [CONSTANT_INSTANCE]


@pytest.mark.e2e
def test_promtool_accepts_the_lines_for_replicas(require_tool: Callable[[str], str], tmp_path: Path) -> None:
    """The example is valid after the comment signs are removed, as it says."""
    text = FOR_REPLICAS.replace("- late-exporter.", f"- {FOLDER}/late-exporter.")
    config = tmp_path / "prometheus.yml"
    config.write_text(text, "utf-8")
    run_command(require_tool("promtool"), "check", "config", "--lint=all", "--lint-fatal", config)
