"""A real Alertmanager, which ends with the test that started it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.program import PATIENCE, eventually, spawned

__all__ = ["alertmanager"]


@contextmanager
def alertmanager(binary: str, folder: Path, config: str) -> Iterator[str]:
    """Where an Alertmanager serves, on a port of the system's choice; it talks to no other one."""
    file, log = folder / "alertmanager.yml", folder / "alertmanager.log"
    file.write_text(config)
    command = [
        binary,
        f"--config.file={file}",
        f"--storage.path={folder / 'alertmanager'}",
        "--web.listen-address=127.0.0.1:0",
        "--cluster.listen-address=",
    ]
    # Where it was unpacked rather than installed, it finds its own templates only from above usr/bin.
    above = Path(binary).resolve().parents[2]
    with log.open("wb") as output, spawned(command, stdout=output, stderr=output, cwd=above) as process:
        try:
            yield eventually(lambda: _listening(log.read_text()), hint=log.read_text)
        finally:
            process.terminate()
            process.wait(PATIENCE)


def _listening(log: str) -> str:
    match = re.search(r'msg="?Listening on"? .*?address=([\d.]+:\d+)', log)
    return f"http://{match[1]}" if match else ""
