"""Read from the exporter that runs on this machine."""

from __future__ import annotations

import base64
import http.client
from pathlib import Path

from late_exporter.commands.healthcheck import connect, connect_secure, deadline, loopback_of
from late_exporter.config.settings import CommandContext
from late_exporter.config.types import may_use_tls
from late_exporter.errors import ConfigError, LateError
from late_exporter.log import add_secret
from late_exporter.masking import quote

TIMEOUT = 30.0  # seconds; a response may have several megabytes
OK, UNAUTHORIZED = 200, 401


def fetch(context: CommandContext, path: str, *, accept: str) -> bytes:
    """Return the response of the exporter at the first listen address for a path.

    The certificate of a TLS server is not verified: the address is one of this machine.

    Raises:
        ConfigError: Only one of user and password is given, or the password cannot be read.
        LateError: The exporter does not answer, or answers with an error.
    """
    address = loopback_of(context.settings.web.listen_address[0])
    headers = {"Host": "localhost", "Accept": accept, **_credentials(context)}
    connection = http.client.HTTPConnection("localhost", timeout=TIMEOUT)
    try:
        open_socket = connect_secure if may_use_tls(context.settings.web.config_file) else connect
        connection.sock = open_socket(address, TIMEOUT)
        with deadline(connection.sock, TIMEOUT):
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            body = response.read()
    except (OSError, http.client.HTTPException) as exc:
        reason = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
        hint = "start the exporter, or give its --web.listen-address"
        if isinstance(exc, http.client.BadStatusLine):
            hint = "give its --web.config.file if it uses TLS"
        raise LateError(f"{address} does not answer: {reason}; {hint}") from exc
    finally:
        connection.close()
    if response.status == UNAUTHORIZED:
        hint = "the password is wrong" if context.flags.user else "give --user and --password-file"
        raise LateError(f"{address} requires a password; {hint}")
    if response.status != OK:
        raise LateError(f"{address}{path} answers {response.status}; is it late-exporter?")
    return body


def _credentials(context: CommandContext) -> dict[str, str]:
    user, file = context.flags.user, context.flags.password_file
    if user is None and file is None:
        return {}
    if user is None or file is None:
        raise ConfigError("--user and --password-file: give both or none of them")
    try:
        password = Path(file).read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or "not a text file"
        raise ConfigError(f"--password-file{quote(file)}: {reason}") from None
    add_secret(password)
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
