"""Receive Slack messages and print one per line; runs in a container."""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Receiver(BaseHTTPRequestHandler):
    """HTTP handler that prints request bodies."""

    def do_POST(self) -> None:
        """Print the body and respond with 200."""
        message = self.rfile.read(int(self.headers["Content-Length"]))
        sys.stdout.write(f"{message.decode()}\n")
        sys.stdout.flush()
        self.send_response(200)
        self.end_headers()


if __name__ == "__main__":
    HTTPServer(("", 8080), Receiver).serve_forever()
