from __future__ import annotations

import dataclasses
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from cryptography.hazmat.primitives import serialization

from late_exporter.config.tls import CURVES, SUITES
from late_exporter.config.web import RequestRate, WebConfig
from late_exporter.config.web_file import load
from late_exporter.config.web_watcher import WebConfigWatcher
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
  client_allowed_sans: [prometheus.example, 10.0.0.1]
  min_version: TLS12
  max_version: TLS13
  cipher_suites:
    - TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
    - TLS_AES_128_GCM_SHA256
  prefer_server_cipher_suites: false
  curve_preferences: [CurveP384]
http_server_config:
  http2: false
  headers:
    Content-Security-Policy: default-src 'none'
    Strict-Transport-Security: max-age=31536000; includeSubDomains
    X-Content-Type-Options: nosniff
    X-Frame-Options: sameorigin
    X-XSS-Protection:
basic_auth_users:
  alice: {BCRYPT_HASH}
  "bob the builder": "{BCRYPT_HASH.replace("2y", "2b")}"
rate_limit:
  interval: 1s500ms
  burst: 20
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
    (tmp_path / "folder").mkdir()
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


def inline(option: str, pem: bytes) -> str:
    """Return an option whose value is a text in PEM."""
    return f"  {option}: |\n" + "".join(f"    {line}\n" for line in pem.decode().splitlines())


def tls(config: WebConfig) -> ssl.SSLContext:
    """Return the SSL context of a configuration."""
    assert config.ssl_context is not None
    return config.ssl_context


def test_a_whole_file(file: Path) -> None:
    """Every key of the format is supported."""
    config = load_text(file, COMPLETE)
    context = tls(config)

    assert (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3) == (context.minimum_version, context.maximum_version)
    assert ssl.CERT_REQUIRED == context.verify_mode
    assert ["ECDHE-ECDSA-AES256-GCM-SHA384"] == suites_before_13(context)
    assert not context.options & ssl.OP_CIPHER_SERVER_PREFERENCE
    assert [CA.cert_pem.bytes()] == [
        ssl.DER_cert_to_PEM_cert(der).encode() for der in context.get_ca_certs(binary_form=True)
    ]
    assert {"prometheus.example", "10.0.0.1"} == config.allowed_sans
    assert (
        ("Content-Security-Policy", "default-src 'none'"),
        ("Strict-Transport-Security", "max-age=31536000; includeSubDomains"),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "sameorigin"),
    ) == config.headers
    assert {
        "alice": BCRYPT_HASH.encode(),
        "bob the builder": BCRYPT_HASH.replace("2y", "2b").encode(),
    } == config.users
    assert RequestRate(1.5, 20) == config.rate
    assert ["web.yml", "server.crt", "server.key", "ca.crt"] == [path.name for path in config.files]
    assert () == config.warnings
    assert BCRYPT_HASH[7:] not in repr(config)


def suites_before_13(context: ssl.SSLContext) -> list[str]:
    """Return the cipher suites up to TLS 1.2."""
    return [suite["name"] for suite in context.get_ciphers() if suite["protocol"] != "TLSv1.3"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tls_server_config:\nhttp_server_config: {headers: }\nbasic_auth_users: ~\nrate_limit: null\n",
        "tls_server_config: {cert_file: , cipher_suites: , client_allowed_sans: , min_version: }\n",
    ],
)
def test_empty_files(file: Path, text: str) -> None:
    """Keys without a value keep the defaults: plain HTTP without passwords."""
    config = load_text(file, text)

    assert [file] == list(config.files)
    assert WebConfig(files=config.files) == config


def test_paths_are_relative_to_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths do not depend on the working directory, and absolute paths are kept."""
    monkeypatch.chdir("/")
    context = tls(load_text(file, TLS))
    assert ssl.CERT_NONE == context.verify_mode
    assert context.options & ssl.OP_CIPHER_SERVER_PREFERENCE
    elsewhere = file.parent / "elsewhere"
    elsewhere.mkdir()
    absolute = TLS.replace(": server", f": {file.parent}/server")
    assert load_text(elsewhere / "web.yml", absolute).ssl_context is not None
    assert load_text(elsewhere / "web.yml", TLS.replace(": server", ": ../server")).ssl_context is not None


def test_inline(file: Path) -> None:
    """Certificate, key and authority may be inline."""
    text = "tls_server_config:\n" + inline("cert", CERT) + inline("key", KEY) + inline("client_ca", CA_CERT)
    config = load_text(file, text + "  client_auth_type: VerifyClientCertIfGiven\n")

    assert ssl.CERT_OPTIONAL == tls(config).verify_mode
    assert 1 == len(tls(config).get_ca_certs())
    assert [file] == list(config.files)
    assert KEY_LINE not in repr(config)


def test_a_file_wins_over_what_is_inline(file: Path) -> None:
    """A file wins over an inline value, with a warning."""
    text = TLS + inline("cert", b"not used") + inline("key", b"not used") + inline("client_ca", b"not used")
    config = load_text(file, text + "  client_ca_file: ca.crt\n  client_auth_type: RequireAndVerifyClientCert\n")

    assert config.ssl_context is not None
    options = ("cert", "key", "client_ca")
    ignored = [f"tls_server_config.{name}: ignored, because {name}_file is set" for name in options]
    assert ignored == [*config.warnings]


AUTH_TYPE = "tls_server_config.client_auth_type"
REMARKS = [
    ("tls_server_config: {min_version: TLS13}", "tls_server_config: ignored, because TLS needs a certificate"),
    (
        f"{TLS}  curve_preferences: [X25519, CurveP256]\n",
        "tls_server_config.curve_preferences: ignored, because OpenSSL accepts only one; its defaults are used",
    ),
    (
        f"{TLS}  client_auth_type: RequestClientCert\n",
        f"{AUTH_TYPE}: ignored, because certificates that are not verified are not requested",
    ),
    (
        f"{TLS}  client_auth_type: VerifyClientCertIfGiven\n",
        f"{AUTH_TYPE}: certificates of all authorities of this system are accepted; set client_ca_file",
    ),
]


@pytest.mark.parametrize(("text", "remark"), REMARKS)
def test_warnings(file: Path, text: str, remark: str) -> None:
    """An option without effect, or with a surprising one, gives a warning."""
    assert (remark,) == load_text(file, text).warnings


def test_versions_suites_and_curves(file: Path) -> None:
    """The minimum is TLS 1.2 and configurable; suites of Go keep their order, those of TLS 1.3 alone require it."""
    assert ssl.TLSVersion.TLSv1_2 == tls(load_text(file, TLS)).minimum_version
    for name, version in (("TLS10", "TLSv1"), ("TLS11", "TLSv1_1"), ("TLS13", "TLSv1_3")):
        assert ssl.TLSVersion[version] == tls(load_text(file, f"{TLS}  min_version: {name}\n")).minimum_version
    context = tls(load_text(file, f"{TLS}  cipher_suites: [{', '.join(SUITES)}, TLS_AES_256_GCM_SHA384]\n"))
    assert [*SUITES.values()] == suites_before_13(context)
    context = tls(load_text(file, f"{TLS}  cipher_suites: [TLS_AES_256_GCM_SHA384]\n"))
    assert ssl.TLSVersion.TLSv1_3 == context.minimum_version
    for curve in CURVES:
        assert () == load_text(file, f"{TLS}  curve_preferences: [{curve}]\n").warnings


NO_AUTHORITY = "contains no readable certificate: no certificate or crl found"
UNSAFE = "is not supported, because Python's TLS requests no certificate without verifying it; use "
NOT_AN_INTEGER = "must be a valid integer, unable to parse string as an integer"
A_HASH = "must be a bcrypt hash, as htpasswd -nBC 10 makes it"
TOO_COSTLY = (
    "the cost of the bcrypt hash is 15, and must be at most 14, because anyone can have one computed; "
    "make another one with htpasswd -nBC 10"
)
A_NAME = "a user name must be printable and must not contain a colon"
A_MAPPING = "must be a mapping, as in basic_auth_users: {alice: $2y$10$...}"
VERIFY = "  client_auth_type: RequireAndVerifyClientCert\n"
ENCRYPTED_KEY = "encrypted private keys are not supported"
UNUSABLE = "cannot use certificate and key"

HASHES = (
    BCRYPT_HASH[:-1],
    BCRYPT_HASH.replace("$10$", "$03$"),
    BCRYPT_HASH.replace("2y", "2z"),
    BCRYPT_HASH.replace("zoub", "zozb"),  # a salt of too many bits
    "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
)
MISTAKES = [
    # other files, keys and kinds of values
    ("[]", A_MAPPING),
    ("rate_limit:\n  bursts: 1\n  every:\n", "2: rate_limit.bursts: unknown\n3: rate_limit.every: unknown"),
    (
        "http_server_config: []\nrate_limit: x",
        "1: http_server_config: must be a mapping\n2: rate_limit: must be a mapping",
    ),
    # headers
    *(
        (f"http_server_config:\n  headers:\n    {header}\n", f"3: http_server_config.headers.{message}")
        for header, message in (
            ("Server: late", "Server: unknown"),
            ("X-Frame-Options: DENY", "X-Frame-Options \"DENY\": must be '', 'deny' or 'sameorigin'"),
            ('X-XSS-Protection: "0\\r\\nSet-Cookie: a=b"', "X-XSS-Protection: must be printable ASCII"),
        )
    ),
    # users and limits
    (f"basic_auth_users:\n  alice: {'$2y$15$' + BCRYPT_HASH[7:]}\n", f"2: basic_auth_users.alice: {TOO_COSTLY}"),
    (f'basic_auth_users:\n  "": {BCRYPT_HASH}\n', f"2: basic_auth_users.: {A_NAME}"),
    *((f"basic_auth_users:\n  alice: '{wrong}'\n", f"2: basic_auth_users.alice: {A_HASH}") for wrong in HASHES),
    ("rate_limit:\n  burst: -1\n", "2: rate_limit.burst: must be greater than or equal to 0"),
    # all mistakes at once
    (
        "tls_server_config:\n  min_version: 1\nbasic_auth_users:\n  a: b\nrate_limit:\n  burst: x\n",
        (
            "2: tls_server_config.min_version \"1\": must be 'TLS10', 'TLS11', 'TLS12' or 'TLS13'\n"
            f"4: basic_auth_users.a: {A_HASH}\n6: rate_limit.burst: {NOT_AN_INTEGER}"
        ),
    ),
]


@pytest.mark.parametrize(("text", "expected"), MISTAKES, ids=range(len(MISTAKES)))
def test_mistakes(file: Path, text: str, expected: str) -> None:
    """Every mistake is reported with its line, its key and the allowed value."""
    assert expected.splitlines() == [each.removeprefix("web.yml:").lstrip() for each in problems(file, text)]


TLS_MISTAKES = [
    (TLS + "  cipher_suites: x\n", "4: cipher_suites: must be a list"),
    (
        TLS + "  min_version: TLS13\n  max_version: TLS12\n",
        "4: min_version: TLS13 is above max_version, which is TLS12",
    ),
    (TLS + "  cipher_suites:\n  - TLS_RSA_WITH_RC4_128_SHA\n", "5: cipher_suites[0]: must be one of TLS_ECDHE_"),
    (
        TLS + "  cipher_suites: [TLS_AES_128_GCM_SHA256]\n  max_version: TLS12\n",
        "4: cipher_suites: none of them is usable",
    ),
    # certificates
    (TLS.replace("server.crt", "none.crt"), "2: cert_file: none.crt: No such file or directory"),
    (TLS.replace("server.key", '"a\\0b"'), "3: key_file: a\0b: must be the path of a file"),
    (TLS.replace("server.key", "other.key"), f"2: cert_file: {UNUSABLE}: key values mismatch"),
    (TLS.replace("server.crt", "text.txt"), f"2: cert_file: {UNUSABLE}: not in PEM format"),
    (TLS.replace("server.key", "encrypted.key"), f"3: key_file: {ENCRYPTED_KEY}"),
    # clients' certificates
    (TLS + "  client_ca_file: ca.crt\n", "1: client_auth_type: must be set, because client_ca_file is set"),
    (TLS + VERIFY + "  client_ca_file: text.txt\n", f"5: client_ca_file: {NO_AUTHORITY}"),
    (
        TLS + "  client_allowed_sans: [a]\n",
        "4: client_allowed_sans: needs client_auth_type: RequireAndVerifyClientCert",
    ),
    (TLS + "  client_auth_type: RequireClientCert\n", f"4: client_auth_type: RequireClientCert {UNSAFE}"),
]


@pytest.mark.parametrize(("text", "start"), TLS_MISTAKES, ids=range(len(TLS_MISTAKES)))
def test_mistakes_in_tls(file: Path, text: str, start: str) -> None:
    """Every mistake in the configuration of TLS is reported with its line and its key."""
    (message,) = problems(file, text)
    assert message.replace("tls_server_config.", "").removeprefix("web.yml:").startswith(start)


def test_only_regular_files(file: Path) -> None:
    """Pipes, devices and folders are rejected: read again, a pipe would be a valid file without users and TLS."""
    reader, writer = os.pipe()
    os.close(writer)
    os.mkfifo(file)
    try:
        for path in (file, file.parent, Path(f"/dev/fd/{reader}"), Path("/dev/null")):
            with pytest.raises(ConfigError) as caught:
                load(path)
            assert [f"{path}: must be a regular file, because it is read again when it changes"] == list(
                caught.value.problems
            )
    finally:
        os.close(reader)


@pytest.mark.parametrize(
    "text",
    [
        f"basic_auth_users: {{alice: {PASSWORD}}}",
        f"basic_auth_users: {{alice:{PASSWORD}}}",
        f"basic_auth_users: {{{BCRYPT_HASH}: alice}}",
        f"basic_auth_users: {{? [alice, {PASSWORD}] : x}}",
        f"basic_auth_users:\n  alice: {BCRYPT_HASH}\n  alice:{BCRYPT_HASH}\n  alice:{BCRYPT_HASH}:\n",
        f"alice: {BCRYPT_HASH}",
        f"basic_auth_users: {{alice: *{PASSWORD}}}",
        f"basic_auth_users:\n  alice: {PASSWORD}: {BCRYPT_HASH}\n",
        TLS + inline("key", KEY).replace("key", "kee"),
        "tls_server_config:\n  cert_file: other.key\n" + inline("key", KEY),
        "tls_server_config:\n" + inline("key", CERT) + inline("cert", KEY),
        TLS + inline("client_ca", KEY) + VERIFY,
        "tls_server_config:\n  key: [|" + KEY.decode(),
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
    monkeypatch.setattr("late_exporter.config.web_file.read_file", lambda *_: pytest.fail("the file was read"))
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
    assert {"bob"} == watcher.current().users.keys()
    change(file, b"")
    assert {} == watcher.current().users
    assert ["web configuration changed"] * 2 == events(logger)


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
    assert ["web configuration not changed", "web configuration changed"] == events(logger)


@pytest.mark.parametrize("name", ["ca.crt", "server.key", "server.crt"])
def test_watcher_watches_every_file(file: Path, name: str) -> None:
    """Each file of the configuration is watched."""
    watcher = WebConfigWatcher(load_text(file, COMPLETE), RecordingLogger())
    before = watcher.current()
    path = file.parent / name
    os.utime(path)
    assert before is not watcher.current()


def test_watcher_keeps_the_last_valid_configuration(file: Path) -> None:
    """A broken file changes nothing, is logged once with every reason, and recovers; warnings are logged, too."""
    logger = RecordingLogger()
    watcher = WebConfigWatcher(load_text(file, f"basic_auth_users: {{alice: {BCRYPT_HASH}}}"), logger)
    before = watcher.current()

    file.write_text(f"basic_auth_users: {{alice: {PASSWORD}}}\nrate_limit: {{burst: x}}\n")
    assert [before] * 3 == [watcher.current() for _ in range(3)]
    reasons = f"{file}:1: basic_auth_users.alice: {A_HASH}; {file}:2: rate_limit.burst: {NOT_AN_INTEGER}"
    assert [("warning", "web configuration not changed", {"error": reasons})] == logger.records

    file.unlink()
    assert [before] * 3 == [watcher.current() for _ in range(3)]
    assert ["web configuration not changed"] * 2 == events(logger)

    file.write_text(f"basic_auth_users: {{bob: {BCRYPT_HASH}}}\nhttp_server_config: {{http2: true}}")
    assert {"bob"} == watcher.current().users.keys()
    assert ["questionable web configuration", "web configuration changed"] == events(logger)[2:]


def test_watcher_notices_changes_while_it_reads(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change between stat and read is noticed."""
    watcher = WebConfigWatcher(load_text(file, ""), RecordingLogger())
    file.write_text(f"basic_auth_users: {{alice: {BCRYPT_HASH}}}")
    load_yaml = yaml.load

    def slowly(*args: Any, **keywords: Any) -> Any:
        monkeypatch.setattr(yaml, "load", load_yaml)
        file.write_text(f"basic_auth_users: {{robert: {BCRYPT_HASH}}}")
        return load_yaml(*args, **keywords)

    monkeypatch.setattr(yaml, "load", slowly)
    assert {"alice"} == watcher.current().users.keys()
    assert {"robert"} == watcher.current().users.keys()


def bound_watcher(file: Path, logger: RecordingLogger) -> WebConfigWatcher:
    """Return a watcher of a file with two users, of whom one is bound to a workspace."""
    config = load_text(file, f"basic_auth_users: {{ops: {BCRYPT_HASH}, alice: {BCRYPT_HASH}}}")
    bound = dataclasses.replace(config, user_workspaces={"alice": frozenset({"brand-a"})})
    return WebConfigWatcher(bound, logger)


def test_watcher_does_not_accept_new_users_while_others_are_bound(file: Path) -> None:
    """A new user, who may be meant to be bound, is accepted by a reload only."""
    logger = RecordingLogger()
    watcher = bound_watcher(file, logger)
    text = f"basic_auth_users: {{ops: {BCRYPT_HASH}, alice: {BCRYPT_HASH}, bob: {BCRYPT_HASH}}}"
    Path.write_bytes(file, text.encode())
    assert {"ops", "alice"} == watcher.current().users.keys()
    assert {"alice": frozenset({"brand-a"})} == watcher.current().user_workspaces
    assert ["new users are not accepted before a reload", "web configuration changed"] == events(logger)
    config = dataclasses.replace(load_text(file, text), user_workspaces={"alice": frozenset({"brand-a"})})
    watcher.replace(config)
    assert {"ops", "alice", "bob"} == watcher.current().users.keys()


@pytest.mark.parametrize("text", ["", f"basic_auth_users: {{ops: {BCRYPT_HASH}}}"])
def test_watcher_keeps_bound_users(file: Path, text: str) -> None:
    """A file without a bound user, or without any, changes nothing: it would open what is limited."""
    logger = RecordingLogger()
    watcher = bound_watcher(file, logger)
    Path.write_bytes(file, text.encode())
    assert {"ops", "alice"} == watcher.current().users.keys()
    assert ["web configuration not changed"] == events(logger)
