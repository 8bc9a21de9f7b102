"""Those whom Alertmanager tells: a webhook, Slack and a mail server, which keep what they are told."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseServer, StreamRequestHandler, ThreadingTCPServer
from typing import Any, NamedTuple, Self

__all__ = ["AlertReceivers", "Notification"]


class Notification(NamedTuple):
    """An alert as a webhook was told of it; ``receiver`` is the path by which."""

    receiver: str
    status: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]

    @property
    def name(self) -> str:
        """What the alert is called."""
        return self.labels["alertname"]


class WebhookHandler(BaseHTTPRequestHandler):
    server: WebhookServer

    def do_POST(self) -> None:
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.owner.record(self.path.strip("/"), document)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")  # Slack's word for it

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the inherited name
        pass


class WebhookServer(ThreadingHTTPServer):
    daemon_threads = True
    owner: AlertReceivers


class MailHandler(StreamRequestHandler):
    """As much of SMTP as it takes to be handed a message."""

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
    daemon_threads = True
    owner: AlertReceivers


class AlertReceivers:
    """Servers on the loopback interface: a webhook for every path but ``/slack``, Slack there, and a mail server."""

    def __init__(self) -> None:
        self.notifications: list[Notification] = []
        self.slack_messages: list[Mapping[str, Any]] = []
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
        """Where webhooks go."""
        return f"http://127.0.0.1:{self._web.server_address[1]}"

    @property
    def smarthost(self) -> str:
        """Where mail goes."""
        return f"127.0.0.1:{self._mail.server_address[1]}"

    def record(self, path: str, document: Mapping[str, Any]) -> None:
        """Keep what was posted."""
        if path == "slack":
            self.slack_messages.append(document)
            return
        for alert in document["alerts"]:
            self.notifications.append(Notification(path, alert["status"], alert["labels"], alert["annotations"]))

    def slack_attachments(self, title: str) -> list[Mapping[str, Any]]:
        """The messages of that title in Slack."""
        return [part for message in self.slack_messages for part in message["attachments"] if part["title"] == title]

    def mails_to(self, address: str, subject: str) -> list[str]:
        """The texts of the messages of that subject to somebody."""
        return [_plain_text(mail) for mail in self.mails if (mail["To"], mail["Subject"]) == (address, subject)]

    @property
    def mail_texts(self) -> list[str]:
        """The texts of all messages."""
        return [_plain_text(mail) for mail in self.mails]

    def find_notifications(self, name: str, status: str, **labels: str) -> list[Notification]:
        """What was told of an alert."""
        expected_labels = {"alertname": name, **labels}.items()
        return [
            notification
            for notification in self.notifications
            if notification.status == status and expected_labels <= notification.labels.items()
        ]


def _plain_text(mail: Message) -> str:
    (part,) = (part for part in mail.walk() if part.get_content_type() == "text/plain")
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    return content.decode().replace("\r\n", "\n")
