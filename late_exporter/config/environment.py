"""Common environment variables that the HTTP client of the API reads: proxies and certificates."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

from late_exporter.errors import ConfigError

PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy")
PROXY_RULE = (
    "must be the URL of an HTTP proxy, as in http://proxy.example:3128; other kinds are not "
    "supported"
)


def check_proxies(environ: Mapping[str, str] = os.environ) -> None:
    """Raise ConfigError if a variable of a proxy is not usable.

    Its value may contain a password and is not shown.
    """
    problems = []
    for name, value in environ.items():
        if name.lower() in PROXY_VARIABLES and value and not _is_proxy(value):
            problems.append(f"{name}: {PROXY_RULE}")
    if problems:
        raise ConfigError(*problems)


def certificate_context(environ: Mapping[str, str] = os.environ) -> ssl.SSLContext | bool:
    """Return the TLS context of SSL_CERT_FILE or SSL_CERT_DIR, or True to use the default.

    Raises:
        ConfigError: They lead to no certificates.
    """
    file = environ.get("SSL_CERT_FILE")
    if file:
        try:
            return ssl.create_default_context(cafile=file)
        except ssl.SSLError:
            raise ConfigError(f"SSL_CERT_FILE: {file}: contains no readable certificate") from None
        except OSError as exc:
            raise ConfigError(f"SSL_CERT_FILE: {file}: {exc.strerror}") from None
    folder = environ.get("SSL_CERT_DIR")
    if not folder:
        return True
    # It is no error if one of several folders may not be read.
    if not any(map(os.path.isdir, folder.split(os.pathsep))):
        raise ConfigError(f"SSL_CERT_DIR: {folder}: there is no such folder")
    return ssl.create_default_context(capath=folder)


def _is_proxy(value: str) -> bool:
    try:
        url = urlsplit(value if "://" in value else f"http://{value}")
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        return False
