"""Receivers of Alertmanager: webhooks and Slack, which record their messages."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self, TypeAlias

Labels: TypeAlias = tuple[tuple[str, str], ...]


class WebhookHandler(BaseHTTPRequestHandler):
    """Records each posted document."""

    server: AlertReceivers

    def do_POST(self) -> None:
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.record(self.path.strip("/"), document)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")  # the response of Slack

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the inherited name
        pass


class AlertReceivers(ThreadingHTTPServer):
    """A server on the loopback interface: services such as Slack, and webhooks.

    Services are at ``/services/NAME``; all other paths are webhooks, whose names may be those of services.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), WebhookHandler)
        self.slack_messages: list[Mapping[str, Any]] = []
        self.groups: list[Mapping[str, Any]] = []
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    @property
    def url(self) -> str:
        """Return the base URL of the webhooks."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def record(self, path: str, document: Mapping[str, Any]) -> None:
        """Record a posted document."""
        if path == "services/slack":
            self.slack_messages.append(document)
        elif not path.startswith("services/"):
            self.groups.append(document)

    def firing_by_group(self) -> Mapping[tuple[str, Labels], set[Labels]]:
        """Return what the last webhook of each receiver and group says is firing."""
        return {
            (document["receiver"], pairs(document["groupLabels"])): {
                pairs(alert["labels"]) for alert in document["alerts"] if alert["status"] == "firing"
            }
            for document in tuple(self.groups)
        }


def pairs(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted(labels.items()))
