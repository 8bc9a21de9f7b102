"""Every receiver of the example configuration gets a message that it can show."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import yaml

from tests.e2e.alertmanager import run_alertmanager
from tests.e2e.program import wait_until
from tests.e2e.receivers import AlertReceivers
from tests.e2e.replay.delivery import EXTERNAL_URL, post_alerts, shipped_config

RUNBOOK = "https://runbooks.example/LatePlatformFailing.md"
ALERT = {
    "labels": {
        "alertname": "LatePlatformFailing",
        "severity": "critical",
        "job": "late",
        "workspace": "acme",
        "platform": "tiktok",
    },
    "annotations": {
        "summary": "tiktok: 66 % of the publish attempts fail",
        "description": "Workspace acme: 66 % of the publish attempts on tiktok fail. Run: late-exporter posts",
        "runbook_url": RUNBOOK,
    },
    "startsAt": "2026-03-17T10:12:00Z",
    "endsAt": "2100-01-01T00:00:00Z",
}
TITLE = "CRITICAL tiktok: 66 % of the publish attempts fail [late/acme]"
SERVICES = ("pagerduty", "opsgenie", "msteams")


def test_every_receiver_shows_title_and_text(tmp_path: Path, require_tool: Callable[[str], str]) -> None:
    """PagerDuty, Opsgenie, Microsoft Teams, Slack, e-mail and a webhook get title, text, links and priority."""
    with AlertReceivers() as receivers:
        config = shipped_config(receivers, tmp_path)
        names = [receiver["name"] for receiver in config["receivers"]]
        config["route"] = {
            "receiver": names[0],
            "group_by": config["route"]["group_by"],
            "group_wait": "0s",
            "routes": [{"receiver": name, "continue": True} for name in names],
        }
        binary = require_tool("prometheus-alertmanager")
        with run_alertmanager(
            binary, tmp_path, yaml.safe_dump(config), f"--web.external-url={EXTERNAL_URL}", "--web.route-prefix=/"
        ) as url:
            post_alerts(url, [ALERT])
            wait_until(
                lambda: (
                    all(receivers.service_messages.get(name) for name in SERVICES)
                    and len(receivers.mails) >= 2
                    and len(receivers.slack_messages) >= 2
                    and {"webhook"} <= {document["receiver"] for document in receivers.groups}
                ),
                describe=lambda: (receivers.service_messages, receivers.mails, receivers.groups),
            )
    pagerduty, opsgenie, teams = (receivers.service_messages[name][0] for name in SERVICES)
    assert (
        pagerduty["event_action"],
        pagerduty["payload"]["summary"],
        pagerduty["payload"]["severity"],
    ) == ("trigger", TITLE, "critical")
    silence = f"{EXTERNAL_URL}/#/silences/new?filter=%7Balertname%3D%22LatePlatformFailing%22"
    assert [
        pagerduty["links"][0]["href"],
        pagerduty["links"][1]["href"].startswith(silence),
    ] == [RUNBOOK, True]
    assert (opsgenie["priority"], opsgenie["message"]) == ("P1", TITLE)
    for text in (json.dumps(pagerduty), json.dumps(opsgenie), json.dumps(teams), *receivers.mail_texts):
        assert "Workspace acme: 66 % of the publish attempts on tiktok fail. Run: late-exporter posts" in text
        assert silence in text
    assert TITLE in json.dumps(teams)
    everything = json.dumps([receivers.service_messages, receivers.slack_messages, receivers.mail_texts])
    assert not [word for word in ("<no value>", "{{", "%!", "<error") if word in everything]
