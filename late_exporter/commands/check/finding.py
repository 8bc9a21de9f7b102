"""What an examination finds, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

__all__ = ["Finding", "Level", "format_findings", "log_count"]

GAP = 2


class Level(StrEnum):
    """How bad it is; only an error keeps the exporter from its work."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at.

    Args:
        level: How bad it is.
        subject: What was looked at.
        message: What was found.
        hint: What to do; empty where nothing is to be done.
        workspace: Whose it is; empty where it is of the whole exporter.
    """

    level: Level
    subject: str
    message: str
    hint: str = ""
    workspace: str = ""


def log_count(logs: int | None) -> str:
    """How many logs there are, in words."""
    if logs is None:
        return "an unknown number of logs"
    return "1 log" if logs == 1 else f"{logs:,} logs"


def format_findings(findings: Sequence[Finding]) -> list[str]:
    """A line a finding for people, in columns."""
    subjects = [f"{finding.workspace} {finding.subject}".strip() for finding in findings]
    width = max(map(len, subjects), default=0)
    return [
        f"{finding.level:<7}{'':{GAP}}{subject:<{width}}{'':{GAP}}{finding.message}"
        + (f"; {finding.hint}" if finding.hint else "")
        for finding, subject in zip(findings, subjects, strict=True)
    ]
