"""Messages of alerts, and what docs/alerts.md says about them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.program import http_get, run_command, wait_equal
from tests.e2e.prometheus import run_alertmanager

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"
TEMPLATES = CONFIG.parent / "templates"
PAGE = (ROOT / "docs" / "alerts.md").read_text("utf-8")

LABELS = {
    "account_id": "acc1",
    "alertname": "LatePostFailed",
    "due_at": "2026-11-24T15:59:00Z",
    "job": "late",
    "namespace": "social",
    "username": "@acme",
    "workspace": "Acme & co",
}
ANNOTATIONS = {
    "summary": "instagram: post of @acme failed",
    "description": "A post failed.",
    "runbook_url": "http://r/LatePostFailed.md",
}
FIRING: Mapping[str, Any] = {
    "status": "firing",
    "labels": LABELS,
    "annotations": ANNOTATIONS,
    "startsAt": "2026-11-24T16:00:00Z",
    "endsAt": "0001-01-01T00:00:00Z",
}
RESOLVED: Mapping[str, Any] = {
    "status": "resolved",
    "labels": {"alertname": "LateExporterDown"},
    "annotations": ANNOTATIONS,
    "startsAt": "2026-11-24T16:00:00Z",
    "endsAt": "2026-11-24T17:00:00Z",
}
MESSAGE: Mapping[str, Any] = {
    "receiver": "warning",
    "status": "firing",
    "alerts": [FIRING, RESOLVED],
    "groupLabels": {},
    "commonLabels": {**LABELS, "severity": "warning"},
    "commonAnnotations": ANNOTATIONS,
    "externalURL": "http://am:9093",
}
"""What Alertmanager passes to a template. The second alert has neither job nor workspace."""

DASHBOARD = (
    "https://grafana.example.org/d/late-overview?var-job=late&var-workspace=Acme+%26+co&from=1795532400000&to=now"
)
DASHBOARD_OF_RESOLVED = (
    "https://grafana.example.org/d/late-overview?var-job=%24__all&var-workspace=%24__all"
    "&from=1795532400000&to=1795539600000"
)


@pytest.fixture
def render(require_tool: Callable[[str], str], tmp_path: Path) -> Callable[[str], str]:
    """Return a function that renders a template by its name, with the files of a folder."""
    amtool = require_tool("amtool")
    shutil.copytree(TEMPLATES, tmp_path, dirs_exist_ok=True)
    data = tmp_path / "data.json"
    data.write_text(json.dumps(MESSAGE))

    def run(name: str) -> str:
        text = f'{{{{ template "late.{name}" . }}}}'
        options = ("--template.glob=*.tmpl", f"--template.data={data}", f"--template.text={text}")
        return run_command(amtool, "template", "render", *options, cwd=tmp_path)

    return run


@pytest.mark.e2e
@pytest.mark.parametrize("name", ["slack", "text", "teams"])
def test_messages_have_no_dashboard_without_an_address(
    name: str,
    render: Callable[[str], str],
) -> None:
    """The address of Grafana is not known by default."""
    assert "late-overview" not in render(name)
    assert "Dashboard" not in render(name)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("name", "link"),
    [
        ("slack", "<{}|Dashboard>"),
        ("text", "  Dashboard: {}\n"),
        ("teams", "[Dashboard]({})"),
    ],
)
@pytest.mark.parametrize("file", ["grafana.tmpl", "zzz.tmpl"])
def test_messages_link_the_dashboard(
    name: str, link: str, file: str, render: Callable[[str], str], tmp_path: Path
) -> None:
    """The definition of the documentation, in a file of any name, adds a link to each alert.

    It shows the workspace, from an hour before the alert until its end. An alert without a
    workspace is about all of them.
    """
    (definition,) = re.findall(r'^\{\{ define "late.grafana".+$', PAGE, re.MULTILINE)
    (tmp_path / file).write_text(definition)
    text = render(name)
    assert text.count(link.format(DASHBOARD)) == 1
    assert text.count(link.format(DASHBOARD_OF_RESOLVED)) == 1


@pytest.mark.e2e
def test_title_names_the_environment(render: Callable[[str], str]) -> None:
    """The namespace distinguishes exporters of one name; the time of a post is left out."""
    title = "Warning instagram: post of @acme failed [social/late/Acme & co]"
    assert render("title") == title


@pytest.mark.e2e
def test_a_silence_holds_for_the_next_failed_post(render: Callable[[str], str]) -> None:
    """The form of a silence has neither the name of the account nor the time of its post."""
    (form,) = re.findall(r"Silence: (\S+)", render("text"))
    names = re.findall(r"(\w+)%3D%22", form.replace("%7B", " ").replace("%2C", " "))
    assert names == ["alertname", "account_id", "job", "namespace", "workspace"]


def example(key: str) -> dict[str, Any]:
    """Return the only YAML example of the page that has a key at its top."""
    blocks = re.findall(r"^```yaml\n(.+?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    (document,) = [block for block in map(yaml.safe_load, blocks) if key in block]
    return dict(document)


@pytest.mark.e2e
def test_heartbeat_has_its_own_route(require_tool: Callable[[str], str], tmp_path: Path) -> None:
    """The rule and the route for a heartbeat are valid, and no other receiver gets it."""
    rules = tmp_path / "watchdog.yml"
    rules.write_text(yaml.safe_dump(example("groups")))
    run_command(require_tool("promtool"), "check", "rules", "--lint=all", "--lint-fatal", rules)

    additions = example("receivers")
    config = yaml.safe_load(CONFIG.read_text("utf-8"))
    config["route"]["routes"] = additions["route"]["routes"] + config["route"]["routes"]
    config["receivers"] += additions["receivers"]
    config["templates"] = [f"{TEMPLATES}/*.tmpl"]
    file = tmp_path / "alertmanager.yml"
    file.write_text(yaml.safe_dump(config))
    amtool = require_tool("amtool")
    run_command(amtool, "check-config", file)
    command = ("config", "routes", "test", f"--config.file={file}", "--verify.receivers=heartbeat")
    run_command(amtool, *command, "alertname=Watchdog", "severity=none")


@pytest.mark.e2e
def test_test_messages_reach_the_receivers_of_both_severities(
    require_tool: Callable[[str], str], tmp_path: Path
) -> None:
    """The commands of the page add an alert for each severity, without a warning of amtool."""
    amtool = require_tool("amtool")
    (commands,) = re.findall(r"^for severity in .+?^done$", PAGE, re.DOTALL | re.MULTILINE)
    config = yaml.safe_load(CONFIG.read_text("utf-8"))
    names = {"receivers": [{"name": receiver["name"]} for receiver in config["receivers"]]}
    text = yaml.safe_dump({"route": config["route"], **names})
    with run_alertmanager(require_tool("prometheus-alertmanager"), tmp_path, text) as url:
        script = commands.replace("http://localhost:9093", url)
        script = script.replace("amtool alert", f"{amtool} alert")
        assert run_command("sh", "-euc", script, stderr=subprocess.STDOUT) == ""
        wait_equal([["critical"], ["warning"]], lambda: alert_receivers(url))


def alert_receivers(url: str) -> list[list[str]]:
    """Return the names of the receivers of each alert in an Alertmanager."""
    alerts = json.loads(http_get(f"{url}/api/v2/alerts").body)
    return sorted([receiver["name"] for receiver in alert["receivers"]] for alert in alerts)
