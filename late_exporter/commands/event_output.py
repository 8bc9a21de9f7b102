"""Open the output of log events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import httpx

from late_exporter import __version__, log
from late_exporter.api.cookies import CookielessAsyncClient
from late_exporter.config.environment import certificate_context
from late_exporter.config.events import read_headers
from late_exporter.config.otlp import header_secrets
from late_exporter.config.serving import EventSettings
from late_exporter.errors import ConfigError, DeliveryError
from late_exporter.events.file_output import FileOutput, StdoutOutput
from late_exporter.events.http_output import EventFormat, HttpOutput
from late_exporter.events.loki import LokiFormat
from late_exporter.events.otlp import OtlpFormat
from late_exporter.events.output import Output

FORMATS: Mapping[str, Callable[[], EventFormat]] = {"loki": LokiFormat, "otlp": OtlpFormat}

REQUEST_SECONDS = 10.0


async def open_output(settings: EventSettings, stack: AsyncExitStack) -> Output | None:
    """Return the output of events, None if there is none; raise ConfigError if its file cannot be written."""
    target = settings.output
    if target is None:
        return None
    if target.kind == "stdout":
        return StdoutOutput()
    if target.kind == "file":
        file = FileOutput(Path(target.location))
        try:
            file.check()
        except DeliveryError as exc:
            raise ConfigError(f"--events.output {exc}") from None
        return file
    client = await stack.enter_async_context(await asyncio.to_thread(_create_client))
    headers = _header_reader(settings.headers_file.path if settings.headers_file else None)
    return HttpOutput(target.kind, target.location, format=FORMATS[target.kind](), client=client, headers=headers)


def _create_client() -> httpx.AsyncClient:
    return CookielessAsyncClient(
        verify=certificate_context(),
        follow_redirects=False,
        timeout=REQUEST_SECONDS,
        # As for the API: a proxy would take plain http to another machine.
        mounts={"http://": None},
        headers={"User-Agent": f"late-exporter/{__version__}"},
    )


def _header_reader(path: Path | None) -> Callable[[], Mapping[str, str]]:
    """Return a function that reads the headers of a request from a file, and has their values redacted in logs."""

    def read() -> Mapping[str, str]:
        if path is None:
            return {}
        headers = read_headers(str(path))
        for value in headers.values():
            for secret in header_secrets(value):
                log.add_secret(secret)
        return headers

    return read
