"""The division of the workspaces among shards."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cache


@cache
def shard_of(workspace: str, total: int) -> int:
    """Return which of several shards a workspace belongs to, by rendezvous hashing: the one with the highest score.

    A further shard thus takes its workspaces from the others, and the others exchange none.
    """
    from hashlib import blake2b  # noqa: PLC0415 - loads OpenSSL, and the health check has no workspaces

    return max(range(total), key=lambda shard: blake2b(f"{shard}/{workspace}".encode(), digest_size=8).digest())


def pod_name(environ: Mapping[str, str]) -> str:
    """Return the name of the pod by the downward API of Kubernetes, or its host name."""
    return environ.get("POD_NAME") or os.uname().nodename


def pod_ordinal(name: str) -> int | None:
    """Return the number at the end of a pod's name, as in ``late-exporter-2``; None if there is none."""
    match = re.fullmatch(r"(?:.*-)?(0|[1-9][0-9]{0,8})", name.partition(".")[0])
    return int(match[1]) if match else None
