"""Receivers of Alertmanager: a webhook, Slack and a mail server that record their messages."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseServer, StreamRequestHandler, ThreadingTCPServer
from typing import Any, Self, TypeAlias

Labels: TypeAlias = tuple[tuple[str, str], ...]


class WebhookHandler(BaseHTTPRequestHandler):
    """Records each posted document."""

    server: WebhookServer

    def do_POST(self) -> None:
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.owner.record(self.path.strip("/"), document)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")  # the response of Slack

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the inherited name
        pass


class WebhookServer(ThreadingHTTPServer):
    """Server of webhooks and services."""

    daemon_threads = True
    owner: AlertReceivers


class MailHandler(StreamRequestHandler):
    """Minimal SMTP server that accepts messages."""

    server: MailServer

    def handle(self) -> None:
        self._reply("220 at your service")
        for line in self.rfile:
            verb = line.split()[0].upper()
            if verb == b"DATA":
                self._reply("354 go ahead")
                self.server.owner.mails.append(message_from_bytes(b"".join(iter(self.rfile.readline, b".\r\n"))))
            self._reply(
                {b"QUIT": "221 bye", b"EHLO": "250-hello\r\n250 AUTH PLAIN", b"AUTH": "235 welcome"}.get(verb, "250 ok")
            )
            if verb == b"QUIT":
                return

    def _reply(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


class MailServer(ThreadingTCPServer):
    """Server of mails."""

    daemon_threads = True
    owner: AlertReceivers


class AlertReceivers:
    """Servers on the loopback interface: services such as Slack, webhooks, and a mail server.

    Services are at ``/services/NAME``; all other paths are webhooks, whose names may be those of services.
    """

    def __init__(self) -> None:
        self.service_messages: dict[str, list[Mapping[str, Any]]] = {"slack": []}
        self.groups: list[Mapping[str, Any]] = []
        self.mails: list[Message] = []
        self._web = WebhookServer(("127.0.0.1", 0), WebhookHandler)
        self._mail = MailServer(("127.0.0.1", 0), MailHandler)
        self._web.owner = self._mail.owner = self
        servers: tuple[BaseServer, ...] = (self._web, self._mail)
        self._servers = servers
        self._threads = [threading.Thread(target=server.serve_forever, args=(0.02,)) for server in servers]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for server, thread in zip(self._servers, self._threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()

    @property
    def url(self) -> str:
        """Return the base URL of the webhooks."""
        return f"http://127.0.0.1:{self._web.server_address[1]}"

    @property
    def smarthost(self) -> str:
        """Return the address of the mail server."""
        return f"127.0.0.1:{self._mail.server_address[1]}"

    def record(self, path: str, document: Mapping[str, Any]) -> None:
        """Record a posted document."""
        if path.startswith("services/"):
            self.service_messages.setdefault(path.split("/")[1], []).append(document)
        else:
            self.groups.append(document)

    @property
    def slack_messages(self) -> list[Mapping[str, Any]]:
        """Return the messages to Slack."""
        return self.service_messages["slack"]

    @property
    def mail_texts(self) -> list[str]:
        """Return the texts of all mails."""
        return [_plain_text(mail) for mail in self.mails]

    def firing_by_group(self) -> Mapping[tuple[str, Labels], set[Labels]]:
        """Return what the last webhook of each receiver and group says is firing."""
        return {
            (document["receiver"], pairs(document["groupLabels"])): {
                pairs(alert["labels"]) for alert in document["alerts"] if alert["status"] == "firing"
            }
            for document in tuple(self.groups)
        }


def _plain_text(mail: Message) -> str:
    (part,) = (part for part in mail.walk() if part.get_content_type() == "text/plain")
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    return content.decode().replace("\r\n", "\n")


def pairs(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted(labels.items()))
