"""Check that the exporter on this machine is running.

This runs every few seconds, so it imports only what it needs: http.client alone would take longer than the check.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from late_exporter.config.types import Address, UnixPath
from late_exporter.errors import LateError

# A process that listens on every interface is reached at a loopback address.
LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - requested, not bound
TIMEOUT = 3.0  # seconds; the health checks of container engines wait a little longer
REQUEST = b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
MAX_LINE = 1000
MAX_BODY = 10_000  # bytes, with the headers
HEALTHY_TEXT = "late-exporter is healthy"  # the response of the exporter
OK, UNAUTHORIZED, TOO_MANY_REQUESTS = 200, 401, 429
# A server that asks for a password or limits requests is running.
HEALTHY_STATUSES = (OK, UNAUTHORIZED, TOO_MANY_REQUESTS)


def check_health(
    address: Address | UnixPath,
    *,
    secure: bool = False,
    timeout: float = TIMEOUT,
    statuses: tuple[int, ...] = HEALTHY_STATUSES,
) -> None:
    """Request ``/-/healthy`` from the exporter at an address; raise LateError if it does not answer or is not healthy.

    If it listens on all interfaces, use a loopback address. The certificate of a TLS server is not verified, because
    nothing secret is sent. The timeout is in seconds. ``statuses`` are those of a healthy exporter.
    """
    address = loopback_of(address)
    try:
        status = _secure_status(address, timeout) if secure else _status(address, connect(address, timeout), timeout)
    except TimeoutError as exc:
        raise LateError(f"{address} does not answer within {timeout:g} s") from exc
    except OSError as exc:
        raise LateError(f"{address} does not answer: {exc.strerror or exc}") from exc
    except ValueError as exc:
        raise LateError(f"{address} does not answer in HTTP") from exc
    if status not in statuses:
        raise LateError(f"{address} answers {status}")


def loopback_of(address: Address | UnixPath) -> Address | UnixPath:
    """Return a loopback address for one that stands for all interfaces."""
    if isinstance(address, Address):
        return Address(LOOPBACK.get(address.host, address.host), address.port)
    return address


def _secure_status(address: Address | UnixPath, timeout: float) -> int:
    """Return the status over TLS, or over plain HTTP if the server does not use TLS."""
    import ssl  # noqa: PLC0415 - takes long to import

    try:
        connection = connect_secure(address, timeout)
    except ssl.SSLError as exc:
        if "ALERT" in (exc.reason or ""):
            return UNAUTHORIZED  # as below
        raise
    try:
        return _status(address, connection, timeout)
    except TimeoutError:
        raise
    except OSError:
        if not isinstance(connection, ssl.SSLSocket):
            raise
        return UNAUTHORIZED  # the server requires a client certificate


def connect_secure(address: Address | UnixPath, timeout: float) -> socket.socket:
    """Return a connection with TLS, or without if the server does not use it; raise OSError.

    The certificate is not verified: the address is one of this machine.
    """
    import ssl  # noqa: PLC0415 - as above

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = connect(address, timeout)
    try:
        return context.wrap_socket(connection)
    except ssl.SSLError as exc:
        connection.close()
        if exc.reason == "WRONG_VERSION_NUMBER":
            return connect(address, timeout)
        raise


def connect(address: Address | UnixPath, timeout: float) -> socket.socket:
    """Return a connection to an address; raise OSError."""
    if isinstance(address, Address):
        # Text would load the codec of international names.
        return socket.create_connection((address.host.encode(), address.port), timeout)  # type: ignore[arg-type]
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(timeout)
        connection.connect(str(address.path))
    except OSError:
        connection.close()
        raise
    return connection


@contextmanager
def deadline(connection: socket.socket, seconds: float) -> Iterator[None]:
    """Raise TimeoutError if an exchange takes longer: the timeout of a socket begins again with each byte."""
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        with suppress(OSError):  # closed already
            socket.socket.shutdown(connection, socket.SHUT_RDWR)  # that of SSLSocket is not for another thread

    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if expired.is_set():
            raise TimeoutError(f"no complete response within {seconds:g} s")


def _status(address: Address | UnixPath, connection: socket.socket, timeout: float) -> int:
    """Send the request and return the status of the response.

    Raises:
        ValueError: The response is not HTTP.
        LateError: The response is that of another program.
    """
    with connection, deadline(connection, timeout):
        connection.sendall(REQUEST)
        with connection.makefile("rb") as response:
            line = response.readline(MAX_LINE)
            if not line:
                raise ConnectionResetError("Remote end closed connection without response")
            version, _, rest = line.partition(b" ")
            if not version.startswith(b"HTTP/"):
                raise ValueError("no status line")
            status = int(rest[:3])
            if status == OK and HEALTHY_TEXT.encode() not in response.read(MAX_BODY):
                raise LateError(f"{address} is not late-exporter; give the address with --web.listen-address")
            return status
