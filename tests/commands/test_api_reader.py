from __future__ import annotations

import io
import sys

import pytest

from late_exporter.commands.api_reader import ListReader
from late_exporter.feeds import FEEDS
from tests.support.api import FakeHttpApi
from tests.support.clock import HOUR, VirtualClock
from tests.support.world import World


class TtyStream(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


async def test_progress_is_a_line_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is drawn again and cleared in the end, and does not end up in files."""
    world = World(VirtualClock())
    world.publish(150, over=HOUR)
    terminal = TtyStream()
    pipe = io.StringIO()
    for stream in (terminal, pipe):
        monkeypatch.setattr(sys, "stderr", stream)
        reader = ListReader(FakeHttpApi(world).client, FEEDS["publishing"], "acme")
        async for _ in reader.pages(0):
            pass
    first, second = "acme: 0 logs read", "acme: 100 logs read"
    assert terminal.getvalue().split("\r\x1b[K") == ["", first, "", second, ""]
    assert pipe.getvalue() == ""
