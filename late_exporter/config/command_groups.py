"""Which commands have an option, and the output formats of each."""

from __future__ import annotations

QUERY_COMMANDS = ("posts", "post", "logs", "audit")
"""Commands that read from the API or the state once and exit."""

STATE_COMMANDS = ("audit",)  # query commands that read the state
API_COMMANDS = ("run", "check", *QUERY_COMMANDS)  # commands that need an API key
EXPORTER_COMMANDS = ("run", "check", "demo")
SIMULATOR_COMMANDS = ("demo", "simulate")
CLIENT_COMMANDS = ("status", "accounts")  # commands that read from the exporter on this machine
SERVER_COMMANDS = ("run", "check", "demo", "healthcheck", *CLIENT_COMMANDS)
OFFLINE_COMMANDS = (
    "metrics",
    "config",
    "assets",
    "runbook",
    "completion",
    "help",
    "version",
)  # that read no settings
ALL_COMMANDS = ("run", "check", "demo", "simulate", "state", *QUERY_COMMANDS)  # commands that log

FORMATS = {
    "check": ("text", "json"),
    "status": ("text", "json"),
    "accounts": ("table", "json"),
    "posts": ("table", "json", "csv"),
    "post": ("text", "json"),
    "logs": ("table", "json", "csv", "raw"),
    "audit": ("text", "json"),
    "metrics": ("table", "json"),
}
"""Output formats of the commands that have a choice, the default first."""
