"""The JSON schema of the configuration file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import yaml

from late_exporter.config.file_schema import format_schema

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
SECTIONS = ("api", "poll", "status", "state", "web", "metrics", "events", "log", "workspaces")


def test_the_examples_are_valid_and_mistakes_are_not() -> None:
    """The schema knows every key of the examples of the page, and which a workspace needs, but no other key."""
    validator = jsonschema.Draft202012Validator(json.loads(format_schema()))
    texts = re.findall(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    files = [file for file in map(yaml.safe_load, texts) if isinstance(file, dict) and file.keys() <= {*SECTIONS}]
    assert files
    assert [error.message for file in files for error in validator.iter_errors(file)] == []
    mistakes = (
        '{"pol": {}}',
        '{"poll": {"intervall": "5s"}}',
        '{"workspaces": [{"name": "a"}]}',
        '{"log": {"level": "x"}}',
    )
    assert [validator.is_valid(json.loads(text)) for text in mistakes] == [False] * 4
