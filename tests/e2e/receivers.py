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


class AlertReceivers:
    """A server on the loopback interface: services such as Slack, and webhooks.

    Services are at ``/services/NAME``; all other paths are webhooks, whose names may be those of services.
    """

    def __init__(self) -> None:
        self.service_messages: dict[str, list[Mapping[str, Any]]] = {"slack": []}
        self.groups: list[Mapping[str, Any]] = []
        self._server = WebhookServer(("127.0.0.1", 0), WebhookHandler)
        self._server.owner = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Return the base URL of the webhooks."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

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
