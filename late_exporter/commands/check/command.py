"""The command ``check``."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence

import msgspec

from late_exporter.app.configs import count_key_users, status_config
from late_exporter.commands._runner import ConnectWorkspaces
from late_exporter.commands.check.api import check_api
from late_exporter.commands.check.events import check_events
from late_exporter.commands.check.families import check_families
from late_exporter.commands.check.finding import Finding, Level, format_findings
from late_exporter.commands.check.generation import check_generation, recorded_feeds
from late_exporter.commands.check.local import (
    WEBHOOK_STATUSES,
    check_addresses,
    check_key_file,
    check_key_rights,
    check_same_logs,
    check_shard,
    check_state,
    check_web,
)
from late_exporter.commands.check.otlp import check_otlp
from late_exporter.config.settings import CommandContext, Settings
from late_exporter.format import plural
from late_exporter.log import escape, redact


async def check_all(context: CommandContext, connect: ConnectWorkspaces) -> int:
    """Print the findings of all checks; return 1 if one of them is an error."""
    findings = await _findings(context.settings, connect)
    if context.flags.format == "json":
        output = msgspec.json.encode(findings).decode()
    else:
        output = "\n".join(map(escape, format_findings(findings)))
    sys.stdout.write(redact(output) + "\n")
    return int(any(finding.level is Level.ERROR for finding in findings))


async def _findings(settings: Settings, connect: ConnectWorkspaces) -> Sequence[Finding]:
    summary = plural(len(settings.workspaces), "workspace")
    findings = [Finding(Level.OK, "configuration", summary), *check_same_logs(settings.workspaces_with_same_logs)]
    findings += check_shard(settings.sharding, len(settings.workspaces), len(settings.all_workspaces))
    key_shards, key_users = settings.count_key_shards(), count_key_users(settings)
    recorded = await asyncio.to_thread(recorded_feeds, settings.state.url, settings.state.password_path)
    async with connect as connections:
        for workspace in settings.workspaces:
            findings += check_key_file(workspace.name, workspace.key_file)
            key = workspace.key_text
            findings += check_key_rights(workspace.name, key)
            client = connections[workspace.name].client
            generation = await check_generation(
                workspace.name,
                client,
                settings.poll.feeds,
                configured_generation=settings.api.generation,
                recorded=recorded,
            )
            findings += generation.findings
            findings += await check_api(
                workspace.name,
                client,
                generation.feeds,
                interval=settings.poll.interval,
                quota_share=settings.api.quota_share / max(1, key_shards[key]),
                status=status_config(settings, workspace, key_users),
            )
    findings += await asyncio.to_thread(lambda: list(_local_findings(settings)))
    return findings


def _local_findings(settings: Settings) -> Iterator[Finding]:
    """Yield the findings about this machine and the services that it uses; some take long."""
    yield check_state(settings.state.url, settings.state.password_path)
    yield from check_otlp(os.environ, has_replicas=settings.state.replicas)
    yield from check_events(settings.events)
    yield from check_web(settings.web.config_file, settings.web_config)
    yield from check_families(settings.metrics.disable, settings.metrics.buckets)
    secure = settings.web_config.ssl_context is not None
    yield from check_addresses(settings.web.listen_address, secure=secure)
    yield from check_addresses(settings.webhook.listen_address, secure=secure, statuses=WEBHOOK_STATUSES)
