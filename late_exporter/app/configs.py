"""The configurations of the parts of the exporter, from the settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec

from late_exporter.app.assembly import PipelineConfig
from late_exporter.config.settings import Settings, Workspace
from late_exporter.ingest.details import EventSelection
from late_exporter.ingest.schedule import PollConfig
from late_exporter.ingest.status_poller import StatusConfig
from late_exporter.metrics.catalogue import build_catalogue


def count_key_users(settings: Settings) -> Counter[str]:
    """Return the number of workspaces of each key, also in other shards."""
    return Counter(workspace.key_text for workspace in settings.all_workspaces)


def status_config(settings: Settings, workspace: Workspace, key_users: Mapping[str, int]) -> StatusConfig:
    """Return the configuration of the status feeds of a workspace, given the number of workspaces of each key."""
    return StatusConfig(
        intervals={name: settings.status.intervals[name] for name in settings.status.feeds},
        max_accounts=settings.metrics.max_accounts,
        key_users=key_users[workspace.key_text],
    )


def pipeline_config(settings: Settings) -> PipelineConfig:
    """Return the configuration of the pipeline."""
    metrics, events = settings.metrics, settings.events
    selection = EventSelection(all_statuses=events.include == "all", captions=events.captions)
    return PipelineConfig(
        feeds=tuple(settings.poll.feeds),
        poll=poll_config(settings),
        families=build_catalogue(metrics.buckets),
        disabled_families=frozenset(metrics.disable),
        max_label_values=metrics.max_label_values,
        max_accounts=metrics.max_accounts,
        created_timestamps=metrics.created_timestamps,
        zero_hold=metrics.zero_hold,
        events=None if events.output is None else selection,
    )


def poll_config(settings: Settings) -> PollConfig:
    """Return the configuration of the pollers, whose options have the same names."""
    return msgspec.convert(settings.poll, PollConfig, from_attributes=True)
