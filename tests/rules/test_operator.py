"""The AlertmanagerConfig for Prometheus Operator, generated from the example, is one that Alertmanager accepts."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.alertmanager.operator import CONFIG, FOLDER
from tests.rules.test_alertmanager import MESSAGE, SLACK, TEXT

RESOURCE = FOLDER / CONFIG
RENAMED = {
    "apiURL": "api_url_file",
    "clientURL": "client_url",
    "groupBy": "group_by",
    "groupInterval": "group_interval",
    "groupWait": "group_wait",
    "inhibitRules": "inhibit_rules",
    "pagerDutyLinkConfigs": "links",
    "pagerdutyConfigs": "pagerduty_configs",
    "repeatInterval": "repeat_interval",
    "routingKey": "routing_key_file",
    "sendResolved": "send_resolved",
    "slackConfigs": "slack_configs",
    "sourceMatch": "source_matchers",
    "targetMatch": "target_matchers",
    "titleLink": "title_link",
}
"""Names of fields in v1alpha1 of the API of Prometheus Operator, as its alertmanager_config_types.go has them."""

SAME = {"channel", "class", "client", "color", "component", "description", "equal", "fallback", "matchers", "name"}
SAME |= {"receiver", "receivers", "route", "routes", "severity", "text", "title", "details"}


def _load() -> dict[str, Any]:
    resource: dict[str, Any] = yaml.safe_load(RESOURCE.read_text("utf-8"))
    assert ("monitoring.coreos.com/v1alpha1", "AlertmanagerConfig") == (resource["apiVersion"], resource["kind"])
    return resource


def _convert(value: Any) -> Any:
    """Return a part of the resource as Prometheus Operator writes it into the configuration of Alertmanager."""
    if isinstance(value, list):
        return _convert_list(value)
    if not isinstance(value, dict):
        return value
    if value.keys() == {"name", "key"}:
        return f"/secrets/{value['name']}/{value['key']}"
    unknown = value.keys() - RENAMED.keys() - SAME
    assert not unknown, f"no fields of the API: {unknown}"
    return {RENAMED.get(key, key): _convert(item) for key, item in value.items()}


def _convert_list(values: list[Any]) -> Any:
    keys = set(values[0]) if values and isinstance(values[0], dict) else set()
    if "matchType" in keys:
        return [f'{matcher["name"]}{matcher["matchType"]}"{matcher["value"]}"' for matcher in values]
    if keys == {"key", "value"}:
        return {pair["key"]: pair["value"] for pair in values}
    if keys == {"href", "alt"}:
        return [{"href": link["href"], "text": link["alt"]} for link in values]
    return [_convert(value) for value in values]


@pytest.fixture
def converted(tmp_path: Path) -> Path:
    """Return a configuration file of Alertmanager with the resource below the route of the cluster's Alertmanager."""
    file = tmp_path / "alertmanager.yml"
    config = _convert(_load()["spec"])
    config["route"] = {"receiver": "null", "routes": [{**config["route"], "continue": True}]}
    config["receivers"].append({"name": "null"})
    file.write_text(yaml.safe_dump(config, allow_unicode=True), "utf-8")
    return file


@pytest.mark.e2e
def test_amtool_accepts_the_resource(converted: Path, require_tool: Callable[[str], str]) -> None:
    """Amtool accepts what Prometheus Operator makes of the resource, and routes alerts by severity."""
    amtool = require_tool("amtool")
    subprocess.run([amtool, "check-config", str(converted)], check=True)
    for severity, receiver in (("critical", "critical"), ("warning", "warning")):
        command = ["config", "routes", "test", f"--config.file={converted}", f"--verify.receivers={receiver}"]
        subprocess.run([amtool, *command, "exporter=late", f"severity={severity}"], check=True)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("kind", "field", "expected"), [("slackConfigs", "text", SLACK), ("pagerdutyConfigs", "details", TEXT)]
)
def test_texts_contain_their_templates(
    kind: str, field: str, expected: str, tmp_path: Path, require_tool: Callable[[str], str]
) -> None:
    """Without the template files, the texts of the resource are the same messages."""
    data = tmp_path / "data.json"
    data.write_text(json.dumps(MESSAGE))
    receiver: Mapping[str, Any] = _load()["spec"]["receivers"][0][kind][0]
    text = receiver[field] if field == "text" else receiver[field][0]["value"]
    (tmp_path / "none.tmpl").write_text("")
    command = ["template", "render", f"--template.glob={tmp_path}/none.tmpl", f"--template.data={data}"]
    process = subprocess.run(
        [require_tool("amtool"), *command, f"--template.text={text}"], check=False, capture_output=True, text=True
    )
    assert expected == process.stdout, process.stderr
