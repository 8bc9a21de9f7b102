from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from late_exporter.config.environment import PROXY_RULE, certificate_context, check_proxies
from late_exporter.errors import ConfigError


def test_usable_proxies() -> None:
    """HTTP proxies are accepted in their usual forms, and other variables are ignored."""
    for proxy in ("", "http://proxy.example:3128", "proxy.example:3128", "https://user:pw@[2001:db8::1]:8080/"):
        check_proxies({"HTTPS_PROXY": proxy, "NO_PROXY": "localhost,::1,*", "FTP_PROXY": "socks5://proxy.example"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks5://user:hunter2@proxy.example:1080"),
        ("HTTP_PROXY", "http://"),
        ("https_proxy", "http://user:hunter2@proxy.example:hunter2"),
        ("HTTPS_PROXY", "http://[::1"),
    ],
)
def test_unusable_proxies(name: str, value: str) -> None:
    """An unusable variable is named with what it must be, without its value, which may contain a password."""
    with pytest.raises(ConfigError) as caught:
        check_proxies({name: value})
    assert list(caught.value.problems) == [f"{name}: {PROXY_RULE}"]


def test_certificates(tmp_path: Path) -> None:
    """Certificates are read from the file or the folder of the usual variables."""
    file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(file)
    assert certificate_context({}) is True
    assert certificate_context({"SSL_CERT_FILE": "", "SSL_CERT_DIR": ""}) is True
    context = certificate_context({"SSL_CERT_FILE": str(file), "SSL_CERT_DIR": "/nonexistent"})
    assert isinstance(context, ssl.SSLContext)
    assert len(context.get_ca_certs()) == 1
    for folder in (str(tmp_path), f"/nonexistent:{tmp_path}"):
        assert isinstance(certificate_context({"SSL_CERT_DIR": folder}), ssl.SSLContext)


def test_unusable_certificates(tmp_path: Path) -> None:
    """A file or folder that cannot be used is named with the reason."""
    (tmp_path / "text").write_text("no certificate")
    for name, path, reason in (
        ("SSL_CERT_FILE", "nonexistent", "No such file or directory"),
        ("SSL_CERT_FILE", "text", "contains no readable certificate"),
        ("SSL_CERT_DIR", "nonexistent", "there is no such folder"),
        ("SSL_CERT_DIR", "text", "there is no such folder"),
    ):
        with pytest.raises(ConfigError) as caught:
            certificate_context({name: str(tmp_path / path)})
        assert list(caught.value.problems) == [f"{name}: {tmp_path / path}: {reason}"]
