"""The documents, the pins and the files around the program: what they say is true."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pytest
import trustme
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from deploy.prometheus.table import alerts_markdown
from late_exporter import __version__
from late_exporter.cli import main
from late_exporter.cli.parser import parse
from late_exporter.config import sources
from late_exporter.config import web as webconfig
from late_exporter.config.flags import COMMAND_FLAGS
from late_exporter.config.markdown import commands_markdown, flags_markdown, options_markdown
from late_exporter.config.settings import OPTIONS
from late_exporter.config.sources import parse_flags
from late_exporter.feeds.zernio import actions_markdown
from late_exporter.metrics.catalogue import CATALOGUE

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
CHANGELOG = (ROOT / "CHANGELOG.md").read_text("utf-8")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]

CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.DOTALL | re.MULTILINE)
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}

# Written so that they do not match themselves.
REGISTRIES = re.compile(r"py[p]i\.org|python[h]osted\.org|registry\.n[p]mjs|d[e]b\.debian|proxy\.g[o]lang")
MACHINES = re.compile(r"/ro[o]t/|/ho[m]e/\w+/|/Us[e]rs/\w+/|/wo[r]k/|\.\./sh[a]red")


def _code() -> str:
    return "\n".join(CODE.findall(README))


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def _commands() -> set[str]:
    """The command lines of the README and the runbooks, without variables and the program's name."""
    runbooks = (ROOT / "deploy" / "prometheus" / "runbooks").glob("*.md")
    texts = [README, *(file.read_text("utf-8") for file in runbooks)]
    lines = re.compile(r"^(?:\$ |LATE_API_KEY=\S+ )?late-exporter\b([^#\n]*)", re.MULTILINE)
    return {words.strip() for text in texts for words in lines.findall(text)}


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


def _offences(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}: {found[0]}"
        for path in _files()
        for found in pattern.finditer(path.read_text("utf-8", "replace"))
    ]


def _pins(name: str) -> dict[str, Version]:
    lines = (ROOT / ".requirements" / f"{name}.txt").read_text("utf-8").splitlines()
    pins = [Requirement(line.rstrip(" \\")) for line in lines if line and line[0] not in " #"]
    return {canonicalize_name(pin.name): Version(str(pin.specifier).removeprefix("==")) for pin in pins}


def test_readme_has_the_table_of_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    """The README shows the catalogue as the program prints it."""
    assert 0 == main(["metrics", "--format", "markdown"])
    assert f"<!-- begin metrics -->\n{capsys.readouterr().out.strip()}\n<!-- end metrics -->" in README


def test_readme_has_the_table_of_options() -> None:
    """The README shows the options as the program has them."""
    assert f"<!-- begin options -->\n{options_markdown()}\n<!-- end options -->" in README


def test_readme_has_the_table_of_commands() -> None:
    """The README shows the commands and their own flags as the program has them."""
    assert f"<!-- begin commands -->\n{commands_markdown()}\n<!-- end commands -->" in README
    assert f"<!-- begin flags -->\n{flags_markdown()}\n<!-- end flags -->" in README


def test_readme_has_the_table_of_actions() -> None:
    """The README shows what an action of the API is in the metrics."""
    assert f"<!-- begin actions -->\n{actions_markdown()}\n<!-- end actions -->" in README


@pytest.mark.parametrize("words", sorted(_commands()))
def test_documents_show_commands_that_exist(words: str) -> None:
    """Every command line of the README and the runbooks is one that the program understands."""
    line = parse(shlex.split(words))
    line.check()
    assert [] == line.problems
    parse_flags(line.command, line.values_of(COMMAND_FLAGS))


def test_readme_has_the_table_of_alerts() -> None:
    """The README shows every alert as its rule has it."""
    assert f"<!-- begin alerts -->\n{alerts_markdown()}\n<!-- end alerts -->" in README


def test_readme_names_metrics_that_exist() -> None:
    """Every metric that the README names is in the catalogue."""
    named = {name for name in re.findall(r"\blate_[a-z_]+[a-z]\b", _code()) if name != "late_exporter"}
    samples = {f"{name}{end}" for name in CATALOGUE for end in ("", "_bucket", "_sum", "_count")}
    assert {"late_publishing_logs_total", "late_account_info"} <= named
    assert set() == named - samples


def test_readme_names_flags_and_variables_that_exist() -> None:
    """Every flag and every variable that the README names is one of the options."""
    flags = set(re.findall(r"--[a-z]+\.[a-z.-]*[a-z]", README))
    variables = set(re.findall(r"\bLATE_[A-Z_]+", README))
    assert flags <= {option.flag for option in OPTIONS}
    assert variables <= {option.variable for option in OPTIONS}
    assert {"--poll.interval", "LATE_API_KEY"} <= flags | variables


def test_readme_names_targets_that_exist() -> None:
    """Every make target that the README names is in the Makefile, which explains it."""
    explained = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)", _code()))
    assert {"demo", "test", "run"} <= named
    assert named <= explained


def test_readme_has_a_configuration_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of options and workspaces in the README is one."""
    (text,) = (block for block in _blocks("yaml") if "workspaces" in block)
    for name in ("brand", "agency"):
        (tmp_path / f"{name}.key").write_text(f"sk_{name}")
    (tmp_path / "late.yml").write_text(text)
    monkeypatch.delenv("LATE_API_KEY", raising=False)
    loaded = sources.load("run", {"config.file": [str(tmp_path / "late.yml")]}, {})
    assert ["brand", "agency"] == [workspace.name for workspace in loaded.workspaces]


def test_readme_has_a_web_configuration_that_loads(tmp_path: Path) -> None:
    """The web configuration in the README is one, with the certificates that it names."""
    (text,) = (block for block in _blocks("yaml") if "tls_server_config" in block)
    certificate = trustme.CA().issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "server.crt")
    certificate.private_key_pem.write_to_path(tmp_path / "server.key")
    (tmp_path / "web.yml").write_text(text)
    config = webconfig.load(tmp_path / "web.yml")
    assert config.ssl_context is not None
    assert ["prometheus"] == list(config.users)
    assert {"/-/healthy", "/-/ready"} == set(config.open_paths)
    assert () == config.warnings


@pytest.mark.e2e
def test_readme_has_a_scrape_configuration_for_prometheus(tmp_path: Path, require_tool: Callable[[str], str]) -> None:
    """Prometheus accepts the scrape configuration of the README."""
    (text,) = (block for block in _blocks("yaml") if "scrape_configs" in block)
    (tmp_path / "prometheus.yml").write_text(text)
    command = [require_tool("promtool"), "check", "config", str(tmp_path / "prometheus.yml")]
    assert 0 == subprocess.run(command, check=False).returncode


@pytest.mark.e2e
def test_readme_has_queries_for_prometheus(tmp_path: Path, require_tool: Callable[[str], str]) -> None:
    """Prometheus can read every query of the README."""
    queries = _blocks("promql")
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "readme", "rules": rules}]}))
    command = [require_tool("promtool"), "check", "rules", str(tmp_path / "rules.yml")]
    checked = subprocess.run(command, check=False, capture_output=True, text=True)
    assert f"SUCCESS: {len(queries)} rules found" in checked.stdout


def test_links_lead_somewhere() -> None:
    """Every relative link of a Markdown file leads to a file, and to a heading where it names one."""
    documents = [path for path in _files() if path.suffix == ".md"]
    dead = [
        f"{path.relative_to(ROOT)}: {link}"
        for path in documents
        for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text("utf-8"))
        if "://" not in link and not _leads(path, link)
    ]
    assert ROOT / "README.md" in documents
    assert [] == dead


def _leads(path: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = path.parent / name if name else path
    if not anchor:
        return target.exists()
    titles = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.MULTILINE) if target.is_file() else []
    return anchor in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_changelog_keeps_the_format() -> None:
    """The changelog begins with what is unreleased, goes on from the newest version to the oldest, and dates each."""
    titles = re.findall(r"^## (.+)$", CHANGELOG, re.MULTILINE)
    releases = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)", title) for title in titles[1:]]
    known = [(Version(release[1]), date.fromisoformat(release[2])) for release in releases if release]
    assert "[Unreleased]" == titles[0]
    assert len(releases) == len(known)
    assert known == sorted(known, reverse=True)
    assert set(re.findall(r"^### (.+)$", CHANGELOG, re.MULTILINE)) <= KINDS


def test_changelog_knows_the_version() -> None:
    """The version of the program is in the changelog."""
    assert f"\n## [{__version__}] - " in CHANGELOG


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
    assert [] == wrong


@pytest.mark.parametrize("others", ["run", "build", "audit"])
def test_pins_agree(others: str) -> None:
    """What is pinned in two files is pinned to one version."""
    developing, other = _pins("dev"), _pins(others)
    shared = developing.keys() & other.keys()
    assert {name: developing[name] for name in shared} == {name: other[name] for name in shared}


@pytest.mark.parametrize("pins", ["run", "build", "dev", "audit"])
def test_every_pin_has_hashes(pins: str) -> None:
    """No package is installed whose bytes were not seen when it was pinned."""
    text = (ROOT / ".requirements" / f"{pins}.txt").read_text("utf-8")
    entries = [entry for entry in re.split(r"\n(?=[^\s#])", text) if entry.strip()]
    assert len(_pins(pins)) <= len(entries)
    assert [] == [entry for entry in entries if "--hash=sha256:" not in entry]


def test_no_file_names_a_registry() -> None:
    """Where packages come from is the business of the machine that installs them."""
    assert [] == _offences(REGISTRIES)


def test_no_file_names_a_path_of_a_machine() -> None:
    """Nothing depends on where its author had it."""
    assert [] == _offences(MACHINES)
