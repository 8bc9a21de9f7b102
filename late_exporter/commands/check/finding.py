"""Findings of the checks."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec


class Level(StrEnum):
    """Severity of a finding; only an error keeps the exporter from working."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Finding(msgspec.Struct, frozen=True):
    """Result of one check; the workspace is empty if it concerns the whole exporter."""

    level: Level
    subject: str
    message: str
    hint: str = ""
    workspace: str = ""


def format_findings(findings: Sequence[Finding]) -> list[str]:
    subjects = [f"{finding.workspace} {finding.subject}".strip() for finding in findings]
    width = max(map(len, subjects), default=0)
    return [
        f"{finding.level:<7}  {subject:<{width}}  {finding.message}" + (f"; {finding.hint}" if finding.hint else "")
        for finding, subject in zip(findings, subjects, strict=True)
    ]
