"""The output of log events as the program opens it: with its HTTP client and the headers of a file."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from late_exporter import log
from late_exporter.commands.check.events import check_events
from late_exporter.commands.check.finding import Level
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
    file = tmp_path / "headers"
    file.write_text(f"Authorization: {value}\n")
    with (
        EventReceiver(lambda _: Reply(401, body=f"wrong: {echo}".encode())) as receiver,
        pytest.raises(DeliveryError) as caught,
    ):
        deliver(settings(receiver.url, file))
    assert [value] == [headers["Authorization"] for _, headers in receiver.requests]
    assert f"loki:{receiver.url}: HTTP 401: wrong: [redacted]" == log.redact(str(caught.value))


@pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY"])
def test_a_token_never_reaches_a_proxy_in_plain_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Requests by plain http bypass every proxy, as those to the API do."""
    file = tmp_path / "headers"
    file.write_text("Authorization: Bearer t0ken\n")
    with EventReceiver() as receiver, EventReceiver() as proxy:
        for variable in ("NO_PROXY", "no_proxy", "http_proxy"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv(name, proxy.url)
        assert 0 == deliver(settings(receiver.url, file))
    assert (1, []) == (len(receiver.requests), proxy.requests)


@pytest.mark.parametrize(
    ("url", "is_secret", "messages"),
    [
        ("http://loki.example:3100", True, ["http://loki.example:3100: headers are sent unencrypted"]),
        ("http://loki.example:3100", False, []),
        ("https://loki.example", True, []),
        ("http://127.0.0.1:3100", True, []),
    ],
)
def test_headers_that_are_sent_unencrypted_are_a_warning(
    tmp_path: Path, url: str, messages: list[str], *, is_secret: bool
) -> None:
    """The check warns if headers leave this machine unencrypted."""
    findings = list(check_events(settings(url, tmp_path / "headers" if is_secret else None)))
    assert [(Level.WARNING, "events", message) for message in messages] == [
        (finding.level, finding.subject, finding.message) for finding in findings
    ]


def test_outputs_without_headers_need_no_encryption(tmp_path: Path) -> None:
    """Nothing is sent to a file, to standard output, or without an output."""
    for target in (None, EventTarget("stdout"), EventTarget("file", "events.jsonl")):
        assert [] == list(check_events(EventSettings(target, headers_file=HeaderFile(tmp_path / "headers"))))


def file_problems(path: Path) -> list[tuple[Level, str]]:
    """Return the findings of the check about a file of events."""
    return [(finding.level, finding.message) for finding in check_events(EventSettings(EventTarget("file", str(path))))]


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """The check finds what would keep the exporter from starting."""
    foreign, missing = tmp_path / "foreign", tmp_path / "missing" / "events.jsonl"
    foreign.write_text("text")
    assert [(Level.ERROR, f"file:{foreign}: is not a file of events; name another one")] == file_problems(foreign)
    assert [(Level.ERROR, f"file:{tmp_path}: Is a directory")] == file_problems(tmp_path)
    assert [(Level.ERROR, f"file:{missing}: No such file or directory")] == file_problems(missing)


def test_the_check_creates_no_file_of_events(tmp_path: Path) -> None:
    """A file that the exporter would create is no problem, and neither is one that it has created."""
    file, link = tmp_path / "events.jsonl", tmp_path / "link"
    link.symlink_to(file)
    assert [] == file_problems(file)
    assert not file.exists()
    file.touch()
    assert [] == file_problems(file)
    assert [(Level.ERROR, f"file:{link}: is a symbolic link; name a file")] == file_problems(link)
