"""Documents, pins and the files around the program are consistent with the program."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from late_exporter import __url__, errors
from late_exporter.app.exporter import WORKSPACE_INFO
from late_exporter.cli.parser import parse
from late_exporter.config import web as webconfig
from late_exporter.config.settings import OPTIONS
from late_exporter.config.sources import load
from late_exporter.ingest.steps import REQUEST_KINDS
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.store.migrations import TABLES
from tests.e2e.program import run_command
from tests.promises import BUGS
from tests.support.documents import DOCUMENTS, ROOT, blocks, commands, document, program_commands, spans

README = (ROOT / "README.md").read_text("utf-8")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]
RECORDED = re.findall(r"record: (\S+)", (ROOT / "deploy/prometheus/late-exporter.rules.yml").read_text("utf-8"))
"""Names of the series of all recording rules."""

SECTIONS = "api|config|log|metrics|poll|simulate|state|status|web"
FOLDERS = ("deploy/", "docs/", "grafana/", "tests/", "late_exporter/")


# Written so that they do not match themselves.
REGISTRIES = re.compile(r"py[p]i\.org|python[h]osted\.org|registry\.n[p]mjs|d[e]b\.debian|proxy\.g[o]lang")
MACHINES = re.compile(r"/ro[o]t/|/ho[m]e/\w+/|/Us[e]rs/\w+/|/wo[r]k/|\.\./sh[a]red")


def _files() -> Iterator[Path]:
    """Every file of the project that git does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git repository")
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            yield ROOT / name


def _pins(name: str) -> dict[str, Version]:
    lines = (ROOT / ".requirements" / f"{name}.txt").read_text("utf-8").splitlines()
    pins = [Requirement(line.rstrip(" \\")) for line in lines if line and line[0] not in " #"]
    return {canonicalize_name(pin.name): Version(str(pin.specifier).removeprefix("==")) for pin in pins}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_of_the_program_are_valid(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command line of the exporter in a document is one that the program accepts."""
    for name in ("late.key", "late.password", "web.yml"):
        (tmp_path / name).write_text("sk_example_of_the_documents" if name != "web.yml" else "")
    (tmp_path / "late.yml").write_text("workspaces: [{name: default, api_key_file: late.key}]\n")
    monkeypatch.chdir(tmp_path)
    for words in program_commands(path.read_text("utf-8")):
        line = parse(words)
        if line is not None:
            has_key = {"config.file", "api.key-file"} & line.flags.keys()
            load(line.command, line.flags, {} if has_key else {"ZERNIO_API_KEY": "sk_example"})


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_shell_blocks_are_valid(path: Path) -> None:
    """Every shell block can be parsed, and uses files that exist."""
    text = path.read_text("utf-8")
    for script in blocks(text, "sh"):
        assert run_command("bash", "-n", input=script, stderr=subprocess.STDOUT) == "", script
    files = [word.partition("=")[0] for words in commands(text) for word in words if word.startswith(FOLDERS)]
    assert [file for file in files if not (ROOT / file).exists()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_exist(path: Path) -> None:
    """Every metric, flag, variable and make target in a document exists."""
    text = path.read_text("utf-8")
    metrics = {name for name in re.findall(r"\blate_[a-z_]+[a-z]\b", spans(text)) if name != "late_exporter"}
    flags = set(re.findall(rf"--(?:{SECTIONS})\.[a-z.-]*[a-z]", text))
    variables = set(re.findall(r"\b(?:LATE|ZERNIO)_[A-Z_]+", text))
    targets = set(re.findall(r"\bmake ([a-z-]+)", spans(text)))
    recorded = {name.split(":")[1] for name in RECORDED}
    samples = {f"{name}{end}" for name in CATALOGUE for end in ("", "_bucket", "_sum", "_count")}
    assert metrics - samples - recorded - {*TABLES, "late_state", WORKSPACE_INFO} == set()
    assert flags - {option.flag for option in OPTIONS} == set()
    assert variables - {name for option in OPTIONS for name in option.variables} == set()
    assert targets - set(re.findall(r"^([a-z-]+):.*## ", document("Makefile"), re.MULTILINE)) == set()


def test_every_closed_set_of_label_values_is_described() -> None:
    """The table of label values has those that the program chooses itself."""
    table = document("docs/metrics.md").partition("## Label values")[2].partition("\n## ")[0]
    rows = {
        (row[0], row[1]): set(re.findall(r"`(\w+)`", row[2]))
        for row in re.findall(r"`(\w+)` \| `(\w+)` \| (.*) \|", table)
    }
    types = [each for each in vars(errors).values() if isinstance(each, type)]
    outcomes = {"success", *(each.outcome for each in types if issubclass(each, errors.LateError))}
    assert outcomes == rows["late_exporter_polls_total", "outcome"]
    assert rows["late_exporter_failed_requests_total", "request"] == {*REQUEST_KINDS}


def test_index_leads_to_every_page() -> None:
    """The README links to the index of docs/, and the index to every page below."""
    docs = ROOT / "docs"
    pages = {str(path.relative_to(docs)) for path in docs.rglob("*.md")}
    assert "docs/README.md" in _links(README)
    assert pages - {"README.md"} == {link for link in _links(document("docs/README.md")) if link.endswith(".md")}


def test_configuration_file_loads(tmp_path: Path) -> None:
    """The configuration file in docs/configuration.md is valid, and so are the buckets in docs/metrics.md."""
    (text,) = (block for block in blocks(document("docs/configuration.md"), "yaml") if "\nworkspaces:" in block)
    (buckets,) = (block for block in blocks(document("docs/metrics.md"), "yaml") if "buckets" in block)
    for name in ("brand", "agency"):
        (tmp_path / f"{name}.key").write_text(f"sk_{name}")
    file = tmp_path / "late.yml"
    file.write_text(f"{text}\n{buckets}")
    loaded = load("run", {"config.file": str(file)}, {})
    assert [workspace.name for workspace in loaded.workspaces] == ["brand", "agency"]
    assert len(loaded.metrics.buckets) == 2


def _write_web_configuration(folder: Path) -> Path:
    """Write the web configuration of docs/configuration.md with the certificate that it names."""
    (text,) = (block for block in blocks(document("docs/configuration.md"), "yaml") if "tls_server_config" in block)
    certificate = trustme.CA().issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path(folder / "server.crt")
    certificate.private_key_pem.write_to_path(folder / "server.key")
    (folder / "web.yml").write_text(text)
    return folder / "web.yml"


def test_web_configuration_loads(tmp_path: Path) -> None:
    """The web configuration in docs/configuration.md is valid, with the certificates that it names."""
    config = webconfig.load(_write_web_configuration(tmp_path))
    assert config.ssl_context is not None
    assert list(config.users) == ["prometheus"]


@pytest.mark.e2e
def test_other_exporters_accept_the_web_configuration(tmp_path: Path, require_tool: Callable[[str], str]) -> None:
    """The web configuration in docs/configuration.md has only keys of the exporter-toolkit."""
    run_command(require_tool("promtool"), "check", "web-config", _write_web_configuration(tmp_path))


@pytest.mark.e2e
def test_prometheus_accepts_the_scrape_configurations(tmp_path: Path, require_tool: Callable[[str], str]) -> None:
    """Prometheus accepts every scrape or remote-write configuration in the documents."""
    promtool = require_tool("promtool")
    for name in ("ca.crt", "late.password", "grafana-cloud.token"):
        (tmp_path / name).touch()
    texts = [text for path in DOCUMENTS for text in blocks(path.read_text("utf-8"), "yaml")]
    documents = [document for document in map(yaml.safe_load, texts) if isinstance(document, dict)]
    configs = [config for document in documents for config in _prometheus_configs(document)]
    assert len(configs) >= 5
    for config in configs:
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
        run_command(promtool, "check", "config", "--syntax-only", tmp_path / "prometheus.yml")


def _prometheus_configs(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a configuration of Prometheus, and the one inside a configuration of the OpenTelemetry Collector."""
    if {"scrape_configs", "remote_write"} & document.keys():
        yield document
    if "exporters" in document:
        yield document["receivers"]["prometheus"]["config"]


@pytest.mark.e2e
def test_prometheus_accepts_the_queries(tmp_path: Path, require_tool: Callable[[str], str]) -> None:
    """Prometheus can parse every query in the README and in docs/."""
    queries = [query for path in DOCUMENTS for query in blocks(path.read_text("utf-8"), "promql")]
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "documents", "rules": rules}]}))
    checked = run_command(require_tool("promtool"), "check", "rules", tmp_path / "rules.yml")
    assert f"SUCCESS: {len(queries)} rules found" in checked


def test_links_lead_somewhere() -> None:
    """Every relative link of a Markdown file leads to a file, and to a heading if it names one."""
    documents = [path for path in _files() if path.suffix == ".md"]
    dead = [
        f"{path.relative_to(ROOT)}: {link}"
        for path in documents
        for link in _links(path.read_text("utf-8"))
        if "://" not in link and not _leads(path, link)
    ]
    assert {ROOT / "README.md", ROOT / "docs" / "install.md"} <= {*documents}
    assert dead == []


def _links(text: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", text)


def _leads(path: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = path.parent / name if name else path
    if not anchor:
        return target.exists()
    titles = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.MULTILINE) if target.is_file() else []
    return anchor in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_on_an_index_page_are_absolute() -> None:
    """The README of a distribution has no relative link, and leads to the repository in [project.urls]."""
    text = run_command(sys.executable, "-m", "hatch_fancy_pypi_readme", cwd=ROOT)
    source = PROJECT["urls"]["Source"]
    links = [link for link in _links(text) if not link.startswith("#")]
    assert [link for link in links if "://" not in link] == []
    relative = [link for link in _links(README) if "://" not in link and not link.startswith("#")]
    assert len(relative) == sum(link.startswith((f"{source}/blob/v", f"{source}/raw/v")) for link in links)
    assert all(url.startswith(source) for url in PROJECT["urls"].values())
    assert __url__ == source


def names_tests(text: str) -> bool:
    """Return whether a text names at least one test, and only tests that exist."""
    references = re.findall(r"`([\w/]+)::(\w+)`", text)
    files = {module: ROOT / "tests" / f"{module}.py" for module, _ in references}
    return bool(references) and all(
        files[module].exists() and re.search(rf"^(async )?def {name}\(", files[module].read_text("utf-8"), re.MULTILINE)
        for module, name in references
    )


def test_invariants_have_tests() -> None:
    """Each invariant in docs/development/architecture.md names tests, and has a bug that make promises can put in."""
    rows = re.findall(r"^\| (I\d+) \| .* \| (.*) \|$", document("docs/development/architecture.md"), re.MULTILINE)
    assert [name for name, _ in rows] == [bug.invariant for bug in BUGS]
    assert [name for name, tests in rows if not names_tests(tests)] == []
    counts = {bug: (ROOT / "late_exporter" / bug.module).read_text("utf-8").count(bug.text) for bug in BUGS}
    assert [bug for bug, count in counts.items() if count != 1] == []


@pytest.mark.parametrize(
    ("pins", "wanted"),
    [("run", PROJECT["dependencies"]), ("dev", PROJECT["dependencies"] + PYPROJECT["dependency-groups"]["dev"])],
)
def test_pins_are_what_the_project_depends_on(pins: str, wanted: list[str]) -> None:
    """Every dependency is pinned to a version that the project allows."""
    pinned = _pins(pins)
    requirements = [Requirement(line) for line in wanted]
    wrong = [
        str(requirement)
        for requirement in requirements
        if (version := pinned.get(canonicalize_name(requirement.name))) is None
        or not requirement.specifier.contains(version, prereleases=True)
    ]
    assert wrong == []


@pytest.mark.parametrize("others", ["run", "build", "audit"])
def test_pins_agree(others: str) -> None:
    """What is pinned in two files is pinned to one version."""
    developing, other = _pins("dev"), _pins(others)
    shared = developing.keys() & other.keys()
    assert {name: developing[name] for name in shared} == {name: other[name] for name in shared}


@pytest.mark.parametrize("pins", ["run", "build", "dev", "audit", "uv"])
def test_every_pin_has_hashes(pins: str) -> None:
    """No package is installed whose bytes were not seen when it was pinned."""
    text = (ROOT / ".requirements" / f"{pins}.txt").read_text("utf-8")
    entries = [entry for entry in re.split(r"\n(?=[^\s#])", text) if entry.strip()]
    assert len(_pins(pins)) <= len(entries)
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize("pattern", [REGISTRIES, MACHINES])
def test_no_file_depends_on_a_machine(pattern: re.Pattern[str]) -> None:
    """No file names where packages come from, which is the business of the machine, or where its author had it."""
    offences = [
        f"{path.relative_to(ROOT)}: {found[0]}"
        for path in _files()
        for found in pattern.finditer(path.read_text("utf-8", "replace"))
    ]
    assert offences == []


def test_scripts_install_only_what_is_pinned() -> None:
    """A script that runs pip installs what a file pins with hashes."""
    lines = [
        line for path in (ROOT / ".ci").iterdir() if path.is_file() for line in path.read_text("utf-8").splitlines()
    ]
    installs = [line.strip() for line in lines if "bin/pip install" in line]
    assert installs
    assert [line for line in installs if "--require-hashes" not in line] == []
