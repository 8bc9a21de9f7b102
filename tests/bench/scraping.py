"""Scraper with little overhead: one socket, kept alive if the server allows it."""

from __future__ import annotations

import gc
import gzip
import re
import socket
import time
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["LOGS_FAMILY", "POLLS_FAMILY", "REQUESTS_FAMILY", "Latencies", "Scraper", "count_samples", "sum_family"]

ACCEPT = (
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
"""Accept header of Prometheus 2.53."""

_REQUEST = (
    "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Prometheus/2.53.0\r\n"
    f"Accept: {ACCEPT}\r\nAccept-Encoding: gzip\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\n\r\n"
).encode()

LOGS_FAMILY = "late_publishing_logs_total"
POLLS_FAMILY = "late_exporter_polls_total"
REQUESTS_FAMILY = "late_exporter_api_requests_total"


class Latencies(NamedTuple):
    """Latencies of scrapes, in milliseconds."""

    p50: float
    p99: float
    scrapes: int
    size: int

    @classmethod
    def of(cls, seconds: list[float], size: int) -> Latencies:
        """Return the percentiles of scrapes. Of fewer than a hundred, the slowest one is p99."""
        ordered = sorted(seconds)
        return cls(
            p50=ordered[len(ordered) // 2] * 1000,
            p99=ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] * 1000,
            scrapes=len(ordered),
            size=size,
        )


class Scraper:
    """Scraper of one process."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self._buffer = bytearray(1 << 16)

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def scrape(self) -> bytes:
        """Scrape once, and return the compressed body."""
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), 120)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(_REQUEST)
        response = bytearray()
        while (end := response.find(b"\r\n\r\n")) < 0:
            self._receive(response)
        head = bytes(response[:end]).lower()
        if b" 200 " not in head.split(b"\r\n", 1)[0]:
            raise RuntimeError(f"unexpected response {head!r}")
        _, separator, rest = head.partition(b"content-length:")
        size = end + 4 + int(rest.split(b"\r\n", 1)[0]) if separator else None
        while size is None or len(response) < size:
            if not self._receive(response, at_end=size is None):
                break
        if head.startswith(b"http/1.0") or b"connection: close" in head or size is None:
            self.close()
        return bytes(memoryview(response)[end + 4 :])

    def _receive(self, response: bytearray, *, at_end: bool = False) -> bool:
        byte_count = self._socket.recv_into(self._buffer) if self._socket else 0
        if not byte_count and not at_end:
            raise ConnectionError("the server closed the connection")
        response += memoryview(self._buffer)[:byte_count]
        return byte_count > 0

    def measure(self, scrapes: int, *, pause: float, keep_going: Callable[[], bool] | None = None) -> Latencies:
        """Scrape a number of times with a pause in between, or until ``keep_going`` returns False."""
        seconds: list[float] = []
        size = 0
        gc.collect()
        gc.disable()
        while len(seconds) < scrapes and (keep_going is None or keep_going()):
            started = time.perf_counter()
            size = len(self.scrape())
            seconds.append(time.perf_counter() - started)
            time.sleep(pause)
        gc.enable()
        return Latencies.of(seconds, size)


def sum_family(body: bytes, family: str) -> int:
    """Return the sum of the samples of a family."""
    values = re.findall(rf"^{family}(?:\{{[^}}]*\}})? (\S+)", gzip.decompress(body).decode(), re.MULTILINE)
    return int(sum(float(value) for value in values))


def count_samples(body: bytes) -> int:
    """Return the number of samples."""
    return sum(not line.startswith(b"#") for line in gzip.decompress(body).splitlines())
