"""Late API that costs little, for many workspaces at once: python -m tests.bench.lean PORT ROWS...

``/ROWS/api`` serves fixed lists of that many publishing logs and a tenth as many connection events. A response is
computed once by the simulator and then sent from memory, so that the API leaves the processor to what is measured.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Mapping
from email.utils import formatdate

from late_exporter.simulator import LogList, SimulatedApi, StaticLogs
from tests.bench.late import DAYS, make_row
from tests.bench.naming import KEY, log_id

ACCOUNTS = 6
"""Accounts of a workspace, from which follow about 600 samples."""

RATE_LIMIT = 1_000_000_000
HEAD_END = b"\r\n\r\n"


class LeanApi:
    """Responses of the API, each computed once.

    Args:
        sizes: Sizes of the lists.
    """

    def __init__(self, *sizes: int) -> None:
        now = time.time() - 60
        rows = [make_row(n, now - (max(sizes) - n) * DAYS * 86400 / max(sizes), ACCOUNTS) for n in range(max(sizes))]
        events = [_make_event(row, number) for number, row in enumerate(rows[::10])]
        self._simulators = {
            str(size): SimulatedApi(
                StaticLogs(LogList(rows[len(rows) - size :]), LogList(events[len(events) - size // 10 :])),
                clock=time.time,
                rate_limit=RATE_LIMIT,
            )
            for size in sizes
        }
        self._responses: dict[str, tuple[bytes, bytes]] = {}

    def respond(self, target: str) -> bytes:
        """Return the response to a GET request for a path with a query."""
        if target not in self._responses:
            self._responses[target] = self._compute(target)
        head, body = self._responses[target]
        return b"%bdate: %b\r\n\r\n%b" % (head, formatdate(usegmt=True).encode(), body)

    def _compute(self, target: str) -> tuple[bytes, bytes]:
        path, _, query = target.partition("?")
        _, size, path = path.split("/", 2)
        response = self._simulators[size].handle("GET", f"/{path}", query, {"authorization": f"Bearer {KEY}"})
        return _head(response.status, response.headers, len(response.body)), response.body


def _head(status: int, headers: Mapping[str, str], length: int) -> bytes:
    lines = [f"HTTP/1.1 {status} OK", f"content-length: {length}"]
    lines += [f"{name}: {value}" for name, value in headers.items() if name.lower() not in ("date", "content-length")]
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")


def _make_event(row: Mapping[str, object], number: int) -> dict[str, object]:
    return {
        "_id": log_id(time.time(), number),
        "userId": row["userId"],
        "profileId": row["profileId"],
        "platform": row["platform"],
        "eventType": "connect_success",
        "connectionMethod": "oauth",
        "status": "success",
        "createdAt": row["createdAt"],
        "durationMs": row["durationMs"],
    }


class _Connection(asyncio.Protocol):
    """Connection of a client, which sends GET requests without bodies."""

    def __init__(self, api: LeanApi) -> None:
        self._api = api
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while HEAD_END in self._received and self._transport is not None:
            head, _, self._received = self._received.partition(HEAD_END)
            self._transport.write(self._api.respond(head.split(b" ", 2)[1].decode("latin-1")))


async def main(port: int, *sizes: int) -> None:
    """Serve until killed."""
    api = LeanApi(*sizes)
    gc.freeze()
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(api), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
