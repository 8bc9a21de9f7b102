"""Options with lists by name: workspaces of users, buckets of histograms; and the families that are disabled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from late_exporter.config.settings import Settings, restart_only_changes
from late_exporter.config.sources import load
from late_exporter.errors import ConfigError
from late_exporter.metrics.catalogue import CATALOGUE, build_catalogue

BCRYPT_HASH = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"
USERS = f"basic_auth_users: {{ops: {BCRYPT_HASH}, customer-a: {BCRYPT_HASH}, customer_b: {BCRYPT_HASH}}}"
WORKSPACES = """\
workspaces:
- {name: brand-a, api_key_file: a.key}
- {name: brand_a, api_key_file: b.key}
- {name: brand-b, api_key_file: c.key}
"""
BUCKETS = "metrics.buckets"
DISABLE = "metrics.disable"
ATTEMPTS = "late_publishing_attempts"
DURATION = "late_publishing_duration_seconds"
BOUND = "web.user-workspaces"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory, with keys and users."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate("abc"):
        (tmp_path / f"{name}.key").write_text(f"sk_{number}" + "0" * 63)
    (tmp_path / "web.yml").write_text(USERS)
    return tmp_path


def read(
    folder: Path, text: str = "", *, environ: Mapping[str, str] | None = None, command: str = "run", **flags: Any
) -> Settings:
    """Return settings of a configuration file, an environment and flags, ``web__config__file=["web.yml"]``."""
    (folder / "late.yml").write_text(WORKSPACES + text)
    given = {name.replace("__", ".").replace("_", "-"): texts for name, texts in flags.items()}
    options = {"config.file": ["late.yml"], "web.config.file": ["web.yml"]} | given
    return load(command, {name: texts for name, texts in options.items() if texts}, environ or {})


def problems(folder: Path, text: str = "", **flags: Any) -> list[str]:
    """Return the mistakes of a configuration file and flags."""
    with pytest.raises(ConfigError) as caught:
        read(folder, text, **flags)
    return list(caught.value.problems)


@pytest.mark.parametrize(
    "text",
    [
        "web: {user_workspaces: {customer-a: [brand-a, brand_a], customer_b: brand-b}}",
        "web: {user-workspaces: ['customer-a=brand-a,brand_a', customer_b=brand-b]}",
        "web: {user-workspaces: 'customer-a=brand-a, customer-a=brand_a, customer_b=brand-b'}",
    ],
)
def test_user_workspaces_of_the_file(folder: Path, text: str) -> None:
    """A mapping, a list and a text mean the same; names keep their dashes."""
    bound = read(folder, text).web_config.user_workspaces
    assert {"customer-a": {"brand-a", "brand_a"}, "customer_b": {"brand-b"}} == bound


def test_user_workspaces_of_flags_and_environment(folder: Path) -> None:
    """Flags may be repeated, and win over the environment."""
    environ = {"LATE_EXPORTER_WEB__USER_WORKSPACES": "customer-a=brand-a,brand-b"}
    assert {"customer-a": {"brand-a", "brand-b"}} == read(folder, environ=environ).web_config.user_workspaces
    settings = read(folder, environ=environ, web__user_workspaces=["customer_b=brand-b", "customer_b=brand_a"])
    assert {"customer_b": {"brand_a", "brand-b"}} == settings.web_config.user_workspaces
    assert [] == restart_only_changes(settings, read(folder))
    assert {"ops", "customer-a", "customer_b"} == settings.web_config.users.keys()


@pytest.mark.parametrize("command", ["run", "check"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("customer-c=brand-a", ": customer-c is not in basic_auth_users of the file of --web.config.file"),
        ("customer-a=brand-c", ": there is no workspace brand-c; did you mean brand-b?"),
        ("customer-a", ' "customer-a": must be USER=WORKSPACE, like customer-a=brand-a'),
        ("=brand-a", ' "=brand-a": must be USER=WORKSPACE, like customer-a=brand-a'),
        (
            "customer-a=brand/a",
            ' "customer-a=brand/a": the workspace "brand/a" of customer-a must be 1 to 64 letters, digits, or _ . -',
        ),
        ("customer-a=", ' "customer-a=": must name at least one'),
        ("customer-a=brand-a,brand-a", ' "customer-a=brand-a,brand-a": customer-a=brand-a is given twice'),
    ],
)
def test_wrong_user_workspaces(folder: Path, value: str, message: str, command: str) -> None:
    """A user without a password and an unknown workspace are mistakes, of ``check`` too."""
    with pytest.raises(ConfigError) as caught:
        read(folder, command=command, web__user_workspaces=[value])
    start = f"--{BOUND}{message}"
    assert [problem[: len(start)] for problem in caught.value.problems] == [start]


def test_place_in_the_file(folder: Path) -> None:
    """A mistake is reported with its line."""
    text = "web:\n  user_workspaces:\n    customer-a: [brand-x]\n"
    assert ["late.yml:6: web.user-workspaces: there is no workspace brand-x"] == [
        problem.partition(";")[0] for problem in problems(folder, text)
    ]
    text = "web: {user_workspaces: {customer-a: {brand-a: true}}}"
    assert ["late.yml:5: web.user-workspaces: must be a mapping of names to lists of values"] == problems(folder, text)
    text = "web: {user_workspaces: {customer-a: brand-a, customer-a: brand-b}}"
    assert ["late.yml:5: web.user_workspaces.customer-a: given twice, first in line 5"] == problems(folder, text)


@pytest.mark.parametrize("path", ["/metrics", "/", "/config", "/-/reload"])
def test_every_page_needs_a_password(folder: Path, path: str) -> None:
    """If users are bound, no page with names of workspaces may be without a password; probes may."""
    flags: dict[str, Any] = {"web__user_workspaces": ["customer-a=brand-a"]}
    (message,) = problems(folder, web__unauthenticated_paths=[path, "/-/ready"], **flags)
    reason = "must need a password, because --web.user-workspaces limits what users may see"
    assert f'--web.unauthenticated-paths "{path}": {reason}' == message
    read(folder, web__unauthenticated_paths=["/-/healthy", "/-/ready"], **flags)
    read(folder, web__unauthenticated_paths=[path])


@pytest.mark.parametrize(
    "text",
    [
        f"metrics: {{buckets: {{{DURATION}: [0.5, 1, 2], {ATTEMPTS}: '1,3'}}}}",
        f"metrics: {{buckets: ['{DURATION}=0.5,1,2', '{ATTEMPTS}=1,3']}}",
        f"metrics: {{buckets: '{DURATION}=0.5,1,2,{ATTEMPTS}=1,3'}}",
    ],
)
def test_buckets(folder: Path, text: str) -> None:
    """Buckets are set by histogram, and win over those of all durations."""
    metrics = read(folder, text, metrics__duration_buckets=["7"]).metrics
    catalogue = build_catalogue(metrics.duration_buckets, metrics.buckets)
    assert ((0.5, 1.0, 2.0), (1.0, 3.0)) == (catalogue[DURATION].buckets, catalogue[ATTEMPTS].buckets)
    assert (7.0,) == catalogue["late_connection_duration_seconds"].buckets
    assert CATALOGUE["late_exporter_log_lag_seconds"] == catalogue["late_exporter_log_lag_seconds"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("1,2", "must be FAMILY=BOUND,BOUND, like late_publishing_attempts=1,2,3"),
        ("late_up=1", '"late_up" is not a histogram; these are late_publishing_duration_seconds, '),
        (f"{ATTEMPTS}=2,1", f"the bounds of {ATTEMPTS} must be in ascending order, each bound once"),
        (f"{ATTEMPTS}=1,x", f'the bound "x" of {ATTEMPTS} must be a number above 0'),
        (f"{ATTEMPTS}=0,1", f'the bound "0" of {ATTEMPTS} must be a number above 0'),
        (f"{ATTEMPTS}=1,nan", f'the bound "nan" of {ATTEMPTS} must be a number above 0'),
        (f"{ATTEMPTS}=", "must name at least one"),
        (f"{ATTEMPTS}=" + ",".join(map(str, range(1, 52))), f"at most 50 bounds are allowed for {ATTEMPTS}, not 51"),
    ],
)
def test_wrong_buckets(folder: Path, value: str, message: str) -> None:
    """Wrong bounds and unknown histograms are mistakes that name what is wrong."""
    (problem,) = problems(folder, metrics__buckets=[value])
    assert problem.startswith(f"--{BUCKETS}")
    assert message in problem


def test_disable(folder: Path) -> None:
    """Families are disabled by their names, in a list or several flags."""
    settings = read(folder, "metrics: {disable: [late_posts, late_account_logs_total]}")
    assert ("late_posts", "late_account_logs_total") == settings.metrics.disable
    assert ("late_posts",) == read(folder, metrics__disable=["late_posts"]).metrics.disable
    assert [DISABLE] == restart_only_changes(settings, read(folder))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "late_publishing_log_total",
            "is not a family of the exporter; did you mean late_publishing_logs_total or late_publishing_",
        ),
        ("late_publishing_duration_seconds_bucket", "did you mean late_publishing_duration_seconds"),
        ("xyz", '"xyz": is not a family of the exporter'),
    ],
)
def test_unknown_families(folder: Path, name: str, message: str) -> None:
    """An unknown family is a mistake, which lists families of similar names."""
    (problem,) = problems(folder, metrics__disable=[name])
    assert problem.startswith(f'--{DISABLE} "{name}": ')
    assert message in problem
