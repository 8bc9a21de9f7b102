"""Read from the exporter that runs on this machine.

The health check runs every few seconds, so it imports only what it needs: http.client would take longer than the check.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from late_exporter.config.types import Address, UnixPath, may_use_tls
from late_exporter.errors import ConfigError, LateError
from late_exporter.masking import quote

if TYPE_CHECKING:
    from late_exporter.config.settings import CommandContext

# A process that listens on every interface is reached at a loopback address.
LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - requested, not bound
HEALTH_TIMEOUT = 3.0  # seconds; the health checks of container engines wait a little longer
MAX_HEALTH_RESPONSE = 10_000  # bytes
HEALTHY_TEXT = "late-exporter is healthy"  # the response of the exporter
OK, UNAUTHORIZED, TOO_MANY_REQUESTS = 200, 401, 429
TIMEOUT, MAX_RESPONSE = 30.0, 200_000_000  # seconds and bytes of any other page


def check_health(address: Address | UnixPath, *, secure: bool = False, timeout: float = HEALTH_TIMEOUT) -> None:
    """Request ``/-/healthy``; raise LateError if the exporter does not answer or is not healthy.

    The timeout is in seconds. A server that asks for a password or limits requests is running.
    """
    status, body = _request(address, "/-/healthy", secure=secure, timeout=timeout, max_size=MAX_HEALTH_RESPONSE)
    if status not in (OK, UNAUTHORIZED, TOO_MANY_REQUESTS):
        raise LateError(f"{address} answers {status}")
    if status == OK and HEALTHY_TEXT.encode() not in body:
        raise LateError(f"{address} is not late-exporter; give the address with --web.listen-address")


def fetch(context: CommandContext, path: str, *, accept: str) -> bytes:
    """Return the response of the exporter at the first listen address for a path.

    Raises:
        ConfigError: Only one of user and password is given, or the password cannot be read.
        LateError: The exporter does not answer, or answers with an error.
    """
    web, headers = context.settings.web, f"Accept: {accept}\r\n{_credentials(context)}"
    address, secure = web.listen_address[0], may_use_tls(web.config_file)
    try:
        status, body = _request(address, path, headers, secure=secure, timeout=TIMEOUT, max_size=MAX_RESPONSE)
    except LateError as exc:
        hint = "start the exporter, or give its --web.listen-address, and its --web.config.file if it uses TLS"
        raise LateError(f"{exc}; {hint}") from exc
    if status == UNAUTHORIZED:
        hint = "the password is wrong" if context.flags.user else "give --user and --password-file"
        raise LateError(f"{address} requires a password; {hint}")
    if status != OK:
        raise LateError(f"{address}{path} answers {status}; is it late-exporter?")
    return body


def _credentials(context: CommandContext) -> str:
    """Return the header with user and password; empty if they are not given."""
    from base64 import b64encode  # noqa: PLC0415 - not needed by the health check
    from pathlib import Path  # noqa: PLC0415 - as above

    from late_exporter.log import add_secret  # noqa: PLC0415 - as above

    user, file = context.flags.user, context.flags.password_file
    if (user is None) != (file is None):
        raise ConfigError("--user and --password-file: give both or none of them")
    if user is None or file is None:
        return ""
    try:
        password = Path(file).read_text("utf-8").rstrip("\r\n")
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or "not a text file"
        raise ConfigError(f"--password-file{quote(file)}: {reason}") from None
    add_secret(password)
    return f"Authorization: Basic {b64encode(f'{user}:{password}'.encode()).decode()}\r\n"


def _request(
    address: Address | UnixPath, path: str, headers: str = "", *, secure: bool, timeout: float, max_size: int
) -> tuple[int, bytes]:
    """Return status and body of a response, cut at a number of bytes; raise LateError if there is none in time.

    A status of UNAUTHORIZED may also mean that the server requires a client certificate.
    """
    text = f"GET {path} HTTP/1.0\r\nHost: localhost\r\n{headers}\r\n"  # 1.0: the body comes in one piece
    try:
        connection = _connect(address, timeout, secure=secure)
        try:
            response = _exchange(connection, text.encode(), timeout, max_size)
        except ConnectionError:
            if type(connection) is socket.socket:
                raise
            return UNAUTHORIZED, b""
    except TimeoutError as exc:
        raise LateError(f"{address} does not answer within {timeout:g} s") from exc
    except OSError as exc:
        if secure and "ALERT" in str(exc):
            return UNAUTHORIZED, b""
        raise LateError(f"{address} does not answer: {exc.strerror or exc}") from exc
    head, _, body = response.partition(b"\r\n\r\n")
    version, _, rest = head.partition(b" ")
    if not version.startswith(b"HTTP/"):
        raise LateError(f"{address} does not answer in HTTP")
    return int(rest[:3]), body


def _exchange(connection: socket.socket, request: bytes, timeout: float, max_size: int) -> bytes:
    """Return the response; raise TimeoutError if all of it takes longer than the timeout in seconds."""
    end, response = time.monotonic() + timeout, bytearray()
    with connection:
        connection.sendall(request)
        while len(response) < max_size and (piece := connection.recv(1 << 16)):
            response += piece
            connection.settimeout(max(end - time.monotonic(), 0.001))
    if not response:
        raise ConnectionResetError("closed without a response")
    return bytes(response)


def _connect(address: Address | UnixPath, timeout: float, *, secure: bool) -> socket.socket:
    """Return a connection, with TLS if the server uses it; a certificate of this machine is not verified."""
    if isinstance(address, Address):
        # Text would load the codec of international names.
        host = LOOPBACK.get(address.host, address.host).encode()
        connection = socket.create_connection((host, address.port), timeout)  # type: ignore[arg-type]
    else:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout)
        connection.connect(str(address.path))
    if not secure:
        return connection
    import ssl  # noqa: PLC0415 - takes long to import

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        return context.wrap_socket(connection)
    except ssl.SSLError as exc:
        if exc.reason != "WRONG_VERSION_NUMBER":
            raise
        return _connect(address, timeout, secure=False)
