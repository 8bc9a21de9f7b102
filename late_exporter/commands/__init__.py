"""The commands: one module per command, which is imported only if the command runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from late_exporter.config.settings import CommandContext

FUNCTIONS = (
    "run",
    "demo",
    "simulate",
    "check",
    "status",
    "accounts",
    "posts",
    "post",
    "logs",
    "audit",
    "backfill",
    "state",
)
"""Commands that read settings; each is a function of that name, most of them in a module of that name."""


def function_of(command: str) -> Callable[[CommandContext], int]:
    """Return the function that runs a command, and returns its exit code."""
    from importlib import import_module  # noqa: PLC0415 - not needed by quick commands

    name = "simulate" if command == "demo" else command
    function: Callable[[CommandContext], int] = getattr(import_module(f"{__name__}.{name}"), command)
    return function
