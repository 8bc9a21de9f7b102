"""Check the endpoints of the status feeds with a key."""

from __future__ import annotations

from late_exporter.commands.check.finding import Finding, Level
from late_exporter.errors import ApiError, Forbidden, RateLimited
from late_exporter.ingest.status_poller import StatusConfig, disabling_reason, fetch_status
from late_exporter.protocols import Client


async def check_status_feeds(client: Client, config: StatusConfig) -> list[Finding]:
    """Send the first request of each status feed; a feed that fails does not keep logs from being counted."""
    findings: list[Finding] = []
    for name, feed in config.feeds.items():
        subject, error = f"status feed {name}", None
        refresh = feed.refresh(config.context("", 0, set()))
        try:
            refresh.send(await fetch_status(client, feed, next(refresh)))
        except StopIteration:
            pass
        except ApiError as exc:
            error = exc
        if error is None:
            findings.append(Finding(Level.OK, subject, f"reads {feed.path}"))
        else:
            findings.append(_failure(subject, error))
        if isinstance(error, RateLimited):
            break  # A further request would wait for the next minute.
    return findings


def _failure(subject: str, error: ApiError) -> Finding:
    if not disabling_reason(error):
        return Finding(Level.WARNING, subject, str(error))
    has_remedy = isinstance(error, Forbidden) and error.required_group
    hint = "or leave it out of --status.feeds" if has_remedy else "leave it out of --status.feeds"
    return Finding(Level.WARNING, subject, f"off: {error}", hint=hint)
