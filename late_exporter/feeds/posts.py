"""Posts of the API: on which accounts they still wait to be published, and since when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from late_exporter.feeds.decoder import parse_millis

ENDED_STATUSES = frozenset({"published", "failed", "cancelled"})
"""Statuses of a target that nothing will happen to any more."""

_Object: TypeAlias = Mapping[str, Any]


def targets_of(post: _Object) -> list[_Object]:
    """Return the targets of a post: its accounts, each with a status of its own."""
    targets = post.get("platforms")
    if not isinstance(targets, list):
        return []
    return [target for target in targets if isinstance(target, dict)]


def waiting_targets(post: _Object) -> list[_Object]:
    """Return the targets that are still to be published; if the API names none, an empty one."""
    targets = targets_of(post) or [{}]
    return [target for target in targets if target.get("status") not in ENDED_STATUSES]


def target_due_time(post: _Object, target: _Object) -> float | None:
    """Return when a target is due, in Unix seconds.

    It may have a time of its own: accounts can be staggered, and what exceeds the daily limit of
    TikTok is held until later. A post without any time is due from its creation: it is published at
    once, or again after an error that passes.
    """
    for value in (target.get("scheduledFor"), post.get("scheduledFor"), post.get("createdAt")):
        millis = parse_millis(value) if isinstance(value, str) else None
        if millis is not None:
            return millis / 1000
    return None


def due_time(post: _Object) -> float | None:
    """Return when the first target that waits is due, in Unix seconds; None if none waits."""
    times = [target_due_time(post, target) for target in waiting_targets(post)]
    return min((time for time in times if time is not None), default=None)
