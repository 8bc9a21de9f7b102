"""A receiver of log events over HTTP: the push API of Loki, and OTLP."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self


class ReceivedEvent(NamedTuple):
    """An event as a receiver stores it.

    Args:
        labels: Labels of its stream, or attributes of its record.
        nanos: Its time in nanoseconds.
    """

    labels: tuple[tuple[str, str], ...]
    nanos: int
    line: str

    @property
    def id(self) -> str:
        """Return the id of the event."""
        identity: str = json.loads(self.line)["id"]
        return identity


class Reply(NamedTuple):
    """What a receiver does with a request.

    Args:
        status: Status of the response; 0 resets the connection.
        is_stored: Whether the events are stored.
    """

    status: int
    is_stored: bool = False
    headers: Mapping[str, str] = {}
    body: bytes = b""


ACCEPT = Reply(204, is_stored=True)


class RequestHandler(BaseHTTPRequestHandler):
    """Reads a request and sends the reply."""

    protocol_version = "HTTP/1.1"
    server: ReceiverServer

    def do_POST(self) -> None:
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        reply = self.server.owner.receive(self.path, dict(self.headers), document)
        if not reply.status:
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
            return
        self.send_response(reply.status)
        for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the inherited name
        pass


class ReceiverServer(ThreadingHTTPServer):
    """Server of a receiver."""

    daemon_threads = True
    owner: EventReceiver


class EventReceiver:
    """A receiver in a thread.

    Args:
        reply: Returns what to do with a request, given its number.

    Attributes:
        events: All events that it has stored, in the order of their arrival.
        requests: Path and headers of all requests.
    """

    def __init__(self, reply: Callable[[int], Reply] = lambda _: ACCEPT) -> None:
        self.events: list[ReceivedEvent] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self._reply = reply
        self._lock = threading.Lock()
        self._server = ReceiverServer(("127.0.0.1", 0), RequestHandler)
        self._server.owner = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Return its URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def ids(self) -> set[str]:
        """Return the ids of the stored events."""
        with self._lock:
            return {event.id for event in self.events}

    @property
    def duplicates(self) -> list[str]:
        """Return the ids of events that are stored twice although Loki does not store equal lines of a time again."""
        with self._lock:
            ids = [event.id for event in set(self.events)]
        return sorted({each for each in ids if ids.count(each) > 1}) if len(ids) != len(set(ids)) else []

    def receive(self, path: str, headers: dict[str, str], document: Any) -> Reply:
        """Store the events of a request, and return the reply."""
        events = [*_loki_events(document), *_otlp_events(document)]
        with self._lock:
            reply = self._reply(len(self.requests))
            self.requests.append((path, headers))
            if reply.is_stored:
                self.events += events
        return reply


def _loki_events(document: Any) -> list[ReceivedEvent]:
    return [
        ReceivedEvent(tuple(sorted(stream["stream"].items())), int(nanos), line)
        for stream in document.get("streams", ())
        for nanos, line in stream["values"]
    ]


def _otlp_events(document: Any) -> list[ReceivedEvent]:
    return [
        ReceivedEvent(
            tuple((each["key"], next(iter(each["value"].values()))) for each in record["attributes"]),
            int(record["timeUnixNano"]),
            record["body"]["stringValue"],
        )
        for resource in document.get("resourceLogs", ())
        for scope in resource["scopeLogs"]
        for record in scope["logRecords"]
    ]
