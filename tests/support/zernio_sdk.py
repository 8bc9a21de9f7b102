"""Run scripts with zernio-sdk, in a process of their own, because its package has the same name as late-sdk's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

ROOT = Path(__file__).parents[2]
SDK = ROOT / ".cache" / "zernio-sdk"


class ZernioWebhook(msgspec.Struct, frozen=True):
    """A webhook of one event.

    Attributes:
        has_model: Whether the client has a model of the body.
    """

    event: str
    body: bytes
    has_model: bool


def require_sdk() -> None:
    """Skip the test if the client is missing, or fail it if CI=true."""
    if not (SDK / "late").is_dir():
        missing = f"zernio-sdk is not in {SDK}; .ci/venv zernio installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{missing}, and CI=true says that nothing is skipped")
        pytest.skip(missing)


def zernio_webhooks(timestamp: str) -> list[ZernioWebhook]:
    """Return a webhook of every event that the client knows, built with its models."""
    require_sdk()
    command = [sys.executable, "-P", str(ROOT / "tests" / "support" / "zernio_webhooks.py"), timestamp]
    environ = {**os.environ, "PYTHONPATH": str(SDK)}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    assert 0 == result.returncode, result.stderr
    return [ZernioWebhook(event, body.encode(), has_model) for event, body, has_model in json.loads(result.stdout)]
