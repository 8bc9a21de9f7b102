"""The parts of uvicorn that the server replaces or reads, which are not its public interface.

If one of these tests fails with a new version, read what has changed in uvicorn before the server is adapted.
"""

from __future__ import annotations

import inspect
import re
import tomllib
from pathlib import Path

from uvicorn.protocols.http.h11_impl import H11Protocol

from late_exporter.web import server

ROOT = Path(__file__).resolve().parents[2]
CONNECTION = server._Connection  # noqa: SLF001 - what is tested
REPLACED_METHODS = {
    "_unsupported_upgrade_warning",
    "connection_lost",
    "connection_made",
    "data_received",
    "on_response_complete",
    "pause_writing",
    "resume_writing",
    "send_400_response",
}


def test_replaced_methods() -> None:
    """Every method that is replaced exists in uvicorn with the same parameters; nothing else is replaced."""
    inherited = {name for name, _ in inspect.getmembers(H11Protocol, callable)}
    assert {name for name in vars(CONNECTION) if name in inherited and not name.startswith("__")} == REPLACED_METHODS
    for name in REPLACED_METHODS:
        assert [*inspect.signature(getattr(CONNECTION, name)).parameters] == [
            *inspect.signature(getattr(H11Protocol, name)).parameters
        ]


def test_upper_bound() -> None:
    """A version of uvicorn that no test has run with cannot be installed: the pinned minor version is the last one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (requirement,) = (line for line in project["dependencies"] if line.startswith("uvicorn"))
    pins = (ROOT / ".requirements" / "run.txt").read_text("utf-8")
    pinned = re.search(r"^uvicorn==0\.(\d+)\.", pins, re.MULTILINE)
    assert pinned is not None
    assert requirement.endswith(f",<0.{int(pinned[1]) + 1}")
