"""Settings of a command, as the program reads them without a configuration file."""

from __future__ import annotations

from typing import Any

from late_exporter.config.sections import CommandFlags
from late_exporter.config.settings import Settings
from late_exporter.config.sources import load

KEY = "sk_" + "0123456789abcdef" * 4


def settings_of(command: str, **flags: Any) -> Settings:
    """Return the settings of a command with a key and flags, ``poll__interval="1s"`` for ``--poll.interval 1s``."""
    given = {name.replace("__", ".").replace("_", "-"): value for name, value in flags.items()}
    return load(command, given, {"ZERNIO_API_KEY": KEY})


def flags_of(command: str, **flags: Any) -> CommandFlags:
    """Return the flags of a command."""
    return settings_of(command, **flags).flags
