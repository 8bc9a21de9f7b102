"""Progress of commands that take long: a line on a terminal, otherwise one per finished step."""

from __future__ import annotations

import io

from late_exporter.commands.log_reader import ProgressLine
from tests.support.client import FakeClient
from tests.support.clock import HOUR, VirtualClock


class TtyStream(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True

    @property
    def pieces(self) -> list[str]:
        """What a user saw, one after another."""
        return [piece.removeprefix("\x1b[K") for piece in self.getvalue().split("\r")][1:]


class QuotaClient(FakeClient):
    """A client that allows a request every two seconds, the next one after a wait."""

    wait = 0.0

    def quota_wait(self, requests: int = 1) -> float:
        return self.wait + 2.0 * (requests - 1)


def test_progress_is_a_line() -> None:
    """A terminal shows the time left, anything else one line per finished step."""
    clock = VirtualClock()
    terminal, pipe = TtyStream(), io.StringIO()
    for stream in (terminal, pipe):
        progress = ProgressLine(stream, clock.monotonic)
        progress.start("acme publishing")
        clock.advance(100)
        progress.update(25, 100)
        clock.advance(3 * HOUR)
        progress.update(50, 100)
        progress.finish("50 logs")
        progress.close()
    assert terminal.pieces == [
        "acme publishing: 25 of about 100 logs read, about 5 min left",
        "acme publishing: 50 of about 100 logs read, about 3 h left",
        "acme publishing: 50 logs\n",
        "",
    ]
    assert pipe.getvalue() == "acme publishing: 50 logs\n"


def test_the_time_left_knows_the_quota() -> None:
    """After a burst of quick requests, the rest takes as long as the quota says, not as the burst did."""
    clock, terminal, client = VirtualClock(), TtyStream(), QuotaClient()
    progress = ProgressLine(terminal, clock.monotonic)
    progress.start("audit", client.quota_wait)
    clock.advance(3)
    progress.update(2900, 9760)
    assert terminal.pieces[-1].endswith(" logs read, about 2 min left"), "70 requests, one every two seconds"
    client.wait = 59.4
    progress.update(2900, 9760)
    assert terminal.pieces[-1].endswith(" logs read, waiting 59 s for the quota, about 3 min left")
