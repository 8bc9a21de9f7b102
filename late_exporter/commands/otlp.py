"""Open the push of metrics by OTLP, if the environment switches it on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from late_exporter import __version__, log
from late_exporter.config.otlp import MISSING_PACKAGES, OtlpConfig, read_otlp
from late_exporter.errors import ConfigError
from late_exporter.exposition.exposition import Exposition
from late_exporter.masking import mask_url
from late_exporter.otlp.pusher import OtlpPusher
from late_exporter.protocols import Logger

if TYPE_CHECKING:
    from late_exporter.otlp.client import OtlpClient

NOT_WITH_REPLICAS = (
    "replicas do not push metrics; unset the variable or set OTEL_METRICS_EXPORTER=none and scrape each replica, or "
    "drop --state.replicas"
)

PACKAGES = ("opentelemetry", "google", "requests")


class OtlpConnection(NamedTuple):
    """An endpoint and its configuration."""

    config: OtlpConfig
    client: OtlpClient


def open_otlp(environ: Mapping[str, str], *, has_replicas: bool) -> OtlpConnection | None:
    """Return the endpoint of the environment, None if there is none.

    ``has_replicas`` is whether the state is shared by replicas. A receiver would keep the series of the previous owner
    of a workspace alongside those of the next one.

    Raises:
        ConfigError: A variable is wrong, the packages are missing, or there are replicas.
    """
    config = read_otlp(environ)
    if config is None:
        return None
    if has_replicas:
        raise ConfigError(f"{config.variable}: {NOT_WITH_REPLICAS}")
    for secret in config.secrets:
        log.add_secret(secret)
    try:
        from late_exporter.otlp.client import OtlpClient  # noqa: PLC0415 - needs optional packages

        return OtlpConnection(config, OtlpClient(__version__))
    except ImportError as exc:
        if (exc.name or "").partition(".")[0] not in PACKAGES:
            raise
        raise ConfigError(f"{config.variable}: {MISSING_PACKAGES}") from exc


def create_pusher(connection: OtlpConnection, exposition: Exposition, logger: Logger) -> OtlpPusher:
    config, client = connection
    logger.info("pushing metrics by otlp", endpoint=mask_url(config.endpoint), seconds=config.interval)
    return OtlpPusher(exposition, client, interval=config.interval, logger=logger)
