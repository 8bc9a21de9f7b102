"""Files of the kinds that the tests of the exporter-toolkit use: each is accepted or refused as there, or is listed."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from late_exporter.config.web_file import load
from late_exporter.errors import ConfigError

CA = trustme.CA()
SERVER = CA.issue_cert("localhost", "127.0.0.1")
CERT, KEY = SERVER.cert_chain_pems[0].bytes().decode(), SERVER.private_key_pem.bytes().decode()
BCRYPT_HASH = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"

TLS = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
IF_GIVEN = f"{TLS}  client_auth_type: VerifyClientCertIfGiven\n"
REQUIRED = f"{TLS}  client_auth_type: RequireAndVerifyClientCert\n"
ANY = "  client_auth_type: RequireAnyClientCert\n"
SUITES = "[TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]"


def block(option: str, pem: str) -> str:
    """Return an option with a text in PEM."""
    return f"  {option}: |\n" + "".join(f"    {line}\n" for line in pem.splitlines())


ACCEPTED = {
    "nothing": "",
    "headers": "http_server_config:\n  headers:\n    X-Frame-Options: deny\n    X-Content-Type-Options: nosniff\n"
    "    X-XSS-Protection: 1\n    Strict-Transport-Security: max-age=1\n"
    '    Content-Security-Policy: "default-src *.example.net"\n',
    "a certificate": TLS,
    "clients may have certificates of system authorities": IF_GIVEN,
    "clients need certificates of system authorities": REQUIRED,
    "clients need certificates of an authority": f"{REQUIRED}  client_ca_file: ca.crt\n",
    "names of clients": f'{REQUIRED}  client_ca_file: ca.crt\n  client_allowed_sans:\n    - "one"\n    - "two"\n',
    "cipher suites": f"{IF_GIVEN}  cipher_suites: {SUITES}\n  min_version: TLS12\n  max_version: TLS12\n",
    "cipher suites in the order of the client": f"{IF_GIVEN}  cipher_suites: {SUITES}\n"
    "  prefer_server_cipher_suites: false\n  min_version: TLS12\n  max_version: TLS12\n",
    "cipher suites of TLS 1.3 too": f"{IF_GIVEN}  cipher_suites: [TLS_AES_128_GCM_SHA256, "
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA]\n",
    "all curves": f"{IF_GIVEN}  curve_preferences: [CurveP256, CurveP384, CurveP521, X25519]\n",
    "one curve": f"{IF_GIVEN}  min_version: TLS13\n  curve_preferences: [CurveP521]\n",
    "no HTTP/2": f"{IF_GIVEN}  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]\n  max_version: TLS12\n"
    "http_server_config:\n  http2: false\n",
    "certificate and key inline": "tls_server_config:\n"
    + block("cert", CERT)
    + block("key", KEY)
    + "  client_auth_type: VerifyClientCertIfGiven\n",
    "no rate limit": "rate_limit:\n  interval: 0\n  burst: 0\n",
    "a rate limit that rejects every request": 'rate_limit:\n  interval: "1s"\n  burst: 0\n',
    "users": f"{TLS}basic_auth_users:\n  alice: {BCRYPT_HASH}\n  bob: {BCRYPT_HASH.replace('$10$', '$14$')}\n",
    "users without TLS": f"basic_auth_users:\n  alice: {BCRYPT_HASH}\n",
    # The toolkit refuses this one, because HTTP/2 needs another suite; here HTTP/2 is not served.
    "cipher suites without that of HTTP/2": f"{IF_GIVEN}  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]\n"
    "  max_version: TLS12\n",
}

REFUSED = {
    "junk": ("hWkNKCp3fvIx3jKnsaBI\nTuEjdwNS8A2vYdFbiKqr\n", "must be a mapping"),
    "an unknown key": ('tls_server_config:\n  cert_filse: "server.crt"\n', "cert_filse: unknown"),
    "no certificate": (TLS.replace("server.crt", '""'), "cert_file: is missing"),
    "no inline certificate": (TLS.replace("cert_file: server.crt", 'cert: ""'), "cert_file: is missing"),
    "no key": (TLS.replace("server.key", '""'), "key_file: is missing"),
    "no inline key": (TLS.replace("key_file: server.key", 'key: ""'), "key_file: is missing"),
    "neither certificate nor key": (
        'tls_server_config:\n  cert_file: ""\n  key_file: ""\n  client_auth_type: "x"\n',
        "client_auth_type",
    ),
    "a certificate that does not exist": (TLS.replace("server.crt", "somefile"), "No such file or directory"),
    "a key that does not exist": (TLS.replace("server.key", "somefile"), "No such file or directory"),
    "certificate and key that do not exist": (TLS.replace("server.", "some."), "No such file or directory"),
    "an authority without a policy": (f"{TLS}  client_ca_file: ca.crt\n", "client_auth_type: must be set"),
    "an authority that does not exist": (f"{REQUIRED}  client_ca_file: somefile\n", "No such file or directory"),
    "a password instead of its hash": (f"{TLS}basic_auth_users:\n  john: doe\n", "must be a bcrypt hash"),
    "an unknown cipher suite": (f"{IF_GIVEN}  cipher_suites: [TLS_WITH_AES_128_GCM_SHA2048]\n", "must be one of"),
    "an unknown curve": (f"{IF_GIVEN}  curve_preferences: [CurveP257]\n", "must be one of"),
    "an unknown version": (f"{IF_GIVEN}  min_version: TLS111\n", "must be one of"),
    "a wrong content type option": (
        "http_server_config: {headers: {X-Content-Type-Options: sniff}}",
        "must be nosniff",
    ),
    "another header": ("http_server_config: {headers: {Content-Type: foo}}", "Content-Type cannot be set"),
    "a wrong frame option": ("http_server_config: {headers: {X-Frame-Options: foo}}", "must be deny or sameorigin"),
    # The toolkit accepts this one, but anyone could keep all others from logging in for many seconds.
    "a hash that takes too long": (
        f"basic_auth_users:\n  bob: {BCRYPT_HASH.replace('$10$', '$18$')}\n",
        "basic_auth_users.bob: the cost of the bcrypt hash is 18, and must be at most 14",
    ),
    # The toolkit accepts these, but Python's TLS has no way to request a certificate that is not verified.
    "certificates that nobody verifies": (f"{TLS}{ANY}", "Python's TLS requests no certificate without verifying it"),
    "certificates that nobody verifies, with an inline key": (
        "tls_server_config:\n  cert_file: server.crt\n" + block("key", KEY) + ANY,
        "Python's TLS requests no certificate without verifying it",
    ),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the path of ``web.yml``, beside certificates."""
    for name, content in {"server.crt": CERT, "server.key": KEY, "ca.crt": CA.cert_pem.bytes().decode()}.items():
        (tmp_path / name).write_text(content)
    return tmp_path / "web.yml"


@pytest.mark.parametrize("text", ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(file: Path, text: str) -> None:
    """The file is accepted."""
    file.write_text(text)
    config = load(file)
    assert (config.ssl_context is not None) == ("tls_server_config" in text)
    assert bool(config.users) == ("basic_auth_users" in text)


@pytest.mark.parametrize(("text", "reason"), REFUSED.values(), ids=REFUSED)
def test_refused(file: Path, text: str, reason: str) -> None:
    """The file is refused with one message, which says why."""
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert 1 == len(caught.value.problems)
    assert reason in caught.value.problems[0]
