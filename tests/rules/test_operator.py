"""The AlertmanagerConfig for Prometheus Operator has the texts of the example."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.alertmanager.operator import CONFIG, FOLDER
from tests.rules.test_alertmanager import MESSAGE, SLACK, TEXT, render

RESOURCE = FOLDER / CONFIG


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("kind", "field", "expected"), [("slackConfigs", "text", SLACK), ("pagerdutyConfigs", "details", TEXT)]
)
def test_texts_contain_their_templates(
    kind: str, field: str, expected: str, tmp_path: Path, require_tool: Callable[[str], str]
) -> None:
    """Without the template files, the texts of the resource are the same messages."""
    resource = yaml.safe_load(RESOURCE.read_text("utf-8"))
    receiver: Mapping[str, Any] = resource["spec"]["receivers"][0][kind][0]
    text = receiver[field] if field == "text" else receiver[field][0]["value"]
    (tmp_path / "none.tmpl").write_text("")
    assert expected == render(require_tool("amtool"), text, MESSAGE, tmp_path, f"{tmp_path}/none.tmpl")
