"""The dashboards that are shipped keep the rules, rest on what exists, and are what their source says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml

from grafana.source import thresholds
from late_exporter import __url__
from late_exporter.metrics.catalogue import CATALOGUE
from tests.dashboards.boards import FOLDER, GLOBAL, Board, labels_of, load, selectors
from tests.dashboards.lint import RULES

ROOT = Path(__file__).parents[2]
RULE_FILES = ROOT / "deploy" / "prometheus"
BOARDS = load()

IDS: Mapping[str, str] = {
    "late-accounts": "101-106 201 301-302 401-403",
    "late-exporter": "101-108 201-206 301-303 401-408 431 451-454 476-479 501-506",
    "late-overview": "101-108 201-203 301-303 401-404 501-502",
    "late-platform": "101-108 201-203 301-303 401-403 501-503 601",
}
"""Links to a panel are kept by people: an id may be added and removed, never given to another panel."""

UNSHOWN = {
    "late_exporter_api_quota_reset_timestamp_seconds",
    "late_exporter_api_generation_info",
    "late_activity_logs_total",
    "late_activity_duration_seconds",
}
"""A quota is whole again within a minute, the generation changes once, and further feeds are for who wants them."""

sdk = pytest.mark.filterwarnings("ignore:Prefer using dashboardv2:DeprecationWarning")
"""The SDK calls the format that all versions of Grafana read deprecated, when it is imported."""


@pytest.fixture(params=BOARDS, ids=lambda board: board.uid)
def board(request: pytest.FixtureRequest) -> Board:
    """Each of the dashboards."""
    found: Board = request.param
    return found


@pytest.mark.parametrize("rule", RULES)
def test_rules(board: Board, rule: str) -> None:
    """Every dashboard keeps every rule."""
    assert [] == list(RULES[rule](board))


def test_the_ids_stay() -> None:
    """Uids and ids are those that links rest on."""
    assert IDS == {board.uid: _spans(sorted(panel["id"] for panel in board.panels)) for board in BOARDS}
    assert [f"{board.uid}.json" for board in BOARDS] == [file.name for file in sorted(FOLDER.glob("*.json"))]


def test_every_metric_is_shown() -> None:
    """What the exporter tells is on one of the dashboards."""
    shown = {one.name for board in BOARDS for _, expr in board.expressions for one in selectors(expr)}
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in shown} | shown
    assert {*CATALOGUE} - families == UNSHOWN


def test_links_lead_somewhere() -> None:
    """Every link is to a dashboard that is shipped, and sets variables that it has."""
    boards = {board.uid: board for board in BOARDS}
    reached = set()
    for board in BOARDS:
        for url in board.links:
            uid, variables = _address(url)
            assert variables <= boards[uid].variables.keys(), url
            reached.add((board.uid, uid))
    assert {
        ("late-overview", "late-platform"),
        ("late-overview", "late-accounts"),
        ("late-overview", "late-exporter"),
        ("late-platform", "late-accounts"),
        ("late-accounts", "late-platform"),
        ("late-exporter", "late-overview"),
    } == reached


def test_alerts_lead_to_dashboards() -> None:
    """The dashboard that an alert names is shipped, and has the variables that it sets."""
    boards = {board.uid: board for board in BOARDS}
    alerts = yaml.safe_load((RULE_FILES / "late-exporter.alerts.yml").read_text("utf-8"))
    urls = [rule["annotations"]["dashboard_url"] for group in alerts["groups"] for rule in group["rules"]]
    assert urls
    for url in urls:
        uid, variables = _address(re.sub(r"\{\{.*?\}\}", "x", url))
        assert variables <= boards[uid].variables.keys(), url


def test_what_rules_record_exists() -> None:
    """The series by which a dashboard knows that the rules are loaded is one of them."""
    rules = yaml.safe_load((RULE_FILES / "late-exporter.rules.yml").read_text("utf-8"))
    recorded = {rule["record"] for group in rules["groups"] for rule in group["rules"]}
    assert {name for name in GLOBAL if ":" in name} <= recorded


def test_thresholds_are_those_of_the_alerts() -> None:
    """A value changes colour where an alert begins."""
    alerts = yaml.safe_load((RULE_FILES / "late-exporter.alerts.yml").read_text("utf-8"))
    exprs: dict[str, str] = {}
    for group in alerts["groups"]:
        for rule in group["rules"]:
            exprs[rule["alert"]] = exprs.get(rule["alert"], "") + rule["expr"]
    for alert, number in (
        ("LateErrorBudgetBurningFast", thresholds.FAST_BURN),
        ("LateErrorBudgetBurningFast", thresholds.SLOW_BURN),
        ("LatePollStale", thresholds.DATA_AGE_CRITICAL_SECONDS),
        ("LatePublishingQuiet", thresholds.DATA_AGE_WARNING_SECONDS),
        ("LateAuditOverdue", thresholds.AUDIT_AGE_SECONDS),
        ("LateQuotaLow", thresholds.QUOTA_LEFT_WARNING),
        ("LateAccountFailing", thresholds.CONSECUTIVE_FAILURES),
        ("LateTokenExpiring", thresholds.TOKEN_LEFT_WARNING_SECONDS),
        ("LateTokenExpiring", thresholds.TOKEN_LEFT_CRITICAL_SECONDS),
    ):
        assert re.search(rf"[<>]=? {number:g}\b", exprs[alert]), (alert, number)
    rules = (RULE_FILES / "late-exporter.rules.yml").read_text("utf-8")
    assert f"vector({thresholds.SUCCESS_OBJECTIVE:g})" in rules


def test_steps_ascend() -> None:
    """The colours of a value follow each other, from everything below on."""
    for name in thresholds.__all__:
        steps = getattr(thresholds, name)
        if isinstance(steps, tuple):
            values = [value for value, _ in steps[1:]]
            assert steps[0][0] is None, name
            assert sorted(values) == values, name


def test_the_files_are_up_to_date() -> None:
    """The dashboards are those that their source writes."""
    command = [sys.executable, "-m", "grafana.source", "--check"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (0, "") == (checked.returncode, checked.stderr)


@sdk
def test_what_is_not_up_to_date_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that differs, is missing or is nobody's is named."""
    generator = import_module("grafana.source.__main__")
    monkeypatch.setattr(generator, "FOLDER", tmp_path)
    (tmp_path / "same.json").write_text("{}", "utf-8")
    (tmp_path / "other.json").write_text("[]", "utf-8")
    (tmp_path / "nobodys.json").write_text("{}", "utf-8")
    files = {"same.json": "{}", "other.json": "{}", "missing.json": "{}"}
    assert ["missing.json", "nobodys.json", "other.json"] == generator.stale(files)


@sdk
def test_the_files_are_dashboards(board: Board) -> None:
    """Grafana's own types read a dashboard and write the same again."""
    model = import_module("grafana_foundation_sdk.models.dashboard").Dashboard.from_json(board.document)
    again = json.loads(import_module("grafana_foundation_sdk.cog.encoder").JSONEncoder().encode(model))
    assert board.document == import_module("grafana.source.__main__").pruned(again)


def test_the_mixin_has_every_dashboard() -> None:
    """Who deploys with jsonnet gets the same files, and rules that exist."""
    mixin = ROOT / "grafana" / "mixin.libsonnet"
    imported = re.findall(r"import(?:str)? '([^']+)'", mixin.read_text("utf-8"))
    assert {f"dashboards/{board.uid}.json" for board in BOARDS} < {*imported}
    assert all((mixin.parent / file).is_file() for file in imported)


def test_provisioning() -> None:
    """Grafana finds a data source and the dashboards, which nobody changes there."""
    folder = ROOT / "grafana" / "provisioning"
    source = yaml.safe_load((folder / "datasources" / "late-exporter.yml").read_text("utf-8"))
    provider = yaml.safe_load((folder / "dashboards" / "late-exporter.yml").read_text("utf-8"))
    assert ["prometheus"] == [one["type"] for one in source["datasources"]]
    (lead,) = source["datasources"][0]["jsonData"]["exemplarTraceIdDestinations"]
    assert ("post_id", f"{__url__}#when-an-alert-fired") == (lead["name"], lead["url"])
    assert "\n## When an alert fired\n" in (ROOT / "README.md").read_text("utf-8")
    assert [("file", False)] == [(one["type"], one["allowUiUpdates"]) for one in provider["providers"]]


def test_series_that_are_no_target_s_are_used() -> None:
    """Every exception from the rules is still needed."""
    shown = {one.name for board in BOARDS for _, expr in board.expressions for one in selectors(expr)}
    assert GLOBAL.keys() <= shown
    assert all(labels_of(name) == set() for name in GLOBAL)


def _spans(numbers: list[int]) -> str:
    spans: list[list[int]] = []
    for number in numbers:
        if spans and spans[-1][-1] == number - 1:
            spans[-1].append(number)
        else:
            spans.append([number])
    return " ".join(f"{span[0]}-{span[-1]}" if len(span) > 1 else str(span[0]) for span in spans)


def _address(url: str) -> tuple[str, set[str]]:
    """The dashboard that a link leads to, and the variables that it sets."""
    query = re.sub(r"\$\{(\w+):queryparam\}", r"var-\1=x", urlsplit(url).query)
    names = {name.removeprefix("var-") for name, _ in parse_qsl(query) if name.startswith("var-")}
    return urlsplit(url).path.removeprefix("/d/"), names
