"""The output of log events as the program opens it: with its HTTP client and the headers of a file."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from late_exporter import log
from late_exporter.commands.event_output import open_output
from late_exporter.config.events import EventTarget, HeaderFile
from late_exporter.config.serving import EventSettings
from late_exporter.errors import DeliveryError
from late_exporter.feeds.log_events import encode_event
from late_exporter.model import LogDetail, LogEntry, QueuedEvent, Scope
from tests.support.event_receiver import EventReceiver, Reply


def settings(url: str, headers_file: Path | None = None) -> EventSettings:
    """Return the options of a receiver."""
    return EventSettings(EventTarget("loki", url), headers_file=HeaderFile(headers_file) if headers_file else None)


def deliver(options: EventSettings) -> int:
    """Deliver an event, and return how many were rejected."""

    async def run() -> int:
        async with AsyncExitStack() as stack:
            output = await open_output(options, stack)
            assert output is not None
            body = encode_event(Scope("acme", "publishing"), LogEntry(key="a", status="failed"), LogDetail())
            return await output.deliver([QueuedEvent(1, "acme", 0, body)])

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("value", "echo"),
    [
        ("Bearer glc_eyJvIjoiMTIz", "glc_eyJvIjoiMTIz"),
        ("Basic bGF0ZTpzdzByZGYxc2g=", "bGF0ZTpzdzByZGYxc2g="),
        ("Basic bGF0ZTpzdzByZGYxc2g=", "sw0rdf1sh"),
        ("Basic !wrong-base64!", "!wrong-base64!"),
        ("t0ken-alone", "t0ken-alone"),
    ],
)
def test_what_a_receiver_repeats_of_the_headers_is_redacted(tmp_path: Path, value: str, echo: str) -> None:
    """No log shows the value of a header, nor its token or password alone."""
    log.configure()
    file = tmp_path / "headers"
    file.write_text(f"Authorization: {value}\n")
    with (
        EventReceiver(lambda _: Reply(401, body=f"wrong: {echo}".encode())) as receiver,
        pytest.raises(DeliveryError) as caught,
    ):
        deliver(settings(receiver.url, file))
    assert [value] == [headers["Authorization"] for _, headers in receiver.requests]
    assert f"loki:{receiver.url}: HTTP 401: wrong: [redacted]" == log.redact(str(caught.value))
