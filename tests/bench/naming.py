"""What the platforms, accounts and logs of the bench are called, the same for everybody who takes part."""

from __future__ import annotations

from late_exporter.simulator.platforms import PLATFORMS

__all__ = ["ACTIONS", "KEY", "STATUSES", "account_id", "log_id", "platform_name"]

KEY = "sk_" + "b" * 64
ACTIONS = ("publish", "retry", "media_upload", "rate_limit_pause", "token_refresh", "cancelled")
STATUSES = ("success", "failed", "pending", "skipped")

_NAMES = tuple(PLATFORMS)


def platform_name(number: int) -> str:
    """A platform: first the real ones, then made up ones."""
    return _NAMES[number] if number < len(_NAMES) else f"network{number}"


def account_id(number: int) -> str:
    """An account id as the API has them."""
    return f"65f1c0{number:018x}"


def log_id(seconds: float, number: int) -> str:
    """A log id as the API has them: it begins with a time."""
    return f"{int(seconds):08x}{number:016x}"
