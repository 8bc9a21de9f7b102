"""Check the push of metrics by OTLP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from late_exporter.commands.check.finding import Finding, Level, unencrypted_headers
from late_exporter.commands.otlp import open_otlp
from late_exporter.errors import ConfigError
from late_exporter.log import redact
from late_exporter.masking import mask_url

SUBJECT = "otlp"


def check_otlp(environ: Mapping[str, str], *, has_replicas: bool) -> Iterator[Finding]:
    """Check that the endpoint of the environment accepts requests, if there is one."""
    try:
        connection = open_otlp(environ, has_replicas=has_replicas)
    except ConfigError as exc:
        yield from (Finding(Level.ERROR, SUBJECT, problem) for problem in exc.problems)
        return
    if connection is None:
        return
    endpoint = mask_url(connection.config.endpoint)
    reason = connection.client.try_endpoint()
    connection.client.close()
    if reason:
        hint = f"check {connection.config.variable} and the headers"
        yield Finding(Level.ERROR, SUBJECT, f"{endpoint}: {redact(reason)}", hint=hint)
    else:
        yield Finding(Level.OK, SUBJECT, f"{endpoint}: accepts metrics")
    if connection.config.secrets:
        yield from unencrypted_headers(SUBJECT, connection.config.endpoint)
