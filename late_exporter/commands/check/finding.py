"""Findings of the checks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum

import msgspec

from late_exporter.config.types import is_private_url
from late_exporter.masking import mask_url


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


def unencrypted_headers(subject: str, url: str) -> Iterator[Finding]:
    """Warn if headers leave this machine unencrypted in requests to a URL."""
    if not is_private_url(url):
        yield Finding(Level.WARNING, subject, f"{mask_url(url)}: headers are sent unencrypted", hint="use https://")


def format_findings(findings: Sequence[Finding]) -> list[str]:
    subjects = [f"{finding.workspace} {finding.subject}".strip() for finding in findings]
    width = max(map(len, subjects), default=0)
    return [
        f"{finding.level:<7}  {subject:<{width}}  {finding.message}" + (f"; {finding.hint}" if finding.hint else "")
        for finding, subject in zip(findings, subjects, strict=True)
    ]
