"""Read from the exporter that runs on this machine; its certificate is not verified."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING

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
TIMEOUT = 30.0  # seconds, of any other page
MAX_RESPONSE = 200_000_000  # bytes


def check_health(
    address: Address, *, secure: bool = False, timeout: float = HEALTH_TIMEOUT
) -> None:
    """Request ``/-/healthy``; raise LateError if the exporter does not answer or is not healthy.

    The timeout is in seconds. A server that asks for a password is running.
    """
    status, body = _request(address, "/-/healthy", {}, secure=secure, timeout=timeout)
    if status not in (OK, UNAUTHORIZED):
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
        LateError: There is no response, or it takes longer than the timeout in seconds.
    """
    host = LOOPBACK.get(address.host, address.host)
    connection = HTTPConnection(host, address.port, timeout=timeout)
    if secure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = HTTPSConnection(host, address.port, timeout=timeout, context=context)
    # The timeout of a connection begins anew with each byte that the peer sends.
    end = time.monotonic() + timeout
    timer = threading.Timer(timeout, _shut_down, (connection,))
    timer.start()
    is_connected = False
    try:
        connection.connect()
        is_connected = True
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        body = response.read(MAX_RESPONSE)
        if time.monotonic() < end:
            return response.status, body
        reason = ": timed out"
    except (OSError, HTTPException) as exc:
        reason = " in HTTP"
        if time.monotonic() >= end:
            reason = ": timed out"
        elif isinstance(exc, OSError):
            # A server that requires a certificate of the client ends the connection.
            if secure and is_connected:
                return UNAUTHORIZED, b""
            reason = f": {exc.strerror or exc}"
    finally:
        timer.cancel()
        connection.close()
    raise LateError(f"{address} does not answer{reason}")


def _shut_down(connection: HTTPConnection) -> None:
    """Wake up whoever reads from a connection, which has no socket until the peer accepts it."""
    with suppress(OSError, AttributeError):
        connection.sock.shutdown(socket.SHUT_RDWR)
