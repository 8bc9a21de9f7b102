"""The Prometheus rules refer to existing series, are unit-tested, link to existing pages, and are in the mixin."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from late_exporter import __url__
from late_exporter.cli.parser import parse
from late_exporter.feeds import FEEDS, GENERATIONS
from late_exporter.feeds.status_feeds import STATUS_FEEDS
from late_exporter.ingest.reporter import POLL_OUTCOMES
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.metrics.label_limiter import KNOWN_VALUES
from tests.e2e.program import run_command
from tests.rules.promql import named_labels, selectors
from tests.rules.rule_files import FILES, FOLDER, Json, load_yaml, needed_groups

ROOT = Path(__file__).parents[2]
TESTS = sorted(Path(__file__).parent.glob("*.yml"))
RUNBOOKS = FOLDER / "runbooks"
RUNBOOK_SECTIONS = ["What it means", "Is it real?", "What to do"]
RUNBOOK_WORDS = 200

GROUPS: Sequence[Json] = [group for file in FILES for group in load_yaml(file.read_text("utf-8"))["groups"]]
RULES: Sequence[Json] = [rule for group in GROUPS for rule in group["rules"]]
RECORDS: Mapping[str, str] = {rule["record"]: rule["expr"] for rule in RULES if "record" in rule}
ALERTS = tuple(rule for rule in RULES if "alert" in rule)
NAMES = sorted({alert["alert"] for alert in ALERTS})
DASHBOARDS = sorted((ROOT / "grafana" / "dashboards").glob("*.json"))
PROMTOOL_3 = ROOT / ".cache" / "tools3" / "usr" / "bin" / "promtool"

TARGET_METRICS = {
    "up": set[str](),
    "process_start_time_seconds": set[str](),
    "ALERTS": {"alertname", "alertstate", "severity", "workspace", "platform", "account_id", "cause"},
}
"""Metrics that every target has, and the alerts that fire."""

LEVEL_LABELS = {
    "slo": set[str](),
    "workspace": {"workspace"},
    "platform": {"workspace", "platform"},
    "account": {"workspace", "platform", "account_id", "username"},
    "feed": {"workspace", "feed"},
}
"""Labels of a recorded series, in addition to TARGET_LABELS."""

TARGET_LABELS = {"cluster", "namespace", "job"}
"""Labels of a target by which all rules group: those by which customers route alerts."""

LABEL_VALUES = {
    **KNOWN_VALUES,
    "outcome": frozenset(POLL_OUTCOMES),
    "feed": frozenset(FEEDS) | frozenset(STATUS_FEEDS),
    "generation": frozenset(GENERATIONS),
    "le": frozenset(str(bound) for family in CATALOGUE.values() for bound in family.buckets),
}


def _family_name(name: str) -> str:
    return name if name in CATALOGUE else re.sub(r"_(bucket|count|sum)$", "", name)


def _series_labels(name: str) -> set[str]:
    if name in RECORDS:
        level = name.partition(":")[0]
        return LEVEL_LABELS[level] | (TARGET_LABELS if LEVEL_LABELS[level] else set())
    known_labels = TARGET_METRICS[name] if name in TARGET_METRICS else {*CATALOGUE[_family_name(name)].labels}
    bucket_labels = {"le"} if name.endswith("_bucket") else set()
    return known_labels | TARGET_LABELS | {"instance"} | bucket_labels


def test_rule_uses_existing_series_and_labels() -> None:
    """Series in a rule exist, have the labels used, and can have the label values used."""
    for rule in RULES:
        found_selectors = selectors(rule["expr"])
        known_labels = set[str]()
        for selector in found_selectors:
            known_labels |= _series_labels(selector.name)
            for label, (operator, value) in selector.matchers.items():
                assert label in _series_labels(selector.name), selector
                if label in LABEL_VALUES and operator in {"=", "=~"}:
                    assert any(
                        re.fullmatch(value, one) if operator == "=~" else value == one for one in LABEL_VALUES[label]
                    )
        assert named_labels(rule["expr"]) <= known_labels
        assert found_selectors or rule["expr"].startswith("vector(")


def test_each_alert_has_a_unit_test() -> None:
    """Promtool tests the message of each alert."""
    tests = [test for file in TESTS for test in load_yaml(file.read_text("utf-8"))["tests"]]
    checks = [check for test in tests for check in test.get("alert_rule_test", [])]
    assert sorted({check["alertname"] for check in checks if "exp_alerts" in check}) == NAMES


def test_alert_has_severity_and_annotations() -> None:
    """An alert has a routed severity, a static summary, and a description that names the affected labels."""
    for alert in ALERTS:
        notes = alert["annotations"]
        assert alert["labels"]["severity"] in {"critical", "warning", "info"}
        templated_labels = [name for name, value in alert["labels"].items() if "{{" in value]
        assert templated_labels in ([], ["due_at"]), "a label that changes resolves its alert"
        assert "$labels." in notes["description"], notes
        assert notes.keys() == {"summary", "description", "runbook_url"}


def test_command_is_valid() -> None:
    """The command in a description is accepted by the program."""
    for alert in ALERTS:
        command = alert["annotations"]["description"].partition(" Run: ")[2]
        program, *arguments = shlex.split(command.replace("{{ $labels.workspace }}", "default"))
        assert program == "late-exporter"
        assert parse(arguments) is not None


def test_alert_links_to_its_runbook() -> None:
    """An alert links to its runbook, which says what it means, whether it is real and what to do, within a minute."""
    for alert in ALERTS:
        name = alert["alert"]
        assert alert["annotations"]["runbook_url"] == f"{__url__}/blob/main/{RUNBOOKS.relative_to(ROOT)}/{name}.md"
        text = (RUNBOOKS / f"{name}.md").read_text("utf-8")
        assert text.startswith(f"# {name}\n"), name
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == RUNBOOK_SECTIONS, name
        assert "```promql\n" in text, name
        assert len(text.split()) <= RUNBOOK_WORDS, name
    assert sorted(file.stem for file in RUNBOOKS.glob("*.md")) == NAMES


def test_queries_of_runbooks_use_existing_series_and_labels() -> None:
    """Queries to paste find something."""
    for path in RUNBOOKS.glob("*.md"):
        for query in re.findall(r"^```promql\n(.*?)^```", path.read_text("utf-8"), re.DOTALL | re.MULTILINE):
            for selector in selectors(query):
                assert selector.matchers.keys() <= _series_labels(selector.name), selector


def test_documented_joins_keep_jobs_apart() -> None:
    """Queries to paste do not join the series of two jobs, which may have the same workspace."""
    for path in (*RUNBOOKS.glob("*.md"), *(ROOT / "docs").glob("*.md")):
        joined_labels = re.findall(r"\bon \(([^)]*)\) group_(?:left|right)", path.read_text("utf-8"))
        assert [labels for labels in joined_labels if "job" not in labels.split(", ")] == [], path


@pytest.fixture(params=["installed", "3"])
def promtool(request: pytest.FixtureRequest, require_tool: Callable[[str], str]) -> str:
    """Return the installed promtool, and that of Prometheus 3."""
    if request.param == "installed":
        return require_tool("promtool")
    if not PROMTOOL_3.exists():
        pytest.skip("Prometheus 3 is not in .cache/tools3; .ci/tools fetches it if the distribution has it")
    return str(PROMTOOL_3)


@pytest.mark.e2e
def test_promtool_accepts_rules_and_example(promtool: str) -> None:
    """Promtool accepts the rules and the example configuration without warnings."""
    run_command(promtool, "check", "rules", "--lint=all", "--lint-fatal", *FILES)
    run_command(promtool, "check", "config", "--lint=all", "--lint-fatal", FOLDER / "prometheus.yml")


@pytest.mark.e2e
@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_promtool_unit_tests_pass(file: Path, promtool: str, tmp_path: Path) -> None:
    """The promtool unit tests of the rules pass, each with the rules that it needs."""
    text = file.read_text("utf-8")
    (tmp_path / "tests.yml").write_text(re.sub(r"(?m)^rule_files:\n(  - .+\n)+", "rule_files: [rules.yml]\n", text))
    for test in load_yaml(text)["tests"]:
        cases = [test.get(kind, []) for kind in ("alert_rule_test", "promql_expr_test")]
        (tmp_path / "rules.yml").write_text(json.dumps({"groups": needed_groups(GROUPS, json.dumps(cases))}))
        run_command(promtool, "test", "rules", f"--run=^{re.escape(test['name'])}$", "tests.yml", cwd=tmp_path)


MIXIN = """
local late = (import 'grafana/mixin.libsonnet') {
  _config+:: { exclude: ['LateScheduleEmpty'], labels: { team: 'social' } },
};
[late.prometheusAlerts, late.prometheusRules, late.grafanaDashboards]
"""


@pytest.mark.e2e
def test_mixin(require_tool: Callable[[str], str]) -> None:
    """The mixin has the files as they are, but for an excluded alert and a label of the others."""
    *rules, dashboards = json.loads(run_command(require_tool("jsonnet"), "-e", MIXIN, cwd=ROOT))
    alerts, recordings = (load_yaml(file.read_text("utf-8")) for file in FILES)
    for group in alerts["groups"]:
        group["rules"] = [rule for rule in group["rules"] if rule["alert"] != "LateScheduleEmpty"]
        for rule in group["rules"]:
            rule["labels"]["team"] = "social"
    assert rules == [alerts, recordings]
    assert dashboards == {file.name: json.loads(file.read_text("utf-8")) for file in DASHBOARDS}
