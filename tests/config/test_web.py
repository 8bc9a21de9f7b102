from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from late_exporter.config.types import read_file
from late_exporter.config.web import WebConfig, WebConfigWatcher, load
from late_exporter.errors import ConfigError
from tests.support.loggers import RecordingLogger

BCRYPT_HASH = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"
PASSWORD = "hunter2-and-more"

CA = trustme.CA()
SERVER = CA.issue_cert("localhost", "127.0.0.1")
OTHER = CA.issue_cert("localhost")
CERT, KEY = SERVER.cert_chain_pems[0].bytes(), SERVER.private_key_pem.bytes()
CA_CERT = CA.cert_pem.bytes()
ENCRYPTED = serialization.load_pem_private_key(KEY, None).private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.BestAvailableEncryption(PASSWORD.encode()),
)
KEY_LINE = KEY.splitlines()[1].decode()
"""A line of the key that no output may hold."""

COMPLETE = f"""\
tls_server_config:
  cert_file: server.crt
  key_file: server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
  min_version: TLS13
basic_auth_users:
  alice: {BCRYPT_HASH}
  "bob the builder": "{BCRYPT_HASH.replace("2y", "2b")}"
"""
TLS = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the path of ``web.yml``, beside certificates."""
    contents = {
        "server.crt": CERT,
        "server.key": KEY,
        "ca.crt": CA_CERT,
        "other.key": OTHER.private_key_pem.bytes(),
        "encrypted.key": ENCRYPTED,
        "text.txt": b"no certificate\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path / "web.yml"


def load_text(file: Path, text: str) -> WebConfig:
    """Write and load a file."""
    file.write_text(text)
    return load(file)


def problems(file: Path, text: str) -> list[str]:
    """Return the problems of a file without its folder."""
    with pytest.raises(ConfigError) as caught:
        load_text(file, text)
    return [problem.replace(f"{file.parent}{os.sep}", "") for problem in caught.value.problems]


def events(logger: RecordingLogger) -> list[str]:
    """Return the events without their levels and fields."""
    return [event for _, event, _ in logger.records]


def tls(config: WebConfig) -> ssl.SSLContext:
    """Return the SSL context of a configuration."""
    assert config.ssl_context is not None
    return config.ssl_context


def test_a_whole_file(file: Path) -> None:
    """Every key of the format is supported."""
    config = load_text(file, COMPLETE)
    context = tls(config)

    assert ssl.TLSVersion.TLSv1_3 == context.minimum_version
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert [ssl.DER_cert_to_PEM_cert(der).encode() for der in context.get_ca_certs(binary_form=True)] == [
        CA.cert_pem.bytes()
    ]
    assert config.users == {
        "alice": BCRYPT_HASH.encode(),
        "bob the builder": BCRYPT_HASH.replace("2y", "2b").encode(),
    }
    assert [path.name for path in config.files] == ["web.yml", "server.crt", "server.key", "ca.crt"]
    assert BCRYPT_HASH[7:] not in repr(config)


def test_paths_are_relative_to_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths do not depend on the working directory, and absolute paths are kept; TLS is 1.2 at least."""
    monkeypatch.chdir("/")
    context = tls(load_text(file, TLS))
    assert (context.verify_mode, context.minimum_version) == (ssl.CERT_NONE, ssl.TLSVersion.TLSv1_2)
    elsewhere = file.parent / "elsewhere"
    elsewhere.mkdir()
    absolute = TLS.replace(": server", f": {file.parent}/server")
    assert load_text(elsewhere / "web.yml", absolute).ssl_context is not None


def test_optional_client_certificates(file: Path) -> None:
    """Clients without a certificate may connect, and one that is presented must be signed by the authority."""
    text = f"{TLS}  client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: ca.crt\n"
    assert tls(load_text(file, text)).verify_mode == ssl.CERT_OPTIONAL


A_HASH = "must be a bcrypt hash with a cost of at most 14, as htpasswd -nBC 10 makes it"
NOT_SUPPORTED = "not supported; supported are tls_server_config, basic_auth_users"
AUTH_TYPES = "'NoClientCert', 'VerifyClientCertIfGiven' or 'RequireAndVerifyClientCert'"
VERIFY = "  client_auth_type: RequireAndVerifyClientCert\n"
VERIFIED = "needs a client_auth_type of VerifyClientCertIfGiven or RequireAndVerifyClientCert, and these need it"
NOT_SUPPORTED_IN_TLS = "not supported; supported are cert_file, key_file, client_ca_file, client_auth_type, min_version"

HASHES = (
    BCRYPT_HASH[:-1],
    BCRYPT_HASH.replace("$10$", "$15$"),
    BCRYPT_HASH.replace("zoub", "zozb"),  # a salt of too many bits
    "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
)
MISTAKES = [
    # other files, keys and kinds of values
    ("[]", "must be a mapping of sections"),
    ("users: {}\ntls: {}\n", f"1: users: {NOT_SUPPORTED}\n2: tls: {NOT_SUPPORTED}"),
    # users
    (
        f'basic_auth_users:\n  "": {BCRYPT_HASH}\n',
        "2: basic_auth_users.: a user name must be printable and must not contain a colon",
    ),
    *((f"basic_auth_users:\n  alice: '{wrong}'\n", f"2: basic_auth_users.alice: {A_HASH}") for wrong in HASHES),
    # all mistakes at once
    (
        "tls_server_config:\n  cert_file: a\n  min_version: TLS11\nbasic_auth_users:\n  a: b\n",
        (
            "1: tls_server_config: key_file is missing\n"
            "3: min_version \"TLS11\": must be 'TLS12' or 'TLS13'\n"
            f"5: basic_auth_users.a: {A_HASH}"
        ),
    ),
    # TLS
    (TLS + "  cipher_suites: [TLS_AES_128_GCM_SHA256]\n", f"4: cipher_suites: {NOT_SUPPORTED_IN_TLS}"),
    # certificates
    (
        TLS.replace("server.crt", "none.crt"),
        "2: cert_file: cannot use none.crt with the key server.key: No such file or directory",
    ),
    (
        TLS.replace("server.key", "other.key"),
        "2: cert_file: cannot use server.crt with the key other.key: key values mismatch",
    ),
    (
        TLS.replace("server.key", "encrypted.key"),
        "2: cert_file: cannot use server.crt with the key encrypted.key: encrypted private keys are not supported",
    ),
    (
        TLS.replace("server.crt", "text.txt"),
        "2: cert_file: cannot use text.txt with the key server.key: not in PEM format",
    ),
    # clients' certificates
    (TLS + "  client_ca_file: ca.crt\n", f"4: client_ca_file: {VERIFIED}"),
    (
        TLS + VERIFY + "  client_ca_file: text.txt\n",
        "5: client_ca_file: cannot use text.txt: no certificate or crl found",
    ),
    (TLS + VERIFY, f"1: client_ca_file: {VERIFIED}"),
    (
        TLS + "  client_auth_type: RequireClientCert\n",
        f'4: client_auth_type "RequireClientCert": must be {AUTH_TYPES}',
    ),
]


@pytest.mark.parametrize(("text", "expected"), MISTAKES, ids=range(len(MISTAKES)))
def test_mistakes(file: Path, text: str, expected: str) -> None:
    """Every mistake is reported with its line, its key and the allowed value."""
    messages = [each.removeprefix("web.yml:").lstrip() for each in problems(file, text)]
    assert [each.replace("tls_server_config.", "") for each in messages] == expected.splitlines()


def test_only_regular_files(file: Path) -> None:
    """Pipes, devices and folders are rejected: read again, a pipe would be a valid file without users and TLS."""
    os.mkfifo(file)
    for path in (file, file.parent, Path("/dev/null")):
        with pytest.raises(ConfigError, match="must be a regular file, because it is read again when it changes"):
            load(path)


@pytest.mark.parametrize(
    "text",
    [
        f"basic_auth_users: {{alice: {PASSWORD}}}",
        f"basic_auth_users: {{{BCRYPT_HASH}: alice}}",
        f"basic_auth_users: {{? [alice, {PASSWORD}] : x}}",
        f"basic_auth_users: {{alice: *{PASSWORD}}}",
        f"basic_auth_users:\n  alice: {PASSWORD}: {BCRYPT_HASH}\n",
        "tls_server_config:\n  key: |\n" + "".join(f"    {line}\n" for line in KEY.decode().splitlines()),
        KEY.decode(),
    ],
)
def test_secrets_are_not_shown(file: Path, text: str) -> None:
    """No message contains a password, a hash or a key, wherever it was put by mistake."""
    entries = "\n".join(problems(file, text))
    assert entries
    assert PASSWORD not in entries
    assert BCRYPT_HASH[7:] not in entries
    assert KEY_LINE not in entries


@pytest.mark.parametrize(
    "text",
    [
        "basic_auth_users: &a {alice: *a}",
        "a: &a [x, x]\n" + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{f'*{chr(97 + n)}, ' * 9}]\n" for n in range(20)),
        "a: &a " + "[" * 90 + "]" * 90 + "\nb: &b " + "[" * 90 + "*a" + "]" * 90 + "\nc: " + "[" * 90 + "*b" + "]" * 90,
        '{"": 1, "[key]": 2, "<<": {a: b}, "a.b": 3}',
    ],
)
def test_malicious_yaml(file: Path, text: str) -> None:
    """Recursive, huge and malformed YAML is rejected quickly."""
    assert problems(file, text)


def test_watcher_reads_only_changed_files(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unchanged files are not read again."""
    watcher = WebConfigWatcher(load_text(file, COMPLETE), RecordingLogger())
    monkeypatch.setattr("late_exporter.config.yaml_file.read_file", lambda *_: pytest.fail("the file was read"))
    assert watcher.current() is watcher.current()


def replace(path: Path, content: bytes) -> None:
    """Replace a file by another file."""
    other = path.with_name("new")
    other.write_bytes(content)
    other.replace(path)


def relink(path: Path, content: bytes) -> None:
    """Point a symbolic link to another file, as Kubernetes does."""
    other = path.with_name(f"target-{path.name}-{len(list(path.parent.iterdir()))}")
    other.write_bytes(content)
    link = path.with_name("link")
    link.symlink_to(other.name)
    link.replace(path)


@pytest.mark.parametrize("change", [Path.write_bytes, replace, relink])
def test_watcher_applies_users(file: Path, change: Callable[[Path, bytes], None]) -> None:
    """Added and removed users apply from the next request."""
    logger = RecordingLogger()
    watcher = WebConfigWatcher(load_text(file, f"basic_auth_users: {{alice: {BCRYPT_HASH}}}"), logger)

    change(file, f"basic_auth_users: {{bob: {BCRYPT_HASH}}}".encode())
    assert watcher.current().users.keys() == {"bob"}
    change(file, b"")
    assert watcher.current().users == {}
    assert events(logger) == ["web configuration changed"] * 2


@pytest.mark.parametrize("change", [Path.write_bytes, replace, relink])
def test_watcher_applies_a_certificate(file: Path, change: Callable[[Path, bytes], None]) -> None:
    """A renewed certificate is used as soon as it matches its key, the old one until then."""
    logger = RecordingLogger()
    watcher = WebConfigWatcher(load_text(file, TLS), logger)
    before = watcher.current().ssl_context

    change(file.parent / "server.crt", OTHER.cert_chain_pems[0].bytes())
    assert before is watcher.current().ssl_context
    assert before is watcher.current().ssl_context
    change(file.parent / "server.key", OTHER.private_key_pem.bytes())
    after = watcher.current().ssl_context
    assert before is not after
    assert after is watcher.current().ssl_context
    assert events(logger) == ["web configuration not changed", "web configuration changed"]


def test_watcher_keeps_the_last_valid_configuration(file: Path) -> None:
    """A broken file changes nothing, is logged and reported once with every reason, and recovers."""
    logger = RecordingLogger()
    results: list[bool] = []
    watcher = WebConfigWatcher(load_text(file, f"basic_auth_users: {{alice: {BCRYPT_HASH}}}"), logger)
    watcher.on_read = results.append
    before = watcher.current()

    file.write_text(f"basic_auth_users: {{alice: {PASSWORD}}}\nlimits: {{burst: 1}}\n")
    assert [before] * 3 == [watcher.current() for _ in range(3)]
    reasons = f"{file}:1: basic_auth_users.alice: {A_HASH}; {file}:2: limits: {NOT_SUPPORTED}"
    assert logger.records == [("warning", "web configuration not changed", {"error": reasons})]

    file.unlink()
    assert [before] * 3 == [watcher.current() for _ in range(3)]
    assert events(logger) == ["web configuration not changed"] * 2

    file.write_text(f"basic_auth_users: {{bob: {BCRYPT_HASH}}}\n")
    assert watcher.current().users.keys() == {"bob"}
    assert events(logger)[2:] == ["web configuration changed"]
    assert results == [False, False, True]


def test_watcher_notices_changes_while_it_reads(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change between stat and read is noticed."""
    watcher = WebConfigWatcher(load_text(file, ""), RecordingLogger())
    file.write_text(f"basic_auth_users: {{alice: {BCRYPT_HASH}}}")

    def slowly(path: str, *, must_be_regular: bool) -> bytes:
        content = read_file(path, must_be_regular=must_be_regular)
        monkeypatch.undo()
        file.write_text(f"basic_auth_users: {{robert: {BCRYPT_HASH}}}")
        return content

    monkeypatch.setattr("late_exporter.config.yaml_file.read_file", slowly)
    assert watcher.current().users.keys() == {"alice"}
    assert watcher.current().users.keys() == {"robert"}
