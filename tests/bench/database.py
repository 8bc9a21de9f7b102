"""What a state in PostgreSQL costs the exporter and the server: make bench ARGS=--postgres."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

import psycopg

from late_exporter.app.replicas import MAX_ADDED
from late_exporter.errors import StoreError
from late_exporter.model import CommitResult, FeedCommit
from late_exporter.store import Store, open_membership, open_store
from late_exporter.store.postgres import database
from tests.bench.measures import poll_and_request_counts, print_progress
from tests.bench.processes import ApiProcess, MeasuredProcess, ProcessLauncher
from tests.bench.report import BenchReport, Measurement
from tests.bench.workload import Workload
from tests.support.postgres import DURABLE_SETTINGS, PASSWORD, Cluster, find_programs, running_cluster, without_password

__all__ = ["QUICK_DATABASE", "DatabaseSizes", "measure_postgres"]

GROUP = 100
"""Feeds that a transaction has at most."""

LOGS_PER_POLL = 2
"""Logs of a workspace between two polls: 5,000 per day are 1.7 in 30 s."""

LOGS_PER_DAY = 5_000
FIRST_LOGS = 100
LIST_SIZE = 1_000
HEARTBEATS = 20
DEADLINE_SECONDS = 120.0
"""Deadline of a commit, because the machine may be busy."""

SETTLE_POLLS = 30
"""Polls after a start that may have to do more than others."""

DAY_SECONDS = 86_400
LOG_STATEMENTS = "options=-c%20log_statement%3Dall%20-c%20log_min_messages%3Dlog"
STATEMENT = re.compile(rb"LOG:  (?:statement|execute [^:]*):")
WAL_BYTES = "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint"
RELATION_SIZES = """
    SELECT CASE WHEN relname LIKE 'late\\_observation%' THEN 'late_observation' ELSE relname END,
        sum(pg_table_size(oid))::bigint, sum(pg_indexes_size(oid))::bigint
    FROM pg_class WHERE relkind = 'r' AND relname LIKE 'late\\_%' GROUP BY 1
"""


@dataclass(frozen=True)
class DatabaseSizes:
    """Sizes of the measurements.

    Args:
        workspaces: Number of workspaces in the state.
        commits: Number of commits of each size.
        rounds: Number of times that all workspaces commit the logs of a poll.
        shared_workspaces: Numbers of workspaces that replicas share.
        polls: Number of polls of a measurement.
    """

    workspaces: int = 200
    commits: int = 300
    rounds: int = 250
    shared_workspaces: tuple[int, ...] = (1_000, 10_000, 100_000)
    polls: int = 100


QUICK_DATABASE = DatabaseSizes(workspaces=20, commits=20, rounds=3, shared_workspaces=(100,), polls=5)


class Usage(NamedTuple):
    """What was used: seconds by the clock, CPU seconds of the client and of the server, and bytes of WAL."""

    seconds: float
    client_cpu: float
    server_cpu: float
    wal_bytes: float


class DatabaseBench:
    """Measurements of a state in PostgreSQL.

    Args:
        launcher: Launcher of the measured processes.
        cluster: Server whose commits are durable.
        sizes: Sizes of the measurements.
        report: Report that receives the results.
    """

    def __init__(self, launcher: ProcessLauncher, cluster: Cluster, sizes: DatabaseSizes, report: BenchReport) -> None:
        self._launcher = launcher
        self._cluster = cluster
        self._sizes = sizes
        self._report = report
        self._url = cluster.create_database()
        # One connection for all questions, because to open another one costs the server more than a commit.
        self._connection = psycopg.connect(self._url, autocommit=True)

    def run(self) -> None:
        """Measure everything."""
        with closing(self._connection):
            self._measure()

    def _measure(self) -> None:
        self.measure_polls()
        count = self._sizes.workspaces
        # All logs are those of one day, and so in one partition.
        start = (time.time() // DAY_SECONDS - 1) * DAY_SECONDS
        workload = Workload(count, logs_per_day=LOGS_PER_DAY, start=start)
        with closing(open_store(self._url)) as store:
            print_progress(f"creating {count:,} workspaces")
            for numbers in _groups(range(count), GROUP):
                workload.accept(_commit(store, workload.commits(numbers, FIRST_LOGS)))
            self.measure_groups(store, workload)
            self.measure_commits(store, workload)
            self.measure_checkpoint(store, workload)
        self.measure_heartbeats()

    def measure_polls(self) -> None:
        """Measure polls of a process, without and with a new log."""
        url, password = self._cluster.create_database(), self._launcher.folder / "database.password"
        password.write_text(PASSWORD)
        options = (f"--state.password-file={password}", f"--state.url={without_password(url)}")
        with self._launcher.api(LIST_SIZE) as api:
            api.wait_serving()
            for command, name in (("keep", "quiet poll"), ("add", "poll with a new log")):
                print_progress(name)
                (sqlite_cpu,) = self._measure_poll(api, command, ())
                cpu, server_cpu, wal_bytes = self._measure_poll(
                    api, command, options, self._cluster.cpu_seconds, self._wal_bytes
                )
                # Not in the same run, because it costs the server CPU.
                logged = (options[0], f"{options[1]}?{LOG_STATEMENTS}")
                _, statements = self._measure_poll(api, command, logged, self._count_statements)
                self._report.add(
                    "(l) a poll of one workspace, beside the same with SQLite",
                    Measurement(f"{name}: CPU of the exporter", cpu * 1e3, "ms", sqlite_cpu * 1e3),
                    Measurement(f"{name}: CPU of the server", server_cpu * 1e3, "ms"),
                    Measurement(f"{name}: statements", statements, ""),
                    Measurement(f"{name}: WAL", wal_bytes / 1e3, "kB"),
                )

    def _measure_poll(
        self, api: ApiProcess, command: str, options: Sequence[str], *meters: Callable[[], float]
    ) -> Sequence[float]:
        """Return the CPU seconds of a poll of an exporter, and what meters increase by, per poll."""
        state = self._launcher.folder / "database.db"
        with self._launcher.exporter(api, LIST_SIZE, state, *options, interval="100ms") as exporter:
            exporter.wait_serving()
            api.send_command(command)
            first = _wait_for_polls(exporter, SETTLE_POLLS)
            before = [meter() for meter in (exporter.cpu_seconds, *meters)]
            polls = _wait_for_polls(exporter, first + self._sizes.polls) - first
            after = [meter() for meter in (exporter.cpu_seconds, *meters)]
            api.send_command("keep")
            exporter.stop()
        return [(end - start) / polls for start, end in zip(before, after, strict=True)]

    def _wal_bytes(self) -> float:
        row = self._connection.execute(WAL_BYTES).fetchone()
        return float(row[0]) if row else 0.0

    def _count_statements(self) -> float:
        return len(STATEMENT.findall(self._cluster.log.read_bytes()))

    def measure_groups(self, store: Store, workload: Workload) -> None:
        """Measure transactions of many feeds, as those of many workspaces become, and the size of what they store."""
        print_progress("committing groups of feeds")
        count, usages, before = self._sizes.workspaces, [], self._relation_sizes()
        for _ in range(self._sizes.rounds):
            groups = [workload.commits(numbers, LOGS_PER_POLL) for numbers in _groups(range(count), GROUP)]
            usages.append(self._use(store, groups))
        logs = count * self._sizes.rounds * LOGS_PER_POLL
        section = f"(m) a transaction of {min(GROUP, count)} feeds with {LOGS_PER_POLL} logs each"
        self._add_usage(section, "per log", _total(usages), logs)
        sizes = self._relation_sizes()
        growth = {name: (size - before[name]) / logs for name, size in sizes.items()}
        self._report.add(
            f"(n) size of {logs:,} logs, of each workspace {LOGS_PER_DAY:,} per day",
            *(Measurement(f"{name}, per log", size, "B") for name, size in growth.items() if size >= 1),
            Measurement("all tables, per log", sum(growth.values()), "B"),
            Measurement("late_series, per workspace", sizes["late_series"] / count / 1e3, "kB"),
        )

    def measure_commits(self, store: Store, workload: Workload) -> None:
        """Measure transactions of one feed, and look-ups of the logs of a page."""
        numbers = [number % self._sizes.workspaces for number in range(self._sizes.commits)]
        commits: list[FeedCommit] = []
        for logs in (1, 10, 100):
            print_progress(f"committing {logs} logs of a feed")
            commits = workload.commits(numbers, logs)
            used = self._use(store, [[each] for each in commits])
            self._add_usage(f"(o) a transaction of one feed with {logs} logs", "per transaction", used, len(commits))
        started = self._usage()
        for scope, batch in commits:
            store.lookup(scope, [each.entry.key for each in reversed(batch.observations)])
        used = _difference(started, self._usage())
        self._add_usage("(p) a look-up of 100 known logs", "per look-up", used, len(commits))

    def measure_checkpoint(self, store: Store, workload: Workload) -> None:
        """Measure the first commit of each feed after a checkpoint, which writes whole pages into the WAL."""
        print_progress("committing after a checkpoint")
        groups = [workload.commits(numbers, LOGS_PER_POLL) for numbers in _groups(range(self._sizes.workspaces), GROUP)]
        self._connection.execute("CHECKPOINT")
        used = self._use(store, groups)
        section = "(q) the first commit of each feed after a checkpoint"
        self._report.add(section, Measurement("WAL per feed", used.wal_bytes / self._sizes.workspaces / 1e3, "kB"))

    def measure_heartbeats(self) -> None:
        """Measure heartbeats of a replica, each of which reads the owners of all workspaces."""
        for count in self._sizes.shared_workspaces:
            print_progress(f"heartbeats with {count:,} workspaces")
            url = self._cluster.create_database()
            open_store(url).close()  # It creates the tables.
            with closing(open_membership(url)) as membership:
                membership.join(1, "late-1")
                for numbers in _groups(range(count), MAX_ADDED):
                    membership.add_workspaces(f"workspace-{number:06}" for number in numbers)
                started = self._usage()
                for _ in range(HEARTBEATS):
                    membership.send_heartbeat(1)
                used = _difference(started, self._usage())
            self._add_usage(f"(r) a heartbeat of a replica, {count:,} workspaces", "per heartbeat", used, HEARTBEATS)

    def _use(self, store: Store, groups: Iterable[Sequence[FeedCommit]]) -> Usage:
        """Return what it takes to commit some groups, each in a transaction."""
        started = self._usage()
        for commits in groups:
            _commit(store, commits)
        return _difference(started, self._usage())

    def _usage(self) -> Usage:
        wal_bytes = self._wal_bytes()
        return Usage(time.perf_counter(), time.process_time(), self._cluster.cpu_seconds(), wal_bytes)

    def _add_usage(self, section: str, unit: str, used: Usage, count: int) -> None:
        self._report.add(
            section,
            Measurement(f"time {unit}", used.seconds / count * 1e3, "ms"),
            Measurement(f"CPU of the exporter {unit}", used.client_cpu / count * 1e3, "ms"),
            Measurement(f"CPU of the server {unit}", used.server_cpu / count * 1e3, "ms"),
            Measurement(f"WAL {unit}", used.wal_bytes / count / 1e3, "kB"),
        )

    def _relation_sizes(self) -> dict[str, int]:
        """Return the size of each table in bytes, and of the indexes of each."""
        rows = self._connection.execute(RELATION_SIZES).fetchall()
        tables = {name: table for name, table, _ in rows}
        return tables | {f"{name}, index": index for name, _, index in rows}


def measure_postgres(launcher: ProcessLauncher, sizes: DatabaseSizes, report: BenchReport) -> None:
    """Measure a state in PostgreSQL on a server that is started for it; raise SystemExit if there is none."""
    database.DEADLINE_SECONDS = DEADLINE_SECONDS
    programs = find_programs()
    if programs is None:
        raise SystemExit("postgresql is not installed; .ci/tools installs it")
    with running_cluster(programs, DURABLE_SETTINGS) as cluster:
        DatabaseBench(launcher, cluster, sizes, report).run()


def _wait_for_polls(exporter: MeasuredProcess, count: int) -> int:
    """Wait until a process has polled that often, and return how often it has."""
    while (polls := poll_and_request_counts(exporter)[0]) < count:
        exporter.check_running()
        time.sleep(0.5)
    return polls


def _groups(numbers: range, size: int) -> list[range]:
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]


def _commit(store: Store, commits: Sequence[FeedCommit]) -> list[CommitResult]:
    """Commit a group; raise the error of one that fails."""
    results = []
    for result in store.commit_all(commits):
        if isinstance(result, StoreError):
            raise result
        results.append(result)
    return results


def _difference(before: Usage, after: Usage) -> Usage:
    return Usage(*(end - start for start, end in zip(before, after, strict=True)))


def _total(usages: Iterable[Usage]) -> Usage:
    return Usage(*map(sum, zip(*usages, strict=True)))
