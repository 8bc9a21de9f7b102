"""Names of platforms, accounts and logs in the bench."""

from __future__ import annotations

from late_exporter.simulator.platforms import PLATFORMS

__all__ = ["ACTIONS", "KEY", "STATUSES", "account_id", "log_id", "platform_name"]

KEY = "sk_" + "b" * 64
ACTIONS = ("publish", "retry", "media_upload", "rate_limit_pause", "token_refresh", "cancelled")
STATUSES = ("success", "failed", "pending", "skipped")

_NAMES = tuple(PLATFORMS)


def platform_name(number: int) -> str:
    """Return the name of a platform: a real one, or an invented one beyond those."""
    return _NAMES[number] if number < len(_NAMES) else f"network{number}"


def account_id(number: int) -> str:
    """Return an account id in the format of the API."""
    return f"65f1c0{number:018x}"


def log_id(seconds: float, number: int) -> str:
    """Return a log id in the format of the API, which begins with a time."""
    return f"{int(seconds):08x}{number:016x}"
