"""Socket server with a fixed response, the lower bound of a scrape on this machine.

Run by ``python -m tests.bench.bare PORT BYTES``.
"""

from __future__ import annotations

import asyncio
import sys


class FixedResponse(asyncio.Protocol):
    """Sends the same response to everything it receives."""

    def __init__(self, size: int) -> None:
        head = f"HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n"
        self._response = head.encode() + bytes(size)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        self._transport = transport if isinstance(transport, asyncio.Transport) else None

    def data_received(self, _: bytes) -> None:
        """Send the response."""
        if self._transport is not None:
            self._transport.write(self._response)


async def main(port: int, size: int) -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(lambda: FixedResponse(size), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
