"""The example Alertmanager configuration: routes, messages and inhibitions."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml

from tests.e2e.program import http_get, run_command, wait_equal, wait_until
from tests.e2e.prometheus import run_alertmanager
from tests.e2e.replay.delivery import FAR_FUTURE, post_alerts

FOLDER = Path(__file__).parents[2] / "deploy" / "alertmanager"
CONFIG = FOLDER / "alertmanager.yml"
RULES = FOLDER.parent / "prometheus" / "late-exporter.alerts.yml"

ACCOUNT = {"job": "late", "workspace": "acme", "platform": "tiktok", "account_id": "acc1"}
PLATFORM = {"job": "late", "workspace": "acme", "platform": "tiktok"}
FEED = {"job": "late", "workspace": "acme", "feed": "publishing"}
WORKSPACE = {"job": "late", "workspace": "acme"}
LIMIT = {**WORKSPACE, "kind": "uploads"}
PLATFORM_OF_JOB = {"job": "late", "platform": "tiktok"}
NOTHING_PUBLISHED = {"job": "late", "cause": "LateNothingPublished"}

Alert: TypeAlias = Mapping[str, Any]

NO_RECEIVERS = {"route": {"receiver": "none"}, "receivers": [{"name": "none"}]}
SUPPRESSED, ACTIVE = "suppressed", "active"
INHIBITIONS: list[tuple[str, Mapping[str, str], str, Mapping[str, str], str]] = [
    # Source alert and its labels, target alert and its labels, expected state of the target.
    ("LateManyWorkspaces", {"job": "late", "cause": "LatePollStale"}, "LatePollStale", FEED, SUPPRESSED),
    ("LateManyWorkspaces", {"job": "two", "cause": "LatePollStale"}, "LatePollStale", FEED, ACTIVE),
    ("LateManyWorkspaces", {"job": "late", "cause": "LatePostsOverdue"}, "LatePollStale", FEED, ACTIVE),
    ("LateManyWorkspaces", {"job": "late", "cause": "LatePostsOverdue"}, "LatePostsOverdue", WORKSPACE, SUPPRESSED),
    ("LateManyWorkspaces", {"job": "late", "cause": "LatePlanStopsPosts"}, "LatePlanStopsPosts", LIMIT, SUPPRESSED),
    ("LateExporterDown", {"job": "late", "severity": "critical"}, "LatePollStale", FEED, SUPPRESSED),
    ("LatePlatformDown", {"job": "late", "platform": "tiktok"}, "LatePlatformFailing", PLATFORM, SUPPRESSED),
    ("LatePlatformDown", {"job": "late", "platform": "twitter"}, "LatePlatformFailing", PLATFORM, ACTIVE),
    ("LatePollStale", FEED, "LatePostStuck", PLATFORM, SUPPRESSED),
    ("LatePollStale", {**FEED, "feed": "connections"}, "LatePostStuck", PLATFORM, ACTIVE),
    ("LatePlanStopsPosts", WORKSPACE, "LatePostsOverdue", WORKSPACE, SUPPRESSED),
    ("LatePlatformFailing", PLATFORM, "LateErrorBudgetBurningFast", WORKSPACE, SUPPRESSED),
    ("LateNothingPublished", WORKSPACE, "LateNothingPublished", PLATFORM, SUPPRESSED),
    ("LateNothingPublished", WORKSPACE, "LatePlatformFailing", PLATFORM, SUPPRESSED),
    ("LateNothingPublished", PLATFORM, "LateNothingPublished", WORKSPACE, ACTIVE),
    ("LateNothingPublished", PLATFORM, "LateErrorBudgetBurningFast", WORKSPACE, SUPPRESSED),
    ("LateNothingPublished", PLATFORM, "LateAccountFailing", ACCOUNT, SUPPRESSED),
    ("LateNothingPublished", PLATFORM, "LatePostFailed", ACCOUNT, ACTIVE),
    ("LatePlatformDown", PLATFORM_OF_JOB, "LateNothingPublished", PLATFORM, SUPPRESSED),
    ("LateManyWorkspaces", NOTHING_PUBLISHED, "LateNothingPublished", WORKSPACE, SUPPRESSED),
    ("LateAccountDisconnected", ACCOUNT, "LateNothingPublished", PLATFORM, ACTIVE),
    ("LatePollStale", FEED, "LatePollStale", {**FEED, "feed": "connections"}, SUPPRESSED),
    ("LatePlatformFailing", PLATFORM, "LateAccountFailing", ACCOUNT, SUPPRESSED),
    ("LateAccountDisconnected", ACCOUNT, "LateTokenExpiring", ACCOUNT, SUPPRESSED),
    ("LatePostsAtRisk", PLATFORM, "LateErrorBudgetBurningFast", WORKSPACE, SUPPRESSED),
    ("LatePostsAtRisk", PLATFORM, "LateAccountDisconnected", ACCOUNT, SUPPRESSED),
    ("LateAccountCannotPost", ACCOUNT, "LateAccountFailing", ACCOUNT, SUPPRESSED),
    ("LateErrorBudgetBurningFast", WORKSPACE, "LateErrorBudgetBurningSlowly", WORKSPACE, SUPPRESSED),
    ("LatePlanStopsPosts", LIMIT, "LatePlanLimitNear", LIMIT, SUPPRESSED),
]

NAME = "LateTokenExpiring"
FIRING: Alert = {
    "status": "firing",
    "labels": {"alertname": NAME, "username": "@acme", "webhook": "A+B & co"},
    "annotations": {
        "summary": "tiktok: token of <!channel> expires in 2d",
        "description": "The token of <!channel> & co expires.",
    },
    "startsAt": "2026-11-24T16:00:00Z",
}
RESOLVED: Alert = {
    "status": "resolved",
    "labels": {"alertname": NAME},
    "annotations": {
        "summary": "tiktok: token of Bakery expires in 3d",
        "description": "The token of [Bakery](http://x) expires.",
    },
    "startsAt": "2026-11-24T15:00:00Z",
    "endsAt": "2026-11-24T15:30:00Z",
}
MESSAGE: Mapping[str, Any] = {
    "receiver": "critical",
    "status": "firing",
    "alerts": [FIRING, RESOLVED],
    "groupLabels": {"alertname": NAME},
    "commonLabels": {
        "cluster": "east",
        "job": "late-two",
        "workspace": "default",
        "platform": "tiktok",
        "severity": "critical",
    },
    "commonAnnotations": {"runbook_url": f"http://r/{NAME}.md"},
    "externalURL": "http://am:9093",
}
"""What Alertmanager passes to a template."""

SILENCE = "http://am:9093/#/silences/new?filter=%7Balertname%3D%22LateTokenExpiring%22"

SLACK = f"""\

• The token of &lt;!channel&gt; &amp; co expires.
Since 2026-11-24 16:00 UTC · <{SILENCE}%2Cwebhook%3D%22A%2BB%20%26%20co%22%7D|Silence>

• Last report: The token of [Bakery](http://x) expires.
Resolved at 15:30 UTC, firing since 2026-11-24 15:00 UTC

<http://r/LateTokenExpiring.md|What to do>"""

TEAMS = f"""\

- The token of !channel & co expires. Since 2026-11-24 16:00 UTC. \
[Silence]({SILENCE}%2Cwebhook%3D%22A%2BB%20%26%20co%22%7D)

- Last report: The token of Bakery(http://x) expires. Resolved at 15:30 UTC, firing since 2026-11-24 15:00 UTC.

[What to do](http://r/LateTokenExpiring.md)"""


def render(amtool: str, text: str, folder: Path) -> str:
    """Return a text with templates, filled in with the message."""
    file = folder / "data.json"
    file.write_text(json.dumps(MESSAGE))
    options = ("--template.glob=templates/*.tmpl", f"--template.data={file}", f"--template.text={text}")
    return run_command(amtool, "template", "render", *options, cwd=FOLDER)


def test_secrets_are_read_from_files() -> None:
    """The configuration reads secrets from files and contains none itself."""
    text = CONFIG.read_text("utf-8")
    assert "slack_api_url_file:" in text
    assert "smtp_auth_password_file:" in text
    assert not re.findall(r"(?:api_url|password|secret|token|key|webhook_url|[^_]url):", text)


def test_alerts_of_two_exporters_are_distinguished() -> None:
    """Messages and inhibitions are about one exporter, by the labels of its target."""
    config = yaml.safe_load(CONFIG.read_text("utf-8"))
    target_labels = {"cluster", "namespace", "job"}
    assert target_labels | {"instance", "workspace"} < set(config["route"]["group_by"])
    for rule in config["inhibit_rules"]:
        assert target_labels <= set(rule["equal"]), rule


def test_inhibitions_name_existing_alerts() -> None:
    """Every alert named in an inhibition rule exists."""
    alert_names = set(re.findall(r"alert: (\w+)", RULES.read_text("utf-8")))
    inhibited_names = set(re.findall(r"\bLate\w+(?![.\w])", CONFIG.read_text("utf-8")))
    assert "LatePollStale" in inhibited_names
    assert inhibited_names - alert_names == set()


@pytest.mark.e2e
def test_quiet_hours_can_be_switched_on(require_tool: Callable[[str], str], tmp_path: Path) -> None:
    """Amtool accepts the configuration and its templates with the quiet hours that are commented out."""
    folder = tmp_path / "alertmanager"
    shutil.copytree(FOLDER, folder)
    config = folder / CONFIG.name
    config.write_text(config.read_text("utf-8").replace("# mute_time_intervals", "mute_time_intervals"), "utf-8")
    run_command(require_tool("amtool"), "check-config", config)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        ("severity=critical workspace=acme", "critical"),
        ("severity=warning workspace=acme", "warning"),
        ("severity=critical workspace=agency", "agency,critical"),
        ("severity=info", "warning"),
        ("severity=warning workspace=acme alertname=LatePostFailed", "failed-posts"),
    ],
)
def test_alerts_are_routed_by_severity_and_workspace(
    labels: str, receivers: str, require_tool: Callable[[str], str]
) -> None:
    """Critical alerts page, warnings go to the channel, and the owner of a workspace gets a copy."""
    command = ("config", "routes", "test", f"--config.file={CONFIG}", f"--verify.receivers={receivers}")
    run_command(require_tool("amtool"), *command, *labels.split())


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("title", "CRITICAL tiktok: token of !channel expires in 2d [east/late-two/default]"),
        ("slack", SLACK),
        ("teams", TEAMS),
    ],
)
def test_message_templates(template: str, text: str, tmp_path: Path, require_tool: Callable[[str], str]) -> None:
    """Messages are readable as plain text, and account names are not interpreted as markup."""
    assert render(require_tool("amtool"), f'{{{{ template "late.{template}" . }}}}', tmp_path) == text


def _templates(node: Any) -> Iterator[str]:
    """Yield the texts with templates in a part of the configuration."""
    if isinstance(node, str) and "{{" in node:
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _templates(child)


@pytest.mark.e2e
def test_every_receiver_has_title_text_and_links(tmp_path: Path, require_tool: Callable[[str], str]) -> None:
    """Each receiver of the example but a plain webhook shows title, text, runbook and a link to silence the alert."""
    for receiver in yaml.safe_load(CONFIG.read_text("utf-8"))["receivers"]:
        shown = [render(require_tool("amtool"), text, tmp_path) for text in _templates(receiver)]
        assert [text for text in shown if re.search(r"<no value>|\{\{|%!", text)] == []
        for part in ("token of !channel expires", "co expires.", "LateTokenExpiring.md", "/silences/new?"):
            assert receiver["name"] == "webhook" or any(part in text for text in shown), (receiver["name"], part)


@pytest.mark.e2e
def test_inhibitions_suppress_only_their_targets(require_tool: Callable[[str], str], tmp_path: Path) -> None:
    """An alert is suppressed only if an alert that explains it is firing; each pair is in a cluster of its own."""
    sources, targets, expected = list[Alert](), list[Alert](), dict[str, str]()
    for number, (source, source_labels, target, target_labels, state) in enumerate(INHIBITIONS):
        own = {"cluster": f"{number}: {source} {target}"}
        sources.append({"labels": {**source_labels, "alertname": source, **own}, "endsAt": FAR_FUTURE})
        labels = {"severity": "warning", **target_labels, "alertname": target, "is_target": "yes", **own}
        targets.append({"labels": labels, "endsAt": FAR_FUTURE})
        expected[own["cluster"]] = state
    example = yaml.safe_load(CONFIG.read_text("utf-8"))
    config = {**NO_RECEIVERS, "inhibit_rules": example["inhibit_rules"]}
    with run_alertmanager(require_tool("prometheus-alertmanager"), tmp_path, yaml.safe_dump(config)) as url:
        post_alerts(url, sources)
        wait_until(lambda: len(_alerts(url)) == len(sources))
        post_alerts(url, targets)
        wait_equal(
            expected,
            lambda: {
                alert["labels"]["cluster"]: alert["status"]["state"]
                for alert in _alerts(url)
                if "is_target" in alert["labels"]
            },
            timeout=60,
        )


def _alerts(url: str) -> list[Alert]:
    alerts: list[Alert] = json.loads(http_get(f"{url}/api/v2/alerts").body)
    return alerts
