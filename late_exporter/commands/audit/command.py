"""The command ``audit``: compare the counts of a state with the API."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from late_exporter import log
from late_exporter.commands._runner import ConnectWorkspaces, selected_workspaces, write_lines
from late_exporter.commands.audit.report import AuditReport, render_json, render_text
from late_exporter.commands.audit.run import AuditRunner
from late_exporter.commands.feed_choice import recorded_feed
from late_exporter.config.settings import CommandContext
from late_exporter.model import Scope
from late_exporter.store import open_snapshot


async def audit_feeds(context: CommandContext, connect: ConnectWorkspaces) -> Sequence[AuditReport]:
    settings = context.settings
    names = selected_workspaces(context)
    async with connect as connections:
        return [
            await AuditRunner(
                Scope(name, feed),
                partial(recorded_feed, feed, *connections[name]),
                client=connections[name].client,
                open_snapshot=partial(open_snapshot, settings.state.url, settings.state.password_path),
                interval=settings.longest_poll_interval,
                wait=context.flags.wait,
                logger=log.get_logger("late_exporter").bind(workspace=name, feed=feed),
            ).run(context.flags.since)
            for name in names
            for feed in settings.poll.feeds
        ]


def print_reports(reports: Sequence[AuditReport], format_name: str) -> int:
    """Print the reports and return the exit code, which does not depend on whether all of them are read."""
    exit_code = int(not all(report.ok for report in reports))
    lines = [render_json(reports)] if format_name == "json" else map(log.escape, render_text(reports))
    return write_lines(map(log.redact, lines), exit_code)
