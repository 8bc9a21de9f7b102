"""A PostgreSQL cluster of the tests: private, on a loopback port, without fsync."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg

ROOT = Path(__file__).parents[2]
FOLDERS = (Path("/usr/lib/postgresql"), ROOT / ".cache/tools/usr/lib/postgresql")
"""Where Debian has the programs of each version."""

SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "listen_addresses": "127.0.0.1",
    "max_connections": "50",
    "autovacuum": "off",
    "log_min_messages": "fatal",
}


USER = "late"
PASSWORD = secrets.token_hex(8)


def find_programs() -> Path | None:
    """Return the folder with initdb and postgres, of the newest version if there are several."""
    folders = [folder for parent in FOLDERS for folder in parent.glob("*/bin") if (folder / "postgres").exists()]
    newest = max(folders, key=lambda folder: float(folder.parent.name), default=None)
    found = shutil.which("postgres")
    return newest or (Path(found).resolve().parent if found else None)


class Cluster:
    """A PostgreSQL cluster.

    Args:
        programs: Folder with the programs of PostgreSQL.
        folder: Folder of the cluster, which the unprivileged user can write.
    """

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._folder = folder
        self._data = folder / "data"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def initialise(self) -> None:
        password_file = self._folder / "password"
        password_file.write_text(PASSWORD)
        command = [
            str(self._programs / "initdb"),
            f"--pgdata={self._data}",
            "--auth=scram-sha-256",
            f"--username={USER}",
            f"--pwfile={password_file}",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
        ]
        subprocess.run(command, check=True, capture_output=True, **unprivileged())

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        options = {**SETTINGS, "port": str(self.port), "unix_socket_directories": str(self._folder)}
        arguments = [f"--{name}={value}" for name, value in options.items()]
        command = [str(self._programs / "postgres"), "-D", str(self._data), *arguments]
        log_path = self._folder / "log"
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, **unprivileged())
        while not self._accepts_connections():
            if self._process.poll() is not None:
                raise RuntimeError(log_path.read_text())
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.05)

    def _accepts_connections(self) -> bool:
        with suppress(psycopg.OperationalError):
            psycopg.connect(self.url("postgres"), connect_timeout=10).close()
            return True
        return False

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: SIGINT ends its sessions, SIGQUIT is a crash."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(60)
            self._process = None

    def url(self, database: str) -> str:
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def create_schema(self) -> str:
        """Create an empty schema, which takes less time than a database, and return the URL of a state in it."""
        name = f"late_{secrets.token_hex(6)}"
        self.execute(self.url("postgres"), f"CREATE SCHEMA {name}")
        return f"{self.url('postgres')}?options=-csearch_path%3D{name}"

    @staticmethod
    def execute(url: str, *queries: str) -> list[tuple[Any, ...]]:
        """Execute statements and return the rows of the last one."""
        with psycopg.connect(url, autocommit=True) as connection:
            rows: list[tuple[Any, ...]] = []
            for query in queries:
                cursor = connection.execute(query)
                rows = cursor.fetchall() if cursor.description else []
        connection.close()
        return rows


@contextmanager
def running_cluster(programs: Path) -> Iterator[Cluster]:
    """Start a cluster in a folder of its own; stop it and delete the folder at the end."""
    folder = Path(tempfile.mkdtemp(prefix="late-postgres-"))
    try:
        if user := unprivileged().get("user"):
            shutil.chown(folder, user)
        cluster = Cluster(programs, folder)
        cluster.initialise()
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop(signal.SIGQUIT)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def without_password(url: str) -> str:
    return url.replace(f":{PASSWORD}@", "@")


def unprivileged() -> dict[str, Any]:
    """Return the arguments of a process that does not run as root, which PostgreSQL refuses."""
    if os.getuid() != 0:
        return {}
    return {"user": "nobody", "group": "nogroup", "extra_groups": ()}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
