"""The commands: one module or package per command."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from late_exporter.config.settings import CommandContext

FUNCTIONS: Mapping[str, str] = MappingProxyType(
    {
        "run": "run.run",
        "demo": "simulate.demo",
        "simulate": "simulate.simulate",
        "check": "check.check",
        "status": "status.status",
        "accounts": "accounts.accounts",
        "post": "post.post",
        "logs": "logs.logs",
        "audit": "audit.audit",
        "backfill": "backfill.backfill",
        "textfile": "run.textfile",
        "state": "state.state",
    }
)
"""Module and function of each command that reads settings; a module is imported only if its command runs."""


def function_of(command: str) -> Callable[[CommandContext], int]:
    """Return the function that runs a command, and returns its exit code."""
    from importlib import import_module  # noqa: PLC0415 - not needed by quick commands

    module_name, _, name = FUNCTIONS[command].rpartition(".")
    function: Callable[[CommandContext], int] = getattr(import_module(f"{__name__}.{module_name}"), name)
    return function
