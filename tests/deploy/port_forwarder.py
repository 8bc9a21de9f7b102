"""Forward a loopback port to the same port of another container: python port_forwarder.py HOST PORT."""

from __future__ import annotations

import asyncio
import sys
from contextlib import closing, suppress


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy what is received in one direction until its end."""
    with closing(writer), suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


async def main(host: str, port: int) -> None:
    """Forward until killed."""

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(OSError):
            target_reader, target_writer = await asyncio.open_connection(host, port)
            await asyncio.gather(copy(reader, target_writer), copy(target_reader, writer))

    server = await asyncio.start_server(forward, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
