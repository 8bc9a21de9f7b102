from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_an_ignored_interrupt_is_restored() -> None:
    """Processes that tests start can be interrupted although the shell that started the tests ignores SIGINT."""
    program = "import tests.conftest, signal; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
    script = f"trap '' INT; exec '{sys.executable}' -c '{program}'"
    root = Path(__file__).parents[1]
    output = subprocess.run(["bash", "-c", script], cwd=root, capture_output=True, check=True, text=True)
    assert "False\n" == output.stdout
