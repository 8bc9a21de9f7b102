from __future__ import annotations

import io

from late_exporter.commands.log_reader import ProgressLine


class TtyStream(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


def test_progress_is_a_line_on_a_terminal() -> None:
    """It is drawn again and cleared in the end, says what is waited for, and does not end up in files."""
    terminal, pipe = TtyStream(), io.StringIO()
    for stream in (terminal, pipe):
        progress = ProgressLine(stream)
        progress.start("acme publishing", lambda: 0.0)
        progress.update(25, 100)
        progress.start("acme connections", lambda: 59.4)
        progress.update(50, 100)
        progress.close()
    assert terminal.getvalue().split("\r\x1b[K") == [
        "",
        "acme publishing: 25 logs read, 25% of the list",
        "acme connections: 50 logs read, 50% of the list, waiting 59 s for the quota",
        "",
    ]
    assert pipe.getvalue() == ""
