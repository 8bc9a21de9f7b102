"""Check that the exporter on this machine is running."""

from __future__ import annotations

import socket
import ssl
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException

from late_exporter.config.types import Address, UnixPath
from late_exporter.errors import LateError

# A process that listens on every interface is reached at a loopback address.
LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - requested, not bound
TIMEOUT = 3.0  # seconds; the health checks of container engines wait a little longer
# A server that asks for a password or limits requests is running.
HEALTHY_STATUSES = (HTTPStatus.OK, HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS)


def check_health(address: Address | UnixPath, *, secure: bool = False, timeout: float = TIMEOUT) -> None:
    """Request ``/-/healthy`` from the exporter at an address; raise LateError if it does not answer or is not healthy.

    If it listens on all interfaces, use a loopback address. The certificate of a TLS server is not verified, because
    nothing secret is sent. The timeout is in seconds.
    """
    if isinstance(address, Address):
        address = Address(LOOPBACK.get(address.host, address.host), address.port)
    try:
        status = _status(address, timeout, secure=secure)
    except TimeoutError as exc:
        raise LateError(f"{address} does not answer within {timeout:g} s") from exc
    except OSError as exc:
        raise LateError(f"{address} does not answer: {exc.strerror or exc}") from exc
    except HTTPException as exc:
        raise LateError(f"{address} does not answer in HTTP") from exc
    if status not in HEALTHY_STATUSES:
        raise LateError(f"{address} answers {status}")


def _status(address: Address | UnixPath, timeout: float, *, secure: bool) -> int:
    connection = _HealthConnection(address, timeout, secure=secure)
    try:
        connection.request("GET", "/-/healthy")
        return connection.getresponse().status
    except OSError as exc:
        reason = getattr(exc, "reason", None) or ""
        if reason == "WRONG_VERSION_NUMBER":
            return _status(address, timeout, secure=False)
        if "ALERT" in reason or (connection.tls_established and not isinstance(exc, TimeoutError)):
            return HTTPStatus.UNAUTHORIZED  # the server requires a client certificate
        raise
    finally:
        connection.close()


class _HealthConnection(HTTPConnection):
    """HTTP connection to a TCP address or a Unix socket, with or without TLS."""

    def __init__(self, address: Address | UnixPath, timeout: float, *, secure: bool) -> None:
        super().__init__("localhost", timeout=timeout)
        self._address = address
        self._secure = secure
        self.tls_established = False

    def connect(self) -> None:
        if isinstance(self._address, UnixPath):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(self.timeout)
            self.sock.connect(str(self._address.path))
        else:
            self.sock = socket.create_connection((self._address.host, self._address.port), self.timeout)
        if self._secure:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.sock = context.wrap_socket(self.sock)
            self.tls_established = True
