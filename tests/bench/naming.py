"""The key, and names of accounts and logs, in the bench."""

from __future__ import annotations

__all__ = ["KEY", "account_id", "log_id"]

KEY = "sk_" + "b" * 64


def account_id(number: int) -> str:
    """Return an account id in the format of the API."""
    return f"65f1c0{number:018x}"


def log_id(seconds: float, number: int) -> str:
    """Return a log id in the format of the API, which begins with a time."""
    return f"{int(seconds):08x}{number:016x}"
