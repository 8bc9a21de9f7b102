"""Deliver evaluated alerts to a real Alertmanager with the shipped configuration, and record its messages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.e2e.program import DEFAULT_TIMEOUT, http_get, http_request, wait_until
from tests.e2e.prometheus import run_alertmanager
from tests.e2e.receivers import AlertReceivers, Labels, pairs
from tests.e2e.replay.evaluation import FiringAlert
from tests.e2e.replay.recording import START
from tests.support.clock import MINUTE

DEPLOY = Path(__file__).parents[3] / "deploy"
EXTERNAL_URL = "https://alertmanager.example"
FAR_FUTURE = "2100-01-01T00:00:00Z"
WAITS = {"group_wait": "0s", "group_interval": "50ms"}
"""Alertmanager does not wait for alerts that began long ago, as these did; so what inhibits others is sent before."""

GROUP = "{{ .GroupLabels.SortedPairs.Values }}"
"""Template of the group that a message is about, which its texts need not name."""


class Message(NamedTuple):
    """A message in Slack, with the minute after the start of the incident."""

    minute: int
    channel: str
    title: str
    text: str

    def render(self) -> str:
        """Return the message as Markdown."""
        heading = f"## {self.minute} minutes after the start, in {self.channel}"
        return f"{heading}\n\n{self.title}\n\n{self.text.strip()}\n"


class Change(NamedTuple):
    """A change of an alert: the minute since which it fires, and that in which it was resolved."""

    alert: FiringAlert
    since: int
    resolved: int | None


def shipped_config(receivers: AlertReceivers, folder: Path) -> dict[str, Any]:
    """Return the shipped configuration with local receivers and existing secret files.

    Every receiver also gets a webhook of its name.
    """
    config: dict[str, Any] = yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yml").read_text("utf-8"))
    secrets = folder / "secrets"
    secrets.mkdir(exist_ok=True)
    for name in ("slack", "msteams"):
        (secrets / f"{name}.url").write_text(f"{receivers.url}/services/{name}")
    (secrets / "webhook.url").write_text(f"{receivers.url}/webhook")
    for name in ("pagerduty.key", "opsgenie.key", "smtp.password"):
        (secrets / name).write_text("secret")
    text = json.dumps(config).replace("/etc/alertmanager/secrets", str(secrets))
    config = json.loads(text)
    config["global"]["pagerduty_url"] = f"{receivers.url}/services/pagerduty"
    config["templates"] = [f"{DEPLOY / 'alertmanager'}/{name}" for name in config["templates"]]
    for receiver in config["receivers"]:
        own = receiver.get("webhook_configs", [])
        copy = {"url": f"{receivers.url}/{receiver['name']}", "send_resolved": _sends_resolved(receiver)}
        receiver["webhook_configs"] = [*own, copy]
    return config


def _sends_resolved(receiver: Mapping[str, Any]) -> bool:
    """Return whether a receiver is told of what is over, as those without Slack are."""
    return all(slack["send_resolved"] for slack in receiver.get("slack_configs", []))


def deliver(alerts: Sequence[FiringAlert], binary: str, folder: Path, step: int = 1) -> Sequence[Message]:
    """Return the Slack messages for alerts in virtual time, which were evaluated every ``step`` minutes.

    Each minute whose alerts differ from the one before is delivered, and the messages about it are awaited. A real
    Alertmanager collects the changes of five minutes in one message, so it sends as many messages at most.
    """
    with AlertReceivers() as receivers:
        config = shipped_config(receivers, folder)
        for route in (config["route"], *config["route"]["routes"]):
            route |= {name: wait for name, wait in WAITS.items() if name in route}
        for slack in (slack for receiver in config["receivers"] for slack in receiver.get("slack_configs", [])):
            slack["username"] = GROUP
        options = (f"--web.external-url={EXTERNAL_URL}", "--web.route-prefix=/")
        with run_alertmanager(binary, folder, yaml.safe_dump(config), *options) as url:
            delivery = _Delivery(url, receivers, config)
            for minute, changes in _changes(alerts, step):
                delivery.send(minute, changes)
            return delivery.messages


class _Delivery:
    """Sends alerts to Alertmanager, and waits until nothing more is to be said about them."""

    def __init__(self, url: str, receivers: AlertReceivers, config: Mapping[str, Any]) -> None:
        self.messages: list[Message] = []
        self._url = url
        self._receivers = receivers
        self._inhibit_rules = config["inhibit_rules"]
        self._slack_counts = {each["name"]: len(each.get("slack_configs", [])) for each in config["receivers"]}
        self._told_once = {each["name"] for each in config["receivers"] if not _sends_resolved(each)}
        self._read_count = 0
        self._firing: set[Labels] = set()
        self._muted: set[Labels] = set()
        self._ended_muted: dict[Labels, str] = {}

    def send(self, minute: int, changes: Sequence[Change]) -> None:
        """Send the changes of a minute; alerts that inhibit others begin before these and end after them."""
        for part in self._ordered(changes):
            for change in part:
                self._record(change)
            post_alerts(self._url, [_document(change) for change in part])
            wait_until(self._is_settled, describe=lambda: (self._groups(), self._receivers.firing_by_group()))
            self._read(minute)

    def _record(self, change: Change) -> None:
        """Record what an alert does next; if it ends while it is inhibited, Alertmanager usually never says so."""
        labels = pairs(change.alert.labels)
        if change.resolved is None:
            self._firing.add(labels)
            self._ended_muted.pop(labels, None)
            return
        self._firing.discard(labels)
        if labels in self._muted:
            self._ended_muted[labels] = f"Resolved, was {change.alert.annotations['summary']} ["

    def _ordered(self, changes: Sequence[Change]) -> Iterator[Sequence[Change]]:
        """Yield the changes in the order in which no alert is without those that inhibit it.

        One part has no alert and its cause, because Alertmanager may look at the alert before it knows the cause.
        """
        ended = [change for change in changes if change.resolved is not None]
        yield from self._from_causes([change for change in changes if change.resolved is None])
        yield from reversed([*self._from_causes(ended)])

    def _from_causes(self, changes: Sequence[Change]) -> Iterator[Sequence[Change]]:
        """Yield the alerts that no other one inhibits, then those that only these inhibit, and so on."""
        while changes:
            inhibited = [change for change in changes if any(self._inhibits(cause, change) for cause in changes)]
            yield [change for change in changes if change not in inhibited]
            changes = inhibited

    def _inhibits(self, cause: Change, change: Change) -> bool:
        """Return whether an alert inhibits another one."""
        source, target = cause.alert.labels, change.alert.labels
        return any(
            _matches(rule["source_matchers"], source)
            and _matches(rule["target_matchers"], target)
            and all(source.get(name) == target.get(name) for name in rule["equal"])
            for rule in self._inhibit_rules
        )

    def _is_settled(self) -> bool:
        """Return whether Alertmanager knows all alerts, and has said of each group what fires and is not inhibited.

        It sends the messages of a receiver at the same time, so those to Slack may come after the webhook.
        """
        active: dict[tuple[str, Labels], set[Labels]] = {}
        muted: set[Labels] = set()
        for group in self._groups():
            key = (group["receiver"]["name"], pairs(group["labels"]))
            for alert in group["alerts"]:
                if alert["status"]["state"] == "active":
                    active.setdefault(key, set()).add(pairs(alert["labels"]))
                else:
                    muted.add(pairs(alert["labels"]))
        expected_slack_count = sum(self._slack_counts[document["receiver"]] for document in self._receivers.groups)
        if len(self._receivers.slack_messages) < expected_slack_count:
            return False
        said = {
            (receiver, group): alerts & self._firing if receiver in self._told_once else alerts
            for (receiver, group), alerts in self._receivers.firing_by_group().items()
        }
        unspoken = muted | self._ended_muted.keys()
        if muted.union(*active.values()) != self._firing:
            return False
        self._muted = muted
        return all(active.get(key, set()) == said.get(key, set()) - unspoken for key in active.keys() | said.keys())

    def _groups(self) -> Any:
        return json.loads(http_get(f"{self._url}/api/v2/alerts/groups").body)

    def _read(self, minute: int) -> None:
        """Add the new messages; those of several groups come in any order.

        Of a group only the last one counts: Alertmanager may send the first alert of a group before it has the others.
        """
        new = self._receivers.slack_messages[self._read_count :]
        self._read_count += len(new)
        last_messages = {(message["channel"], message["username"]): message for message in new}
        attachments = [(message["channel"], *message["attachments"]) for message in last_messages.values()]
        unsaid = tuple(self._ended_muted.values())
        self.messages += sorted(
            Message(minute, channel, each["title"], each["text"])
            for channel, each in attachments
            if not each["title"].startswith(unsaid)
        )


def _matches(matchers: Sequence[str], labels: Mapping[str, str]) -> bool:
    """Return whether labels match all matchers of Alertmanager, of which those of the configuration are positive."""
    return all(
        re.fullmatch(value if operator == "=~" else re.escape(value), labels.get(name, ""))
        for name, operator, value in re.findall(r'(\w+)(=~?)"([^"]*)"', " ".join(matchers))
    )


def _changes(alerts: Sequence[FiringAlert], step: int) -> Iterator[tuple[int, Sequence[Change]]]:
    """Yield the minutes in which alerts begin or end, with these alerts."""
    firing: dict[Labels, Change] = {}
    last = max(alert.minute for alert in alerts)
    for minute in range(min(alert.minute for alert in alerts), last + step + 1, step):
        current = {pairs(alert.labels): alert for alert in alerts if alert.minute == minute}
        new = [Change(alert, minute, None) for labels, alert in current.items() if labels not in firing]
        ended = [change._replace(resolved=minute) for labels, change in firing.items() if labels not in current]
        firing = {
            labels: firing[labels]._replace(alert=alert) if labels in firing else Change(alert, minute, None)
            for labels, alert in current.items()
        }
        if new or ended:
            # Prometheus repeats what still fires.
            yield minute, [*firing.values(), *ended]


def _document(change: Change) -> Mapping[str, Any]:
    return {
        "labels": change.alert.labels,
        "annotations": change.alert.annotations,
        "startsAt": _iso_time(change.since),
        "endsAt": FAR_FUTURE if change.resolved is None else _iso_time(change.resolved),
    }


def _iso_time(minute: int) -> str:
    return datetime.fromtimestamp(START + minute * MINUTE, UTC).isoformat()


def post_alerts(url: str, alerts: Sequence[Mapping[str, Any]]) -> None:
    """Send alerts to the Alertmanager at a URL."""
    headers, body = {"Content-Type": "application/json"}, json.dumps(alerts).encode()
    assert http_request("POST", f"{url}/api/v2/alerts", headers, body, timeout=DEFAULT_TIMEOUT).status == 200
