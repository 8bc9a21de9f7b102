"""The command ``audit``: compare the counts of a state with the API."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

from late_exporter import log
from late_exporter.commands._runner import ConnectWorkspaces, selected_workspaces, write_lines
from late_exporter.commands.audit.report import AuditReport, render_json, render_text
from late_exporter.commands.audit.run import AuditRunner
from late_exporter.commands.feed_choice import recorded_feed
from late_exporter.commands.progress import ProgressBar
from late_exporter.config.settings import CommandContext
from late_exporter.format import plural
from late_exporter.model import Scope
from late_exporter.store.snapshot import Snapshot


async def audit_feeds(context: CommandContext, connect: ConnectWorkspaces) -> Sequence[AuditReport]:
    """Return the report of each feed; meanwhile a terminal shows the progress."""
    settings = context.settings
    names = selected_workspaces(context)
    progress = ProgressBar(sys.stderr)
    reports = []
    async with connect as connections, progress.live():
        for scope in [Scope(name, feed) for name in names for feed in settings.poll.feeds]:
            connection = connections[scope.workspace]
            runner = AuditRunner(
                scope,
                partial(recorded_feed, scope.feed, *connection),
                client=connection.client,
                open_snapshot=partial(Snapshot, settings.state.url, settings.state.password_path),
                interval=settings.poll.interval,
                wait=context.flags.wait,
                logger=log.get_logger("late_exporter").bind(workspace=scope.workspace, feed=scope.feed),
            )
            progress.start(f"{scope.workspace} {scope.feed}", connection.client)
            runner.on_page = partial(_show_page, progress)
            try:
                reports.append(await runner.run(context.flags.since))
            finally:
                progress.clear()
    return reports


def _show_page(progress: ProgressBar, read_count: int, total: int, request_count: int) -> None:
    # The list is read twice if logs differ, and pages overlap.
    total = max(total, read_count)
    progress.update(read_count, total, f"{read_count:,} of {plural(total, 'log')}, {plural(request_count, 'request')}")


def print_reports(reports: Sequence[AuditReport], format_name: str) -> int:
    """Print the reports and return the exit code, which does not depend on whether all of them are read."""
    exit_code = int(not all(report.ok for report in reports))
    lines = [render_json(reports)] if format_name == "json" else map(log.escape, render_text(reports))
    return write_lines(map(log.redact, lines), exit_code)
