"""The configuration in force, as the exporter shows it at /config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import yaml

from late_exporter.config import sources
from late_exporter.config.sections import ConfigSettings
from late_exporter.config.settings import format_settings

KEY = "sk_" + "ab" * 32
MASKED_KEY = "  key: '**********'\n"


def load_yaml(path: Path, text: str, environ: Mapping[str, str]) -> object:
    """Return the settings of a configuration file, without the path of the file."""
    path.write_text(text)
    settings = sources.load("run", {"config.file": str(path)}, environ=environ)
    return settings.model_copy(update={"config": ConfigSettings()})


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["poll: {interval: 90s, lookback: 36h, feeds: publishing}", "status: {feeds: none}"],
        ["api: {base_url: 'http://localhost:8080/api', profile_id: 'p:1#x', quota_share: 0.25}"],
        ["web: {listen_address: ':1,[::1]:2', enable_lifecycle: true}", "metrics: {max_accounts: 0}"],
        [
            "workspaces:",
            "- {name: a, api_key_file: KEY, labels: {team: 'Jörg: 1', tier: 2}}",
            "- {name: b, api_key_file: KEY2, profile_id: '0'}",
        ],
    ],
)
def test_the_text_is_a_configuration_file(lines: Sequence[str], tmp_path: Path) -> None:
    """What is shown can be used as a configuration file, and means the same; the key itself is masked."""
    text = "\n".join(lines)
    for name, key in (("KEY2", "cd" * 32), ("KEY", "ab" * 32)):
        (tmp_path / name).write_text(key)
        text = text.replace(f": {name}", f": {tmp_path / name}")
    environ = {} if "workspaces" in text else {"ZERNIO_API_KEY": KEY}
    path = tmp_path / "late.yml"
    path.write_text(text)
    shown = format_settings(sources.load("run", {"config.file": str(path)}, environ=environ))
    assert "ab" * 8 not in shown
    assert bool(environ) == (MASKED_KEY in shown)
    expected = load_yaml(path, text, environ)
    assert expected == load_yaml(path, shown.replace(MASKED_KEY, ""), environ)
    assert yaml.safe_load(shown)
