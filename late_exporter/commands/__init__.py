"""The commands: one module per command, which is imported only if the command runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from late_exporter.config.settings import CommandContext


def function_of(command: str) -> Callable[[CommandContext], int]:
    """Return the function of a command that reads settings, which has the command's name and returns the exit code."""
    from importlib import import_module  # noqa: PLC0415 - not needed by quick commands

    name = "simulate" if command == "demo" else command
    function: Callable[[CommandContext], int] = getattr(
        import_module(f"{__name__}.{name}"), command
    )
    return function
