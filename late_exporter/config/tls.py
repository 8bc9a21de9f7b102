"""TLS of the web server: an SSLContext from the exporter-toolkit's ``tls_server_config``."""

from __future__ import annotations

import os
import ssl
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator

from late_exporter.config.types import read_file
from late_exporter.config.web_section import Section

SUITES = MappingProxyType(
    {
        "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
        "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
        "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
        "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
        "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
        "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
        "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
        "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    }
)
"""OpenSSL's names of cipher suites up to TLS 1.2, by their names in Go."""

SUITES_13 = frozenset({"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"})
"""Cipher suites of TLS 1.3, which are always enabled, as in Go."""

CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}
VERSIONS = {"TLS10": "TLSv1", "TLS11": "TLSv1_1", "TLS12": "TLSv1_2", "TLS13": "TLSv1_3"}
Version: TypeAlias = Literal["TLS10", "TLS11", "TLS12", "TLS13"]

VERIFY_MODES = {"VerifyClientCertIfGiven": ssl.CERT_OPTIONAL, "RequireAndVerifyClientCert": ssl.CERT_REQUIRED}
NOT_VERIFIED = ("RequireAnyClientCert", "RequireClientCert")


class TlsError(ValueError):
    """An option that cannot be used, with the reason."""

    def __init__(self, option: str, reason: str) -> None:
        super().__init__(reason)
        self.option = option


def _check_suite(name: str) -> str:
    if name not in SUITES and name not in SUITES_13:
        raise ValueError(f"must be one of {', '.join([*SUITES, *sorted(SUITES_13)])}")
    return name


class Tls(Section):
    """Section ``tls_server_config``."""

    cert: str = ""
    key: str = ""
    client_ca: str = ""
    cert_file: str = ""
    key_file: str = ""
    client_ca_file: str = ""
    client_auth_type: Literal[
        "",
        "NoClientCert",
        "RequestClientCert",
        "RequireClientCert",
        "RequireAnyClientCert",
        "VerifyClientCertIfGiven",
        "RequireAndVerifyClientCert",
    ] = ""
    client_allowed_sans: tuple[str, ...] = ()
    min_version: Version = "TLS12"
    max_version: Version = "TLS13"
    cipher_suites: tuple[Annotated[str, AfterValidator(_check_suite)], ...] = ()
    prefer_server_cipher_suites: bool = True
    curve_preferences: tuple[Literal["CurveP256", "CurveP384", "CurveP521", "X25519"], ...] = ()

    @property
    def is_set(self) -> bool:
        """Return whether an option is set that has no meaning without TLS."""
        certificates = (self.cert, self.cert_file, self.key, self.key_file, self.client_ca, self.client_ca_file)
        return any((*certificates, self.client_auth_type, self.client_allowed_sans))

    def warnings(self) -> Iterator[str]:
        """Yield the options that have no effect, or a surprising one."""
        for option in ("cert", "key", "client_ca"):
            if getattr(self, option) and getattr(self, f"{option}_file"):
                yield f"{option}: ignored, because {option}_file is set"
        if len(self.curve_preferences) > 1:
            yield "curve_preferences: ignored, because OpenSSL accepts only one; its defaults are used"
        if self.client_auth_type in VERIFY_MODES and not self.client_ca and not self.client_ca_file:
            yield "client_auth_type: certificates of all authorities of this system are accepted; set client_ca_file"
        if self.client_auth_type == "RequestClientCert":
            yield "client_auth_type: ignored, because certificates that are not verified are not requested"


def create_context(tls: Tls, folder: Path) -> ssl.SSLContext:
    """Return the context of TLS connections; raise TlsError. Relative paths start at ``folder``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION
    _set_ciphers(context, tls)
    _set_certificate(context, tls, folder)
    _set_clients(context, tls, folder)
    return context


def _set_ciphers(context: ssl.SSLContext, tls: Tls) -> None:
    if tls.min_version > tls.max_version:
        raise TlsError("min_version", f"{tls.min_version} is above max_version, which is {tls.max_version}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TLS 1.0 is deprecated, but may be configured
        context.maximum_version = ssl.TLSVersion[VERSIONS[tls.max_version]]
        context.minimum_version = ssl.TLSVersion[VERSIONS[tls.min_version]]
    suites = [SUITES[name] for name in tls.cipher_suites if name in SUITES]
    if suites:
        with _supported("cipher_suites"):
            context.set_ciphers(":".join(suites))
    elif tls.cipher_suites and tls.max_version == "TLS13":
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    elif tls.cipher_suites:
        raise TlsError("cipher_suites", f"none of them is usable with {tls.max_version}")
    if not tls.prefer_server_cipher_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    if len(tls.curve_preferences) == 1:
        with _supported("curve_preferences"):
            context.set_ecdh_curve(CURVES[tls.curve_preferences[0]])


@contextmanager
def _supported(option: str) -> Iterator[None]:
    """Raise TlsError if OpenSSL rejects the value of an option."""
    try:
        yield
    except (ValueError, ssl.SSLError):
        raise TlsError(option, "this build of OpenSSL does not support it") from None


def _set_certificate(context: ssl.SSLContext, tls: Tls, folder: Path) -> None:
    def reject_encrypted() -> str:
        raise TlsError(_option_in_use(tls, "key"), "encrypted private keys are not supported")

    with _file(tls, "cert", folder) as cert, _file(tls, "key", folder) as key:
        try:
            context.load_cert_chain(cert, key, password=reject_encrypted)
        except OSError as exc:
            raise TlsError(_option_in_use(tls, "cert"), f"cannot use certificate and key: {_reason(exc)}") from None


def _set_clients(context: ssl.SSLContext, tls: Tls, folder: Path) -> None:
    kind, authority = tls.client_auth_type, tls.client_ca or tls.client_ca_file
    if kind in NOT_VERIFIED:
        raise TlsError(
            "client_auth_type",
            f"{kind} is not supported, because Python's TLS requests no certificate without verifying it; "
            "use RequireAndVerifyClientCert",
        )
    if tls.client_allowed_sans and kind != "RequireAndVerifyClientCert":
        raise TlsError("client_allowed_sans", "needs client_auth_type: RequireAndVerifyClientCert")
    if authority and kind in ("", "NoClientCert"):
        raise TlsError("client_auth_type", f"must be set, because {_option_in_use(tls, 'client_ca')} is set")
    if kind not in VERIFY_MODES:  # an unverified certificate would prove nothing
        return
    context.verify_mode = VERIFY_MODES[kind]
    if not authority:
        context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        return
    with _file(tls, "client_ca", folder) as authorities:
        try:
            context.load_verify_locations(authorities)
        except OSError as exc:
            raise TlsError(
                _option_in_use(tls, "client_ca"), f"contains no readable certificate: {_reason(exc)}"
            ) from None


def _option_in_use(tls: Tls, option: str) -> str:
    """Return the name of the option for a file if it is set, otherwise the option."""
    return f"{option}_file" if getattr(tls, f"{option}_file") else option


@contextmanager
def _file(tls: Tls, option: str, folder: Path) -> Iterator[str]:
    """Provide the content of an option as a file, since OpenSSL reads only files."""
    name, text = getattr(tls, f"{option}_file"), getattr(tls, option)
    if name:
        try:
            read_file(str(folder / name), 0)
        except ValueError as exc:
            raise TlsError(f"{option}_file", f"{folder / name}: {exc}") from None
        yield str(folder / name)
    elif not text:
        raise TlsError(f"{option}_file", "is missing")
    elif sys.platform != "linux":
        raise TlsError(option, f"is supported on Linux only; use {option}_file")
    else:
        with os.fdopen(os.memfd_create("late-exporter"), "wb") as memory:
            memory.write(text.encode(errors="replace"))
            memory.flush()
            yield f"/proc/self/fd/{memory.fileno()}"


def _reason(exc: OSError) -> str:
    """Return OpenSSL's reason; it has none if the file is not in PEM format."""
    reason = getattr(exc, "reason", None)
    return str(reason).replace("_", " ").lower() if reason else "not in PEM format"
