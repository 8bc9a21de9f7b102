"""Alertmanager as a process that ends with its test."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.program import DEFAULT_TIMEOUT, start_process, wait_until


@contextmanager
def run_alertmanager(binary: str, folder: Path, config: str, *arguments: str) -> Iterator[str]:
    """Run an Alertmanager without peers on a free port and yield its URL."""
    file, log = folder / "alertmanager.yml", folder / "alertmanager.log"
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
    with (
        log.open("wb") as output,
        start_process(command, stdout=output, stderr=output, cwd=working_directory) as process,
    ):
        try:
            yield wait_until(lambda: _find_url(log.read_text()), describe=log.read_text)
        finally:
            process.terminate()
            process.wait(DEFAULT_TIMEOUT)


def _find_url(log: str) -> str:
    match = re.search(r'msg="?Listening on"? .*?address=([\d.]+:\d+)', log)
    return f"http://{match[1]}" if match else ""
