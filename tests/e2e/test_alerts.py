"""Test of alerting from a log of Late to the receivers, with all programs, rules, routes and templates as shipped.

Time is compressed: all windows, offsets, ``for`` and ages of the rules and the waits of Alertmanager are divided by
SPEED. Thresholds are unchanged, so the simulated API has to write in seconds as many logs as a busy customer has in an
hour. Durations of posts are not compressed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from late_exporter.feeds import FEEDS
from late_exporter.simulator import SimulatedWorld
from tests.e2e.alertmanager import run_alertmanager
from tests.e2e.late import KEY
from tests.e2e.program import DEFAULT_TIMEOUT, ExporterProcess, http_get, http_request, wait_until
from tests.e2e.prometheus import run_prometheus
from tests.e2e.receivers import AlertReceivers
from tests.e2e.replay.delivery import shipped_config
from tests.e2e.rule_files import render
from tests.e2e.timescale import scale_duration

DEPLOY = Path(__file__).parents[2] / "deploy"
SPEED = 100
SCRAPE = "500ms"
POLL = "200ms"
LOGS_A_SECOND = 15
DAY = 86_400
LONG_FORS = {"LateErrorBudgetBurningFast": "15s", "LateManyWorkspaces": "15s", "LatePollStale": "15s"}
"""Prometheus hands new targets to its scrapers every 5 s, whatever SPEED is, and on a busy machine evaluates rules
seconds apart: alerts that exclude each other would fire at once, and a restart would look like failing polls."""

PLATFORM = "twitter"
TRAFFIC = "platform:late_publishing_attempts:increase30m"
WORKSPACES = ("brand", "agency", "client")
REVOKED = "sk_revoked"

EXPECTED = {"LatePlatformDown", "LatePollStale", "LateExporterDown"}
"""A sixth of all posts fail, which spends the error budget of a month in two days, but all on one platform."""

INHIBITED = {"LatePlatformFailing", "LateAccountFailing", "LateRequestsFailing"}
"""Alerts that the expected ones inhibit."""

MAX_WAITS = {"group_wait", "group_interval", "repeat_interval"}
LONG_WAIT = 2 * DEFAULT_TIMEOUT


class AlertingStack:
    """All programs between Late and the receivers.

    Args:
        folder: Working directory of the programs.
        find_tool: Function that finds a program.
        exit_stack: Stack that ends the programs.
    """

    def __init__(self, folder: Path, find_tool: Callable[[str], str], exit_stack: ExitStack) -> None:
        self._folder = folder
        enter = exit_stack.enter_context
        binaries = find_tool("prometheus"), find_tool("prometheus-alertmanager")
        self.receivers = enter(AlertReceivers())
        simulator = enter(
            ExporterProcess(folder, "simulate", *_simulator_options(), "--simulate.listen-address=127.0.0.1:0")
        )
        self.late = wait_until(lambda: _address(simulator.stderr), describe=lambda: simulator.stderr)
        for name in WORKSPACES:
            self.set_key(name, KEY)
        workspaces = [{"name": name, "api_key_file": f"{name}.key"} for name in WORKSPACES]
        (folder / "late.yml").write_text(yaml.safe_dump({"workspaces": workspaces}))
        self._exporter = ExporterProcess.for_api(
            folder, f"{self.late}/api", "--config.file=late.yml", env={}, interval=POLL
        )
        self.exporter = enter(self._exporter).wait_ready().url
        self.alertmanager = enter(run_alertmanager(binaries[1], folder, self._alertmanager_config()))
        config = self._prometheus_config(urlsplit(self.alertmanager).netloc, urlsplit(self.exporter).netloc)
        lookback = f"--query.lookback-delta={scale_duration('5m', SPEED)}"
        self.prometheus = enter(run_prometheus(binaries[0], folder, config, lookback))

    def set_key(self, workspace: str, key: str) -> None:
        """Change the key of a workspace."""
        (self._folder / f"{workspace}.key").write_text(key)

    def stop(self) -> None:
        """Stop the exporter by SIGTERM."""
        assert self._exporter.stop() == 0

    def start(self) -> None:
        """Start the exporter again on the same port."""
        port = urlsplit(self.exporter).port
        self._exporter.arguments += (f"--web.listen-address=127.0.0.1:{port}",)
        self._exporter.start()

    def change_incident(self, method: str, name: str) -> None:
        """Start an incident on the platform by POST, or stop it by DELETE."""
        query = f"?platform={PLATFORM}" if method == "POST" else ""
        url = f"{self.late}/_simulator/incidents/{name}{query}"
        headers = {"Authorization": f"Bearer {KEY}"}
        assert http_request(method, url, headers, timeout=DEFAULT_TIMEOUT).status == 200

    def busy_workspace_count(self) -> int:
        """Return the number of workspaces with enough traffic on the platform for its alert."""
        return len(self.prometheus.query(f'{TRAFFIC}{{platform="{PLATFORM}"}} >= 20'))

    def wait_for_alert(self, name: str, status: str, **labels: str) -> None:
        """Wait until the webhooks receive an alert."""
        wait_until(
            lambda: self.receivers.find_notifications(name, status, **labels),
            timeout=LONG_WAIT,
            describe=lambda: (name, status, labels, self.alerts(), self.receivers.notifications),
        )

    def alerts(self) -> list[tuple[str, str, str]]:
        """Return name, workspace and state of all alerts in Alertmanager."""
        rows = json.loads(http_get(f"{self.alertmanager}/api/v2/alerts").body)
        return sorted(
            (row["labels"]["alertname"], row["labels"].get("workspace", ""), row["status"]["state"]) for row in rows
        )

    def _alertmanager_config(self) -> str:
        """Return the shipped Alertmanager configuration with local receivers and shorter waits."""
        config = shipped_config(self.receivers, self._folder)
        for route in (config["route"], *config["route"]["routes"]):
            route |= {name: scale_duration(value, SPEED) for name, value in route.items() if name in MAX_WAITS}
        return yaml.safe_dump(config)

    def _prometheus_config(self, alertmanager: str, exporter: str) -> str:
        """Return the shipped Prometheus configuration, with the addresses of this test."""
        config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8"))
        config["global"] = {"scrape_interval": SCRAPE, "scrape_timeout": SCRAPE, "evaluation_interval": SCRAPE}
        config["alerting"]["alertmanagers"][0]["static_configs"] = [{"targets": [alertmanager]}]
        config["scrape_configs"][0]["static_configs"] = [{"targets": [exporter]}]
        rules = render(SPEED)
        assert set(config["rule_files"]) == rules.keys()
        for name, text in rules.items():
            (self._folder / name).write_text(_with_long_fors(text), "utf-8")
        return yaml.safe_dump(config)


def _simulator_options() -> tuple[str, ...]:
    """Return options of a simulator with full traffic at any time of day."""
    ordinary = SimulatedWorld(1, time.time(), logs_per_day=DAY, history=600)
    rate = len(ordinary.publishing.rows) / 600
    return (
        f"--simulate.logs-per-day={DAY * LOGS_A_SECOND / rate:.0f}",
        "--simulate.history=2m",
        "--simulate.rate-limit=100000",
    )


def _with_long_fors(rules: str) -> str:
    """Return the rules with LONG_FORS."""
    document = yaml.safe_load(rules)
    for rule in (rule for group in document["groups"] for rule in group["rules"]):
        if rule.get("alert") in LONG_FORS:
            rule["for"] = LONG_FORS[rule["alert"]]
    return yaml.safe_dump(document)


def _address(errors: str) -> str:
    addresses = [word for word in errors.split() if word.startswith("address=http://")]
    return addresses[0].partition("=")[2] if addresses else ""


@pytest.fixture
def stack(tmp_path: Path, require_tool: Callable[[str], str], exit_stack: ExitStack) -> AlertingStack:
    """Return all programs between Late and the receivers."""
    return AlertingStack(tmp_path, require_tool, exit_stack)


def test_alerts_reach_their_receivers(stack: AlertingStack) -> None:
    """An outage, a rejected key and a stopped exporter alert their receivers and resolve; no other alert is sent."""
    wait_until(lambda: stack.busy_workspace_count() == len(WORKSPACES), timeout=LONG_WAIT, describe=stack.alerts)
    assert stack.receivers.notifications == []

    stack.change_incident("POST", "platform-outage")
    stack.wait_for_alert("LatePlatformDown", "firing", platform=PLATFORM)
    stack.change_incident("DELETE", "platform-outage")
    stack.wait_for_alert("LatePlatformDown", "resolved", platform=PLATFORM)
    # An account that still fails would alert as soon as the next poll succeeds.
    wait_until(lambda: not stack.prometheus.query('ALERTS{alertname="LateAccountFailing"}'), timeout=LONG_WAIT)

    stack.set_key("client", REVOKED)
    for feed in FEEDS:
        stack.wait_for_alert("LatePollStale", "firing", workspace="client", feed=feed)
    stack.set_key("client", KEY)
    for feed in FEEDS:
        stack.wait_for_alert("LatePollStale", "resolved", workspace="client", feed=feed)

    stack.stop()
    stack.wait_for_alert("LateExporterDown", "firing")
    stack.start()
    stack.wait_for_alert("LateExporterDown", "resolved")

    _has_expected_alerts(stack)


def _has_expected_alerts(stack: AlertingStack) -> None:
    """Assert that only expected alerts were sent, and that only those they inhibit fired besides."""
    notified = stack.receivers.notifications
    assert {each.name for each in notified} <= EXPECTED
    assert {each.labels["platform"] for each in notified if "platform" in each.labels} == {PLATFORM}
    assert {each.labels["workspace"] for each in notified if each.name == "LatePollStale"} == {"client"}
    firing = stack.prometheus.query('count by (alertname) (count_over_time(ALERTS{alertstate="firing"}[1h]))')
    assert {row["metric"]["alertname"] for row in firing} <= EXPECTED | INHIBITED
    # Each receiver gets its own severity only.
    assert {each.labels["severity"] for each in notified if each.receiver == "critical"} == {"critical"}
    assert {"warning"} >= {each.labels["severity"] for each in notified if each.receiver == "warning"}
