"""The rules of Prometheus: what they name exists, what they promise is tested, and what they point to is there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from deploy.prometheus.pace import SECONDS, faster, sooner
from deploy.prometheus.thresholds import AUDIT_AGE_SECONDS, COVERAGE_RISK_SECONDS, DAY, HOUR, RETENTION
from late_exporter.feeds import FEEDS
from late_exporter.ingest.reporter import POLL_OUTCOMES
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.metrics.labels import KNOWN_VALUES
from tests.rules.promql import Selector, named_labels, selectors

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
FILES = (FOLDER / "late-exporter.rules.yml", FOLDER / "late-exporter.alerts.yml")
TESTS = sorted(Path(__file__).parent.glob("*.yml"))
RUNBOOKS = FOLDER / "runbooks"

Row: TypeAlias = Mapping[str, Any]


def _rules() -> Iterator[Row]:
    for file in FILES:
        for group in yaml.safe_load(file.read_text("utf-8"))["groups"]:
            yield from group["rules"]


RULES = tuple(_rules())
RECORDS: Mapping[str, str] = {rule["record"]: rule["expr"] for rule in RULES if "record" in rule}
ALERTS = tuple(rule for rule in RULES if "alert" in rule)
NAMES = sorted({alert["alert"] for alert in ALERTS})

OF_PROMETHEUS = {"up": set[str](), "process_start_time_seconds": set[str]()}
"""What is scraped beside the catalogue."""

LEVELS = {
    "slo": set[str](),
    "workspace": {"workspace"},
    "platform": {"workspace", "platform"},
    "account": {"workspace", "platform", "account_id"},
    "feed": {"workspace", "feed"},
}
"""The labels of a recorded series, beside job."""

VALUES = {
    **KNOWN_VALUES,
    "outcome": frozenset(POLL_OUTCOMES),
    "feed": frozenset(FEEDS),
    "le": frozenset(str(bound) for family in CATALOGUE.values() for bound in family.buckets),
}


def _family(name: str) -> str:
    """The family of a sample."""
    return name if name in CATALOGUE else re.sub(r"_(bucket|count|sum)$", "", name)


def _labels(name: str) -> set[str]:
    """The labels that a series has."""
    if name in RECORDS:
        level = name.partition(":")[0]
        return LEVELS[level] | ({"job"} if LEVELS[level] else set())
    known = OF_PROMETHEUS[name] if name in OF_PROMETHEUS else {*CATALOGUE[_family(name)].labels}
    return known | {"job", "instance"} | ({"le"} if name.endswith("_bucket") else set())


def _kind(selector: Selector) -> str:
    if selector.name in RECORDS or selector.name in OF_PROMETHEUS:
        return "gauge"
    kind = CATALOGUE[_family(selector.name)].kind
    return "counter" if kind == "histogram" else kind


def _id(rule: Row) -> str:
    return str(rule.get("record") or f"{rule['alert']}-{'-'.join(rule['labels'].values())}")


def test_the_files_are_up_to_date() -> None:
    """The rule files are what their source writes."""
    command = [sys.executable, "-m", "deploy.prometheus", "--check"]
    checked = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert (0, "") == (checked.returncode, checked.stderr)


def test_time_can_run_faster() -> None:
    """Windows, offsets and ages shrink; names, counts, shares, buckets and what posts take stay as they are."""
    for before, after in (
        ("rate(a_total[5m]) > 14.4", "rate(a_total[5s]) > 14.4"),
        ("sum_over_time(a:b:increase1h[1d:5m]) / 12", "sum_over_time(a:b:increase1h[1440s:5s]) / 12"),
        ('a{le="3600.0"} offset 1w', 'a{le="3600.0"} offset 10080s'),
        ("time() - a > 600 > bool -86400 or b >= 50", "time() - a > 10 > bool -1440 or b >= 50"),
        ("time() - late_publishing_oldest_pending_timestamp_seconds > 3600",) * 2,
    ):
        assert after == faster(before, 60)
    assert ["2s", "0s", "500ms"] == [sooner(duration, 60) for duration in ("2m", "0m", "30s")]


def test_long_numbers_of_rules_are_times() -> None:
    """A number by which time that runs faster is divided is none of logs."""
    times = {300, 600, HOUR, DAY, AUDIT_AGE_SECONDS, COVERAGE_RISK_SECONDS, RETENTION - HOUR, RETENTION}
    assert times == {int(number) for rule in RULES for number in SECONDS.findall(rule["expr"])}


@pytest.mark.parametrize("rule", RULES, ids=_id)
def test_a_rule_names_what_exists(rule: Row) -> None:
    """Every series of a rule is catalogued or recorded, has the labels that are asked of it, and knows their values."""
    found = list(selectors(rule["expr"]))
    known = set[str]()
    for selector in found:
        assert selector.name in RECORDS or selector.name in OF_PROMETHEUS or _family(selector.name) in CATALOGUE
        known |= _labels(selector.name)
        for label, sign, value in selector.matchers:
            assert label in _labels(selector.name), selector
            if label in VALUES and sign in {"=", "=~"}:
                assert any(re.fullmatch(value, one) if sign == "=~" else value == one for one in VALUES[label])
    assert named_labels(rule["expr"]) <= known
    assert found or rule["expr"].startswith("vector(")


@pytest.mark.parametrize("rule", RULES, ids=_id)
def test_counters_are_seen_to_grow_and_gauges_are_not(rule: Row) -> None:
    """A counter is only read over a window, as what it gained; a gauge never is."""
    growing = {"rate", "increase", "resets"}
    for selector in selectors(rule["expr"]):
        assert (_kind(selector) == "counter") == (selector.function in growing), selector
        assert bool(selector.window) == (selector.function in growing or "_over_time" in selector.function or
                                         selector.function == "changes"), selector  # fmt: skip


@pytest.mark.parametrize("alert", ALERTS, ids=_id)
def test_an_alert_says_what_to_do(alert: Row) -> None:
    """An alert has a severity that is routed, a sentence that is always the same, and one that names what is wrong."""
    notes = alert["annotations"]
    assert re.fullmatch(r"Late[A-Z]\w+", alert["alert"])
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert not any("{{" in value for value in alert["labels"].values())
    assert re.fullmatch(r"[A-Z][^{}]+\.", notes["summary"])
    assert notes["description"].endswith(".")
    assert "$labels." in notes["description"] or alert["expr"].startswith("absent(")
    assert {"summary", "description", "runbook_url", "dashboard_url"} == notes.keys()


@pytest.mark.parametrize("alert", ALERTS, ids=_id)
def test_an_alert_leads_to_its_runbook(alert: Row) -> None:
    """The runbook's address is that of a file which bears the alert's name."""
    repository, _, path = alert["annotations"]["runbook_url"].partition("/blob/main/")
    assert "https://github.com/late-exporter/late-exporter" == repository
    assert (RUNBOOKS / f"{alert['alert']}.md").relative_to(ROOT).as_posix() == path
    assert (ROOT / path).is_file()


@pytest.mark.parametrize("alert", ALERTS, ids=_id)
def test_an_alert_leads_to_a_dashboard(alert: Row) -> None:
    """The dashboard is one of those that are shipped, and has the variables that the address sets."""
    address = urlsplit(alert["annotations"]["dashboard_url"])
    dashboards = [json.loads(file.read_text("utf-8")) for file in (ROOT / "grafana" / "dashboards").glob("*.json")]
    (found,) = (dashboard for dashboard in dashboards if f"/d/{dashboard['uid']}" == address.path)
    variables = {f"var-{variable['name']}" for variable in found["templating"]["list"]}
    assert parse_qs(address.query).keys() <= variables


def test_runbooks_have_alerts() -> None:
    """There is no runbook without an alert."""
    assert NAMES == sorted(file.stem for file in RUNBOOKS.glob("*.md"))


@pytest.mark.parametrize("name", NAMES)
def test_a_runbook_is_complete(name: str) -> None:
    """A runbook says what the alert means, what follows, how to find out why and what to do, with queries to paste."""
    text = (RUNBOOKS / f"{name}.md").read_text("utf-8")
    assert text.startswith(f"# {name}\n")
    assert ["Meaning", "Impact", "Diagnosis", "Mitigation"] == re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert "```" in text


def _queries() -> Iterator[Any]:
    for file in sorted(RUNBOOKS.glob("*.md")):
        text = file.read_text("utf-8")
        for number, query in enumerate(re.findall(r"^```promql\n(.*?)^```", text, re.DOTALL | re.MULTILINE)):
            yield pytest.param(query, id=f"{file.stem}-{number}")


@pytest.mark.parametrize("query", list(_queries()))
def test_a_runbook_asks_for_what_exists(query: str) -> None:
    """The queries of the runbooks name series and labels that exist."""
    for selector in selectors(query):
        assert selector.name in RECORDS or selector.name in OF_PROMETHEUS or _family(selector.name) in CATALOGUE
        assert {label for label, _, _ in selector.matchers} <= _labels(selector.name)


def _stories(name: str) -> Iterator[Sequence[Sequence[Any]]]:
    """The unit tests of an alert: what fires at each moment, in the order of time."""
    for file in TESTS:
        for test in yaml.safe_load(file.read_text("utf-8"))["tests"]:
            cases = [case for case in test.get("alert_rule_test", ()) if case["alertname"] == name]
            if cases:
                yield [case.get("exp_alerts", ()) for case in cases]


@pytest.mark.parametrize("name", NAMES)
def test_an_alert_is_tested_before_while_and_after_it_fires(name: str) -> None:
    """Each alert has a test in which it is not there yet, fires and has stopped, and fires with all its severities."""
    stories = list(_stories(name))
    assert any(not story[0] and len(story[-1]) < max(map(len, story)) for story in stories)
    severities = {alert["labels"]["severity"] for alert in ALERTS if alert["alert"] == name}
    assert severities == {one["exp_labels"]["severity"] for story in stories for fired in story for one in fired}


@pytest.mark.e2e
def test_prometheus_accepts_the_rules(require_tool: Callable[[str], str]) -> None:
    """Promtool has nothing to say against the rules."""
    command = [require_tool("promtool"), "check", "rules", "--lint=all", "--lint-fatal", *map(str, FILES)]
    checked = subprocess.run(command, check=False, capture_output=True, text=True)
    assert 0 == checked.returncode, checked.stderr


@pytest.mark.e2e
def test_prometheus_accepts_the_example(require_tool: Callable[[str], str]) -> None:
    """Promtool has nothing to say against the configuration that is shipped."""
    command = [
        require_tool("promtool"),
        "check",
        "config",
        "--lint=all",
        "--lint-fatal",
        str(FOLDER / "prometheus.yml"),
    ]
    checked = subprocess.run(command, check=False, capture_output=True, text=True)
    assert 0 == checked.returncode, checked.stderr


@pytest.mark.e2e
def test_prometheus_accepts_the_queries_of_the_runbooks(require_tool: Callable[[str], str], tmp_path: Path) -> None:
    """Promtool can read every query of the runbooks."""
    rules = [{"record": f"query:{number}", "expr": query.values[0]} for number, query in enumerate(_queries())]
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "runbooks", "rules": rules}]}))
    command = [require_tool("promtool"), "check", "rules", str(tmp_path / "queries.yml")]
    checked = subprocess.run(command, check=False, capture_output=True, text=True)
    assert f"SUCCESS: {len(rules)} rules found" in checked.stdout, checked.stderr


@pytest.mark.e2e
@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_the_rules_do_what_they_should(file: Path, require_tool: Callable[[str], str]) -> None:
    """Prometheus records and alerts as its unit tests say."""
    command = [require_tool("promtool"), "test", "rules", file.name]
    tested = subprocess.run(command, cwd=file.parent, check=False, capture_output=True, text=True)
    assert 0 == tested.returncode, tested.stdout + tested.stderr
