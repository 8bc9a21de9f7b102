"""The parts of uvicorn that the server replaces or reads, which are not its public interface.

If one of these tests fails with a new version, read what has changed in uvicorn before the server is adapted.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import tomllib
from pathlib import Path

import h11
import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from late_exporter.web import server

ROOT = Path(__file__).resolve().parents[2]
SERVER, CONNECTION = server._Server, server._HttpConnection  # noqa: SLF001 - what is tested

REPLACED_METHODS = [
    (SERVER, uvicorn.Server, {"capture_signals", "on_tick", "shutdown", "startup"}),
    (CONNECTION, H11Protocol, {"connection_made", "data_received", "resume_writing"}),
]


@pytest.mark.parametrize(("own", "base", "names"), REPLACED_METHODS, ids=["server", "connection"])
def test_replaced_methods(own: type, base: type, names: set[str]) -> None:
    """Every method that is replaced exists in uvicorn with the same parameters; nothing else is replaced."""
    inherited = {name for name, _ in inspect.getmembers(base, callable)}
    assert names == {name for name in vars(own) if name in inherited and not name.startswith("__")}
    for name in names:
        assert [*inspect.signature(getattr(own, name)).parameters] == [
            *inspect.signature(getattr(base, name)).parameters
        ]


async def test_attributes() -> None:
    """The attributes that are read or set exist after the constructors of uvicorn."""
    config = uvicorn.Config(lambda *_: None, log_config=None, lifespan="off")
    state = uvicorn.Server(config)
    assert (False, False) == (state.started, state.should_exit)
    assert set() == state.server_state.connections
    assert config is state.config
    connection = H11Protocol(config=config, server_state=state.server_state, app_state={})
    assert h11.IDLE is connection.conn.their_state
    assert [None, None] == [getattr(connection, name) for name in ("cycle", "transport")]


async def test_ten_ticks_per_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server counts ticks to close slow connections once per second."""
    ticks: list[int] = []
    pauses: list[float] = []

    class Server(uvicorn.Server):
        async def on_tick(self, counter: int) -> bool:
            ticks.append(counter)
            return len(ticks) > 2

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    await Server(uvicorn.Config(lambda *_: None, log_config=None)).main_loop()
    assert ([0, 1, 2], [0.1, 0.1]) == (ticks, pauses)


def test_upper_bound() -> None:
    """A version of uvicorn that no test has run with cannot be installed: the pinned minor version is the last one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (requirement,) = (line for line in project["dependencies"] if line.startswith("uvicorn"))
    pins = (ROOT / ".requirements" / "run.txt").read_text("utf-8")
    pinned = re.search(r"^uvicorn==0\.(\d+)\.", pins, re.MULTILINE)
    assert pinned is not None
    assert requirement.endswith(f",<0.{int(pinned[1]) + 1}")
