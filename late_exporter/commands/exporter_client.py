"""Read from the exporter that runs on this machine; its certificate is not verified."""

from __future__ import annotations

import io
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Mapping
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING, Any

from late_exporter.config.types import Address, read_file
from late_exporter.errors import ConfigError, LateError

if TYPE_CHECKING:
    from late_exporter.config.settings import CommandContext

# A process that listens on every interface is reached at a loopback address.
LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - requested, not bound
HEALTH_TIMEOUT = 3.0  # seconds; the health checks of container engines wait a little longer
HEALTHY_TEXT = "late-exporter is healthy"  # the response of the exporter
OK = 200
UNAUTHORIZED = 401
TOO_MANY_REQUESTS = 429
TIMEOUT = 30.0  # seconds, of any other page
MAX_RESPONSE = 200_000_000  # bytes
PART = 1 << 16  # bytes


def check_health(
    address: Address, *, secure: bool = False, timeout: float = HEALTH_TIMEOUT
) -> None:
    """Request ``/-/healthy``; raise LateError if the exporter does not answer or is not healthy.

    The timeout is in seconds. A server that asks for a password or limits requests is running.
    """
    status, body = _request(address, "/-/healthy", {}, secure=secure, timeout=timeout)
    if status not in (OK, UNAUTHORIZED, TOO_MANY_REQUESTS):
        raise LateError(f"{address} answers {status}")
    if status == OK and HEALTHY_TEXT.encode() not in body:
        raise LateError(
            f"{address} is not late-exporter; give the address with --web.listen-address"
        )


def may_use_tls(web_config_file: str | None) -> bool:
    """Return whether a server with this file of its web configuration may use TLS.

    A server without TLS logs an attempt to use it, which a health check would repeat every few
    seconds.
    """
    if not web_config_file:
        return False
    try:
        return b"tls_server_config" in read_file(web_config_file)
    except ValueError:
        return True


def fetch(context: CommandContext, path: str, *, accept: str) -> bytes:
    """Return the response of the exporter at the first listen address for a path.

    Raises:
        ConfigError: Only one of user and password is given.
        LateError: The exporter does not answer, or answers with an error.
    """
    web = context.settings.web
    user = context.flags.user
    password_file = context.flags.password_file
    headers = {"Accept": accept}
    if (user is None) != (password_file is None):
        raise ConfigError("--user and --password-file: give both or none of them")
    if password_file is not None:
        credentials = f"{user}:{password_file.key.get_secret_value()}"
        headers["Authorization"] = f"Basic {b64encode(credentials.encode()).decode()}"

    address = web.listen_address[0]
    secure = may_use_tls(web.config_file)
    try:
        status, body = _request(address, path, headers, secure=secure, timeout=TIMEOUT)
    except LateError as exc:
        hint = (
            "start the exporter, or give its --web.listen-address, "
            "and its --web.config.file if it uses TLS"
        )
        raise LateError(f"{exc}; {hint}") from exc
    if status == UNAUTHORIZED:
        hint = "the password is wrong" if user else "give --user and --password-file"
        raise LateError(f"{address} requires a password; {hint}")
    if status != OK:
        raise LateError(f"{address}{path} answers {status}; is it late-exporter?")
    return body


def _seconds_until(end: float) -> float:
    """Return the seconds until a time of the monotonic clock; raise TimeoutError if it is over."""
    seconds = end - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("timed out")
    return seconds


class _Reader(io.RawIOBase):
    """Reads from a socket until a time of the monotonic clock, however slowly the peer sends."""

    def __init__(self, stream: socket.socket, end: float) -> None:
        self._stream = stream
        self._end = end

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return a buffered reader; this is all that HTTPResponse asks of a socket."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._stream.settimeout(_seconds_until(self._end))
        return self._stream.recv_into(buffer)


def _request(
    address: Address,
    path: str,
    headers: Mapping[str, str],
    *,
    secure: bool,
    timeout: float,
) -> tuple[int, bytes]:
    """Return status and body of a response, cut at MAX_RESPONSE.

    A status of UNAUTHORIZED may also mean that the server requires a client certificate.

    Raises:
        LateError: There is no response, or the exchange takes longer than the timeout in seconds.
    """
    end = time.monotonic() + timeout
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    stream: socket.socket | None = None
    try:
        stream = _connect(address, end, secure=secure)
        stream.sendall("\r\n".join([*lines, "", ""]).encode())
        reader: Any = _Reader(stream, end)
        response = HTTPResponse(reader)
        response.begin()
        body = bytearray()
        while len(body) < MAX_RESPONSE and (part := response.read1(PART)):
            body += part
    except OSError as exc:
        # Before 3.11.12, Python reports a reset connection as an SSLError of the library SYS
        # (python/cpython#127257).
        is_reset = isinstance(exc, ConnectionError) or (
            isinstance(exc, ssl.SSLError) and exc.library == "SYS"
        )
        if isinstance(stream, ssl.SSLSocket) and (is_reset or "ALERT" in str(exc)):
            return UNAUTHORIZED, b""
        raise LateError(f"{address} does not answer: {exc.strerror or exc}") from exc
    except HTTPException as exc:
        raise LateError(f"{address} does not answer in HTTP") from exc
    finally:
        if stream is not None:
            stream.close()
    return response.status, bytes(body)


def _connect(address: Address, end: float, *, secure: bool) -> socket.socket:
    """Return a connection, with TLS if the server uses it, or raise TimeoutError at the end."""
    host = LOOPBACK.get(address.host, address.host)
    connection = socket.create_connection((host, address.port), _seconds_until(end))
    # Sending and the whole of a handshake end by this timeout.
    connection.settimeout(_seconds_until(end))
    if not secure:
        return connection

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        return context.wrap_socket(connection)
    except ssl.SSLError as exc:
        if exc.reason != "WRONG_VERSION_NUMBER":
            raise
        return _connect(address, end, secure=False)
