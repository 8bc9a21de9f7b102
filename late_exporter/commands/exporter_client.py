"""Read from the exporter that runs on this machine; its certificate is not verified."""

from __future__ import annotations

import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING

from late_exporter.config.types import Address, UnixPath, read_file
from late_exporter.errors import ConfigError, LateError

if TYPE_CHECKING:
    from late_exporter.config.settings import CommandContext

# A process that listens on every interface is reached at a loopback address.
LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - requested, not bound
HEALTH_TIMEOUT = 3.0  # seconds; the health checks of container engines wait a little longer
HEALTHY_TEXT = "late-exporter is healthy"  # the response of the exporter
OK, UNAUTHORIZED, TOO_MANY_REQUESTS = 200, 401, 429
TIMEOUT = 30.0  # seconds, of any other page
MAX_RESPONSE = 200_000_000  # bytes


def check_health(
    address: Address | UnixPath, *, secure: bool = False, timeout: float = HEALTH_TIMEOUT
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
    web, headers = context.settings.web, {"Accept": accept}
    user, file = context.flags.user, context.flags.password_file
    if (user is None) != (file is None):
        raise ConfigError("--user and --password-file: give both or none of them")
    if file is not None:
        credentials = f"{user}:{file.key.get_secret_value()}"
        headers["Authorization"] = f"Basic {b64encode(credentials.encode()).decode()}"
    address, secure = web.listen_address[0], may_use_tls(web.config_file)
    try:
        status, body = _request(address, path, headers, secure=secure, timeout=TIMEOUT)
    except LateError as exc:
        hint = "start the exporter, or give its --web.listen-address, and its --web.config.file if it uses TLS"
        raise LateError(f"{exc}; {hint}") from exc
    if status == UNAUTHORIZED:
        hint = "the password is wrong" if user else "give --user and --password-file"
        raise LateError(f"{address} requires a password; {hint}")
    if status != OK:
        raise LateError(f"{address}{path} answers {status}; is it late-exporter?")
    return body


def _request(
    address: Address | UnixPath,
    path: str,
    headers: Mapping[str, str],
    *,
    secure: bool,
    timeout: float,
) -> tuple[int, bytes]:
    """Return status and body of a response, cut at MAX_RESPONSE.

    Raises:
        LateError: A connection, a read, or the whole body takes longer than the timeout in seconds.

    A status of UNAUTHORIZED may also mean that the server requires a client certificate.
    """
    end, body, connection, stream = (
        time.monotonic() + timeout,
        bytearray(),
        HTTPConnection("localhost"),
        None,
    )
    try:
        stream = connection.sock = _connect(address, timeout, secure=secure)
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        while len(body) < MAX_RESPONSE and (piece := response.read1(1 << 16)):
            body += piece
            if time.monotonic() > end:
                raise TimeoutError("timed out")
    except OSError as exc:
        # Before 3.11.12, Python reports a reset connection as an SSLError of the library SYS
        # (python/cpython#127257).
        is_refused = isinstance(exc, ConnectionError) or (
            isinstance(exc, ssl.SSLError) and exc.library == "SYS"
        )
        if isinstance(stream, ssl.SSLSocket) and (is_refused or "ALERT" in str(exc)):
            return UNAUTHORIZED, b""
        raise LateError(f"{address} does not answer: {exc.strerror or exc}") from exc
    except HTTPException as exc:
        raise LateError(f"{address} does not answer in HTTP") from exc
    finally:
        connection.close()
    return response.status, bytes(body)


def _connect(address: Address | UnixPath, timeout: float, *, secure: bool) -> socket.socket:
    """Return a connection, with TLS if the server uses it."""
    if isinstance(address, Address):
        connection = socket.create_connection(
            (LOOPBACK.get(address.host, address.host), address.port), timeout
        )
    else:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout)
        connection.connect(str(address.path))
    if not secure:
        return connection
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        return context.wrap_socket(connection)
    except ssl.SSLError as exc:
        if exc.reason != "WRONG_VERSION_NUMBER":
            raise
        return _connect(address, timeout, secure=False)
