"""The sources of settings and flags."""

import os
from pathlib import Path

import pytest

from late_exporter.config.commands import COMMANDS
from late_exporter.config.options import Option
from late_exporter.config.settings import SECTIONS
from late_exporter.config.sources import health_check_target, load, parse_flags
from late_exporter.errors import ConfigError

KEY = {"LATE_API_KEY": "sk_" + "0" * 64}
ADDRESS, FILE = "LATE_EXPORTER_WEB__LISTEN_ADDRESS", "LATE_EXPORTER_CONFIG__FILE"


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("metrics", "completion")])
def test_no_declaration_is_left(command: str) -> None:
    """Every option of every section has a value, also those that the command does not have; so has every flag."""
    settings = load(command, {}, KEY)
    fields = [value for name in SECTIONS for value in getattr(settings, name)]
    assert [] == [value for value in (*fields, *parse_flags(command, {})) if isinstance(value, Option)]


HEALTH_CHECKS: list[tuple[dict[str, list[str]], dict[str, str], str]] = [
    ({}, {}, ""),
    ({}, {ADDRESS: "127.0.0.1:1,:2"}, ""),
    ({}, {ADDRESS: "unix:/run/late.sock"}, ""),
    ({"web.listen-address": ["[::1]:1", ":2"]}, {ADDRESS: ":3"}, ""),
    ({"web.listen-address": ["1"]}, {}, ""),
    ({"web.config.file": ["web.yml"]}, {}, ""),
    ({}, {"LATE_EXPORTER_WEB__CONFIG_FILE": "web.yml", ADDRESS: ":4"}, ""),
    ({}, {"LATE_EXPORTER_WEB__LISTEN_ADRESS": ":1"}, ""),
    ({}, {"LATE_EXPORTER_POLL__INTERVAL": "x", "LATE_API_KEY": "a b"}, ""),
    ({}, {FILE: "late.yml"}, "web: {listen-address: ':5', config-file: web.yml}\npoll: {interval: x}"),
    ({}, {FILE: "late.yml"}, "web: {listen-address: [':5', ':6']}\nworkspaces: 7"),
    ({}, {FILE: "late.yml", ADDRESS: ":7"}, "web: {listen-address: ':5'}"),
    ({}, {FILE: "late.yml"}, "web: {listen-address: [[]]}"),
    ({}, {FILE: "late.yml"}, "["),
    ({"config.file": ["gone.yml"]}, {}, ""),
]


@pytest.mark.parametrize(("flags", "environ", "text"), HEALTH_CHECKS, ids=range(len(HEALTH_CHECKS)))
def test_the_health_check_finds_what_loading_would_find(
    flags: dict[str, list[str]], environ: dict[str, str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Address and TLS are those of the settings, and a mistake in any source is left to their messages."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "late.yml").write_text(text)
    for variable in [name for name in os.environ if name.startswith(("LATE_", "ZERNIO_"))]:
        monkeypatch.delenv(variable)
    for variable, value in environ.items():
        monkeypatch.setenv(variable, value)
    try:
        web = load("healthcheck", flags).web
    except ConfigError:
        expected = None
    else:
        expected = web.listen_address[0], web.config_file is not None
    assert expected == health_check_target(flags)


@pytest.mark.parametrize(
    ("text", "uses_tls"), [("basic_auth_users: {}", False), ("tls_server_config: {cert_file: a}", True)]
)
def test_the_health_check_uses_tls_only_if_it_is_configured(tmp_path: Path, text: str, *, uses_tls: bool) -> None:
    """A server without TLS would log each attempt to use it."""
    (tmp_path / "web.yml").write_text(text)
    target = health_check_target({"web.config.file": [str(tmp_path / "web.yml")]})
    assert target is not None
    assert uses_tls == target[1]
