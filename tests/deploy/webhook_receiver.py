"""Takes messages as Slack does, and prints them, one in a line; runs in a container."""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Receiver(BaseHTTPRequestHandler):
    """Prints what is posted to it."""

    def do_POST(self) -> None:
        """Take a message."""
        message = self.rfile.read(int(self.headers["Content-Length"]))
        sys.stdout.write(f"{message.decode()}\n")
        sys.stdout.flush()
        self.send_response(200)
        self.end_headers()


if __name__ == "__main__":
    HTTPServer(("", 8080), Receiver).serve_forever()
