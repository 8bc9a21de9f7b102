"""A PostgreSQL with a standby, which can lag and becomes the primary when that one fails."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.support.postgres import PASSWORD, USER, Cluster, running_cluster
from tests.support.proxy import Proxy

PROMOTE_SECONDS = 60


class ReplicatedCluster(NamedTuple):
    """A primary, a standby that streams from it, and the network between the two."""

    primary: Cluster
    standby: Cluster
    link: Proxy

    def create_database(self) -> str:
        """Create an empty database on both, and return a URL that follows a failover."""
        name = self.primary.create_database().rpartition("/")[2]
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in (self.primary, self.standby))
        return f"postgresql://{USER}:{PASSWORD}@{hosts}/{name}?target_session_attrs=read-write"

    def wait_replayed(self) -> None:
        """Wait until the standby has everything that is committed by now."""
        ((position,),) = Cluster.execute(self.primary.url("postgres"), "SELECT pg_current_wal_lsn()::text")
        _wait_for(self.standby.url("postgres"), f"SELECT (pg_last_wal_replay_lsn() >= '{position}')::integer")

    def lag(self) -> None:
        """Let the standby receive nothing that is committed from now on."""
        self.link.hang()

    def fail_over(self) -> None:
        """Let the primary crash, and promote the standby."""
        self.primary.stop(signal.SIGQUIT)
        Cluster.execute(self.standby.url("postgres"), f"SELECT pg_promote(true, {PROMOTE_SECONDS})")


def _wait_for(url: str, query: str) -> None:
    """Wait until a query returns a true value."""
    pause = threading.Event()
    while not Cluster.execute(url, query)[0][0]:
        pause.wait(0.05)


@contextmanager
def running_pair(programs: Path) -> Iterator[ReplicatedCluster]:
    """Start a primary and a standby; stop both at the end."""
    with (
        running_cluster(programs) as primary,
        Proxy(primary.port) as link,
        running_cluster(programs, primary_port=link.port) as standby,
    ):
        yield ReplicatedCluster(primary, standby, link)
