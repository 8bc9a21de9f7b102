"""Alertmanager as a process that ends with its test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.program import run_server
from tests.e2e.prometheus import LISTENING


@contextmanager
def run_alertmanager(binary: str, folder: Path, config: str, *arguments: str) -> Iterator[str]:
    """Run an Alertmanager without peers on a free port and yield its URL."""
    file = folder / "alertmanager.yml"
    file.write_text(config)
    command = [
        binary,
        f"--config.file={file}",
        f"--storage.path={folder / 'alertmanager'}",
        "--web.listen-address=127.0.0.1:0",
        "--cluster.listen-address=",
        *arguments,
    ]
    # If it was unpacked rather than installed, it finds its own templates only from the folder above usr/bin.
    working_directory = Path(binary).resolve().parents[2]
    with run_server(command, folder / "alertmanager.log", LISTENING, cwd=working_directory) as address:
        yield f"http://{address}"
