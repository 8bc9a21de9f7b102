"""The command ``healthcheck``, which runs every few seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from late_exporter.commands.exporter_client import HEALTHY_TEXT, check_health, may_use_tls
from late_exporter.commands.output import write_lines
from late_exporter.config.types import Address, parse_address, split_items

if TYPE_CHECKING:
    from late_exporter.config.settings import CommandContext


def healthcheck(context: CommandContext) -> int:
    """Check the first address: an exporter that serves on one serves on all."""
    web = context.settings.web
    return check_target(web.listen_address[0], may_use_tls(web.config_file))


def quick_target(words: Sequence[str], environ: Mapping[str, str]) -> tuple[Address, bool] | None:
    """Return the address to check and whether TLS may be in use, without loading the settings.

    Loading them takes six times as long, and as much memory as the exporter itself. None if the
    settings have to be loaded.
    """
    match [part for word in words for part in word.split("=", 1)]:
        case []:
            text = environ.get("LATE_EXPORTER_WEB__LISTEN_ADDRESS") or ":10077"
        case ["--web.listen-address", text]:
            pass
        case _:
            return None
    if environ.get("LATE_EXPORTER_CONFIG__FILE"):
        return None
    try:
        address = parse_address(split_items(text)[0])
    except (ValueError, IndexError):
        return None
    return address, may_use_tls(environ.get("LATE_EXPORTER_WEB__CONFIG_FILE"))


def check_target(address: Address, secure: bool) -> int:  # noqa: FBT001 - of quick_target
    check_health(address, secure=secure)
    return write_lines([HEALTHY_TEXT])
