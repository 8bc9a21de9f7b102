from __future__ import annotations

from pathlib import Path

import pytest

from late_exporter.config.otlp import OtlpConfig, read_otlp
from late_exporter.errors import ConfigError

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"
TIMEOUT = "OTEL_EXPORTER_OTLP_TIMEOUT"
FILES = [
    f"OTEL_EXPORTER_OTLP_{prefix}{name}"
    for name in ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY")
    for prefix in ("", "METRICS_")
]
URL = "https://otlp.example:4318"


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {ENDPOINT: ""},
        {ENDPOINT: URL, "OTEL_SDK_DISABLED": "True"},
        {ENDPOINT: URL, "OTEL_METRICS_EXPORTER": "none"},
        {HEADERS: "nonsense", "OTEL_METRIC_EXPORT_INTERVAL": "nonsense"},
    ],
)
def test_off(environ: dict[str, str]) -> None:
    """Nothing is pushed without an endpoint, or if OpenTelemetry's variables say so."""
    assert read_otlp(environ) is None


def test_on() -> None:
    """The endpoint switches it on; that of the metrics takes precedence, and an empty variable counts as unset."""
    for blank in ("", " "):
        variables = ("OTEL_METRIC_EXPORT_INTERVAL", "OTEL_EXPORTER_OTLP_PROTOCOL", HEADERS, "OTEL_SDK_DISABLED")
        environ = {ENDPOINT: f"{blank}{URL}", **dict.fromkeys(variables, blank)}
        assert OtlpConfig(ENDPOINT, URL, 60.0) == read_otlp(environ)
    metrics = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
    environ = {ENDPOINT: URL, metrics: "http://localhost:4318/v1/metrics", "OTEL_METRIC_EXPORT_INTERVAL": "1500"}
    config = read_otlp({**environ, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"})
    assert OtlpConfig(metrics, "http://localhost:4318/v1/metrics", 1.5) == config


def test_usable_variables(tmp_path: Path) -> None:
    """What OpenTelemetry's SDK accepts is accepted; a variable that another one replaces is not looked at."""
    (tmp_path / "file.pem").touch()
    environ = {
        ENDPOINT: URL,
        TIMEOUT: "x",
        "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT": "0.5",
        "OTEL_EXPORTER_OTLP_COMPRESSION": " GZIP",
        **dict.fromkeys(FILES, str(tmp_path / "file.pem")),
        "OTEL_RESOURCE_ATTRIBUTES": "service.instance.id=a, team=b=c,empty=,",
    }
    assert OtlpConfig(ENDPOINT, URL, 60.0) == read_otlp(environ)


def test_secrets() -> None:
    """The values of headers are secrets, also decoded, without the scheme and the password; short ones are not."""
    headers = "Authorization=Basic%20MTIzNDU2Om9wZW5zZXNhbWU=,x-tenant=acme, api-key = 0123456789"
    config = read_otlp({ENDPOINT: "http://otlp.example", HEADERS: headers})
    assert config is not None
    token = "MTIzNDU2Om9wZW5zZXNhbWU="
    assert {f"Basic%20{token}", f"Basic {token}", token, "opensesame", "0123456789"} == {*config.secrets}


@pytest.mark.parametrize(
    ("query", "secrets"),
    [
        ("", set()),
        ("?tenant=acme&api_key=hunter2secret", {"hunter2secret"}),
        ("?key=aGVsbG8gd29ybGQ%3D", {"aGVsbG8gd29ybGQ%3D", "aGVsbG8gd29ybGQ="}),
        ("?key=aGVsbG8gd29ybGQ=", {"aGVsbG8gd29ybGQ="}),
        ("?hunter2secret", {"hunter2secret"}),
    ],
)
def test_secrets_of_the_query(query: str, secrets: set[str]) -> None:
    """The values in the query of the endpoint are secrets too."""
    config = read_otlp({ENDPOINT: f"{URL}/v1/metrics{query}"})
    assert config is not None
    assert secrets == {*config.secrets}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({ENDPOINT: "otlp.example:4318"}, f"{ENDPOINT}: must be a URL like http://localhost:4318"),
        ({ENDPOINT: "https://[broken"}, f"{ENDPOINT}: must be a URL like http://localhost:4318"),
        (
            {ENDPOINT: "https://me:secret@otlp.example"},
            f'{ENDPOINT} "https://***@otlp.example": must not contain a user or password; use {HEADERS}',
        ),
        (
            {ENDPOINT: URL, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL: must be http/protobuf; other protocols are not supported",
        ),
        (
            {ENDPOINT: URL, "OTEL_METRIC_EXPORT_INTERVAL": "60s"},
            "OTEL_METRIC_EXPORT_INTERVAL: must be a number of milliseconds, at least 1",
        ),
        (
            {ENDPOINT: URL, "OTEL_METRIC_EXPORT_INTERVAL": "0"},
            "OTEL_METRIC_EXPORT_INTERVAL: must be a number of milliseconds, at least 1",
        ),
        (
            {ENDPOINT: URL, HEADERS: "a=b,secret"},
            f"{HEADERS}: must be a list like api-key=secret,other=value (its value is not shown)",
        ),
        *(
            ({ENDPOINT: URL, name: value}, f"{name}: must be a number of seconds above 0, at most 1000000")
            for name in (TIMEOUT, "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT")
            for value in ("nan", "inf", "-1", "0", "x", "10s", "1e7")
        ),
        (
            {ENDPOINT: URL, "OTEL_EXPORTER_OTLP_COMPRESSION": "zstd"},
            "OTEL_EXPORTER_OTLP_COMPRESSION: must be none, gzip or deflate",
        ),
        *(({ENDPOINT: URL, name: "/nowhere/file.pem"}, f"{name}: No such file or directory") for name in FILES),
        (
            {ENDPOINT: URL, FILES[0]: "/"},
            f"{FILES[0]}: must be a regular file, because it is read again when it changes",
        ),
        *(
            (
                {ENDPOINT: URL, "OTEL_RESOURCE_ATTRIBUTES": value},
                "OTEL_RESOURCE_ATTRIBUTES: must be a list like service.instance.id=a,team=b",
            )
            for value in ("foo", "a=b,foo", "=b")
        ),
    ],
)
def test_wrong_variables(environ: dict[str, str], expected: str) -> None:
    """A wrong variable is one error, which shows no secret."""
    with pytest.raises(ConfigError) as caught:
        read_otlp(environ)
    assert [expected] == list(caught.value.problems)
