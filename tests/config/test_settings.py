import json
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from late_exporter import log
from late_exporter.config.markdown import options_markdown
from late_exporter.config.options import Option
from late_exporter.config.settings import OPTIONS, Settings
from late_exporter.config.sources import load
from late_exporter.config.types import Address
from late_exporter.errors import ConfigError
from late_exporter.metrics import catalogue as metrics

KEY = "sk_" + "0123456789abcdef" * 4
KEYED = {"LATE_API_KEY": KEY}
DURATION = "not a duration; write it like 500ms, 30s or 1h30m"
TCP_ADDRESS = "not an address; write it like :10077, 127.0.0.1:10077 or [::1]:10077"
ADDRESS = "not an address; write it like :10077, 127.0.0.1:10077, [::1]:10077 or unix:/run/late.sock"
URL = "must be a URL like https://getlate.dev/api"
USER = "must not contain a user or password; give the key with LATE_API_KEY or --api.key-file"
NO_KEY = (
    "no API key: set LATE_API_KEY or ZERNIO_API_KEY, or name a file that holds it with LATE_API_KEY_FILE or "
    "--api.key-file, or list workspaces in --config.file"
)
STATE = "must be sqlite:///relative/path.db, sqlite:////absolute/path.db, or sqlite:// for memory"
WEBHOOK = "must be a path like /webhook, of letters, digits and - . _ ~ between slashes"
NO_WEBHOOK = "must not be one of /, /-/healthy, /-/ready, /-/reload, /-/quit, nor a parent of one"
A_KEY = "a key is 1 to 512 visible ASCII characters without whitespace"

visible = st.characters(min_codepoint=0x21, max_codepoint=0x7E)
keys = st.text(visible, min_size=16, max_size=80)


def loaded(command: str = "run", **flags: str) -> Settings:
    """Settings with a key and flags, ``poll_interval="1s"`` for ``--poll.interval 1s``."""
    given = {name.replace("__", ".").replace("_", "-"): [text] for name, text in flags.items()}
    return load(command, given, KEYED)


def problems(
    flags: dict[str, list[str]] | None = None, environ: dict[str, str] | None = None, command: str = "run"
) -> list[str]:
    """What is wrong."""
    with pytest.raises(ConfigError) as caught:
        load(command, flags or {}, KEYED if environ is None else environ)
    return list(caught.value.problems)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where ``late.yaml`` is, in the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "late.yaml"


def from_file(file: Path, text: str, environ: dict[str, str] | None = None, command: str = "run") -> Settings:
    """Settings with a key and a file."""
    file.write_text(text)
    return load(command, {"config.file": ["late.yaml"]}, KEYED if environ is None else environ)


def without_file(settings: Settings) -> Settings:
    """Settings as if they came from no file."""
    return settings.model_copy(update={"config": Settings.model_fields["config"].default})


def file_problems(file: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    """What is wrong with a file."""
    with pytest.raises(ConfigError) as caught:
        from_file(file, text, environ)
    return list(caught.value.problems)


def test_defaults() -> None:
    """Without any option the settings are those of the design."""
    got = loaded()

    assert ("default", "https://getlate.dev/api") == (got.workspaces[0].name, got.workspaces[0].base_url)
    assert (30.0, 0.5, 30.0, 604_800.0, 600.0, 86_400.0) == (
        got.api.timeout,
        got.api.quota_share,
        got.poll.interval,
        got.poll.lookback,
        got.poll.reconcile_interval,
        got.poll.audit_interval,
    )
    assert ("publishing", "connections") == got.poll.feeds
    assert "sqlite:///data/late-exporter.db" == got.state.url
    assert ((Address("", 10077),), "/metrics") == (got.web.listen_address, got.web.telemetry_path)
    assert (50, 500, False) == (got.metrics.max_label_values, got.metrics.max_accounts, got.metrics.created_timestamps)
    assert ("info", "logfmt") == (got.log.level, got.log.format)


def test_webhooks(file: Path) -> None:
    """Webhooks are off; their secret is in a file, beside the file that names it, and is no part of what is printed."""
    off = loaded()
    assert (None, None, None) == (off.webhook.path, off.webhook.secret_file, off.webhook.poll_interval)

    (file.parent / "secret").write_text("whsec_0123456789\n")
    text = "webhook: {path: /late/hook, secret-file: secret, replay-window: 1m, poll-interval: 4m}"
    got = from_file(file, text)
    assert ("/late/hook", 60.0, 240.0) == (got.webhook.path, got.webhook.replay_window, got.webhook.poll_interval)
    assert (KEY, "whsec_0123456789") == got.secrets
    assert "whsec_" not in repr(got)


@pytest.mark.parametrize("telemetry", ["/late", "/late/metrics"])
def test_webhooks_have_a_path_of_their_own(file: Path, telemetry: str) -> None:
    """A path at which nobody is asked for a password is none at which there are metrics, nor above it."""
    (file.parent / "secret").write_text("whsec_0123456789")
    text = f"webhook: {{path: /late, secret-file: secret}}\nweb: {{telemetry-path: {telemetry}}}"
    assert [
        f'late.yaml:1: webhook.path "/late": must not be --web.telemetry-path "{telemetry}", nor a parent of it'
    ] == file_problems(file, text)


def test_defaults_of_the_simulator() -> None:
    """The simulator has defaults of its own."""
    got = loaded("simulate").simulate

    assert Address("127.0.0.1", 10078) == got.listen_address
    assert (1, 5000, 604_800.0, 600, ()) == (
        got.seed,
        got.logs_per_day,
        got.history,
        got.rate_limit,
        got.incident,
    )


@pytest.mark.parametrize(
    ("text", "limit"), [("7", 7), ("free", 60), ("Build", 120), ("ACCELERATE", 600), ("unlimited", 1200)]
)
def test_rate_limit_of_a_plan(text: str, limit: int) -> None:
    """The simulator's quota is a number or that of a plan, in any case of letters."""
    assert limit == load("simulate", {"simulate.rate-limit": [text]}, {}).simulate.rate_limit


def test_demo_leaves_no_state_behind_and_polls_faster() -> None:
    """The demo keeps its state in memory, polls often, and has a quota that allows it."""
    got = loaded("demo")

    assert ("sqlite://", 5.0, 6000) == (got.state.url, got.poll.interval, got.simulate.rate_limit)


def test_demo_ignores_the_state_directory() -> None:
    """Under systemd too the demo keeps its state in memory."""
    assert "sqlite://" == load("demo", {}, {"STATE_DIRECTORY": "/var/lib/late"}).state.url


def test_settings_are_frozen() -> None:
    """Nobody changes a setting."""
    with pytest.raises(ValidationError):
        loaded().poll.interval = 1.0


def test_bounds_of_durations_are_those_of_the_catalogue() -> None:
    """The default buckets are written in two places and agree."""
    assert metrics.DURATION_BUCKETS == loaded().metrics.duration_buckets


def test_log_options_are_those_of_log() -> None:
    """Levels and formats are written in two places and agree."""
    assert log.LEVELS == tuple(loaded(log__level=level).log.level for level in log.LEVELS)
    assert log.FORMATS == tuple(loaded(log__format=name).log.format for name in log.FORMATS)


def test_flags_win_then_environment_then_file(file: Path) -> None:
    """A flag wins over the environment, the environment over the file, and the file over the default."""
    file.write_text("poll: {interval: 1s, lookback: 1d, reconcile-interval: 1h}\napi: {timeout: 1s}\n")
    environ = KEYED | {"LATE_EXPORTER_POLL__INTERVAL": "2s", "LATE_EXPORTER_POLL__LOOKBACK": "2d"}
    environ["LATE_EXPORTER_CONFIG__FILE"] = str(file)

    got = load("run", {"poll.interval": ["3s"]}, environ)

    assert (3.0, 172_800.0, 3600.0, 1.0) == (
        got.poll.interval,
        got.poll.lookback,
        got.poll.reconcile_interval,
        got.api.timeout,
    )
    assert 0.5 == got.api.quota_share


def test_a_wrong_value_that_does_not_win_is_no_mistake() -> None:
    """What a flag overrides need not be right."""
    assert 1.0 == load("run", {"poll.interval": ["1s"]}, KEYED | {"LATE_EXPORTER_POLL__INTERVAL": "x"}).poll.interval


def test_the_process_has_an_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without another one the environment is that of the process."""
    monkeypatch.setenv("LATE_API_KEY", KEY)
    monkeypatch.setenv("LATE_EXPORTER_METRICS__MAX_LABEL_VALUES", "7")

    assert 7 == load("run", {}).metrics.max_label_values


def test_an_empty_variable_is_not_set() -> None:
    """Compose files set variables to nothing; that means the default."""
    assert 30.0 == load("run", {}, KEYED | {"LATE_EXPORTER_POLL__INTERVAL": "", "LATE_API_KEY_FILE": ""}).poll.interval


@pytest.mark.parametrize(
    "variable",
    [
        "LATE_EXPORTER_SERVICE_HOST",
        "LATE_EXPORTER_SERVICE_PORT",
        "LATE_EXPORTER_SERVICE_PORT_HTTP_METRICS",
        "LATE_EXPORTER_PORT",
        "LATE_EXPORTER_PORT_10077_TCP",
        "LATE_EXPORTER_PORT_10077_TCP_ADDR",
        "LATE_EXPORTER_HEADLESS_SERVICE_HOST",
    ],
)
def test_variables_of_kubernetes_services_are_no_mistake(variable: str) -> None:
    """A Service named late-exporter puts variables into every pod of its namespace."""
    assert loaded() is not None
    assert 30.0 == load("run", {}, KEYED | {variable: "tcp://10.0.0.1:10077"}).poll.interval


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30.0),
        ("1h30m", 5400.0),
        ("7d", 604_800.0),
        ("2w", 1_209_600.0),
        ("1y", 31_536_000.0),
        ("1y2w3d4h5m6s7ms", 33_019_506.007),
        ("100y", 3_153_600_000.0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    """Durations are written as Prometheus has them."""
    assert seconds == pytest.approx(loaded(poll__reconcile_interval=text).poll.reconcile_interval)


def test_no_history() -> None:
    """Zero is a duration where it makes sense."""
    assert 0.0 == loaded("simulate", simulate__history="0").simulate.history


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":10077", Address("", 10077)),
        ("127.0.0.1:10077", Address("127.0.0.1", 10077)),
        ("[::1]:10077", Address("::1", 10077)),
        ("[fe80::1%eth0]:80", Address("fe80::1%eth0", 80)),
        ("localhost:0", Address("localhost", 0)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    """An address has a host, or none for every interface, and a port; it is written as it is read."""
    assert (address,) == loaded(web__listen_address=text).web.listen_address
    assert text == str(address)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://getlate.dev/api/", "https://getlate.dev/api"),
        ("https://zernio.com:8443", "https://zernio.com:8443"),
        ("https://[2001:db8::1]/api", "https://[2001:db8::1]/api"),
        ("http://127.0.0.1:10078/api", "http://127.0.0.1:10078/api"),
        ("http://127.8.9.1", "http://127.8.9.1"),
        ("http://[::1]:10078", "http://[::1]:10078"),
        ("http://localhost/", "http://localhost"),
    ],
)
def test_base_urls(text: str, url: str) -> None:
    """The API is reached over TLS, or in plain text on the same machine."""
    assert url == loaded(api__base_url=text).workspaces[0].base_url


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///late.db", "sqlite:////var/lib/late.db"])
def test_state_urls(url: str) -> None:
    """The state is a file or in memory."""
    assert url == loaded(state__url=url).state.url


@pytest.mark.parametrize("directories", ["/var/lib/late", "/var/lib/late/:/var/lib/other"])
def test_state_directory(directories: str) -> None:
    """Under systemd the state is in the first state directory, unless it is said where."""
    environ = KEYED | {"STATE_DIRECTORY": directories}

    assert "sqlite:////var/lib/late/late-exporter.db" == load("run", {}, environ).state.url
    assert "sqlite://" == load("run", {"state.url": ["sqlite://"]}, environ).state.url


def test_lists() -> None:
    """Lists have commas, or their flag is given several times."""
    given = {
        "web.listen-address": [":1", "[::1]:2"],
        "metrics.duration-buckets": [".5, 1,2e1"],
        "poll.feeds": ["publishing"],
    }

    got = load("run", given, KEYED)

    assert (Address("", 1), Address("::1", 2)) == got.web.listen_address
    assert (0.5, 1.0, 20.0) == got.metrics.duration_buckets
    assert ("publishing",) == got.poll.feeds


def test_incidents() -> None:
    """The simulated API can begin with trouble."""
    got = load("demo", {"simulate.incident": ["slow-video", "revoked-token"]}, {})

    assert ("slow-video", "revoked-token") == got.simulate.incident


WRONG = [
    ("poll.interval", "5x", f'"5x": {DURATION}'),
    ("poll.interval", "", f'"": {DURATION}'),
    ("poll.interval", "30", f'"30": {DURATION}'),
    ("poll.interval", "-30s", f'"-30s": {DURATION}'),
    ("poll.interval", "1.5s", f'"1.5s": {DURATION}'),
    ("poll.interval", "30m1h", f'"30m1h": {DURATION}'),
    ("poll.interval", "1s1s", f'"1s1s": {DURATION}'),
    ("poll.interval", "٣s", f'"٣s": {DURATION}'),
    ("poll.interval", "9" * 200 + "y", f'"{"9" * 100}...": {DURATION}'),
    ("poll.interval", "30s\n", f'"30s\\n": {DURATION}'),
    ("poll.interval", "50ms", '"50ms": must be at least 100ms and at most 100y'),
    ("poll.interval", "0", '"0": must be at least 100ms and at most 100y'),
    ("poll.lookback", "30s", '"30s": must be at least 1m and at most 90d'),
    ("poll.lookback", "91d", '"91d": must be at least 1m and at most 90d'),
    (
        "poll.feeds",
        "posts",
        '"posts": must be one of publishing, connections, webhooks, messaging, workflow_event, api_request',
    ),
    ("poll.feeds", "", '"": must name at least one'),
    ("poll.feeds", "publishing,publishing", '"publishing,publishing": publishing is given twice'),
    ("api.timeout", "0s", '"0s": must be at least 1ms and at most 100y'),
    ("api.quota-share", "0", '"0": must be a number above 0 and at most 1'),
    ("api.quota-share", "1.1", '"1.1": must be a number above 0 and at most 1'),
    ("api.quota-share", "nan", '"nan": must be a number above 0 and at most 1'),
    ("api.quota-share", "50%", '"50%": must be a number above 0 and at most 1'),
    ("api.base-url", "getlate.dev/api", f'"getlate.dev/api": {URL}'),
    ("api.base-url", "ftp://getlate.dev", f'"ftp://getlate.dev": {URL}'),
    ("api.base-url", "https://", f'"https://": {URL}'),
    ("api.base-url", "https:///api", f'"https:///api": {URL}'),
    ("api.base-url", "https://late.dev:0", f'"https://late.dev:0": {URL}'),
    ("api.base-url", "https://late.dev:65536", f'"https://late.dev:65536": {URL}'),
    ("api.base-url", "https://la te.dev", f'"https://la te.dev": {URL}'),
    ("api.base-url", "https://[::g]", f'"https://[::g]": {URL}'),
    ("api.base-url", "https://late.dev\\api", f'"https://late.dev\\\\api": {URL}'),
    (
        "api.base-url",
        "http://getlate.dev/api",
        '"http://getlate.dev/api": must begin with https://; plain http is allowed for loopback addresses only',
    ),
    (
        "api.base-url",
        "http://127.0.0.1.nip.io",
        '"http://127.0.0.1.nip.io": must begin with https://; plain http is allowed for loopback addresses only',
    ),
    (
        "api.base-url",
        "https://me:secret@getlate.dev",
        f'"https://***@getlate.dev": {USER}',
    ),
    ("api.base-url", "https://late.dev?key=secret", '"https://late.dev?***": must not contain a query or fragment'),
    ("api.base-url", "https://late.dev#secret", '"https://late.dev#***": must not contain a query or fragment'),
    ("api.key-file", "/nowhere/key", '"/nowhere/key": No such file or directory'),
    ("api.key-file", "/", '"/": Is a directory'),
    ("api.key-file", "", '"": must be the path of a file'),
    ("api.key-file", "/dev/null", '"/dev/null": the file is empty'),
    ("state.url", "postgres://me:secret@db/late", f'"postgres://***@db/late": {STATE}'),
    ("state.url", "sqlite:///", f'"sqlite:///": {STATE}'),
    ("state.url", "sqlite://late.db", f'"sqlite://late.db": {STATE}'),
    ("api.base-url", "https://a?b@c", f'"https://***": {USER}'),
    ("state.url", "sqlite:///late.db?mode=ro", f'"sqlite:///late.db?***": {STATE}'),
    ("state.url", "sqlite:///data/", f'"sqlite:///data/": {STATE}'),
    ("web.listen-address", "10077", f'"10077": {ADDRESS}'),
    ("web.listen-address", ":65536", f'":65536": {ADDRESS}'),
    ("web.listen-address", "::1:10077", f'"::1:10077": {ADDRESS}'),
    ("web.listen-address", "[::g]:10077", f'"[::g]:10077": {ADDRESS}'),
    ("web.listen-address", "127.0.0.256:1", f'"127.0.0.256:1": {ADDRESS}'),
    ("web.listen-address", ":1,:1", '":1,:1": :1 is given twice'),
    ("web.telemetry-path", "metrics", '"metrics": must begin with / and contain only letters, digits and - . _ ~ /'),
    ("web.telemetry-path", "/", '"/": must not be one of /, /-/healthy, /-/ready, /-/reload, /-/quit'),
    ("web.telemetry-path", "/-/ready", '"/-/ready": must not be one of /, /-/healthy, /-/ready, /-/reload, /-/quit'),
    ("webhook.path", "webhook", f'"webhook": {WEBHOOK}'),
    ("webhook.path", "/", f'"/": {WEBHOOK}'),
    ("webhook.path", "/a/", f'"/a/": {WEBHOOK}'),
    ("webhook.path", "/-", f'"/-": {NO_WEBHOOK}'),
    ("webhook.path", "/-/quit", f'"/-/quit": {NO_WEBHOOK}'),
    (
        "webhook.path",
        "/webhook",
        '"/webhook": name a file that holds the secret of the webhooks with --webhook.secret-file',
    ),
    ("webhook.secret-file", "/nowhere/secret", '"/nowhere/secret": No such file or directory'),
    ("webhook.replay-window", "0s", '"0s": must be at least 1s and at most 1d'),
    ("webhook.poll-interval", "10s", '"10s": must be at least --poll.interval, 30s'),
    ("metrics.duration-buckets", "1,x", '"x": must be a number of seconds above 0'),
    ("metrics.duration-buckets", "0,1", '"0": must be a number of seconds above 0'),
    ("metrics.duration-buckets", "1,inf", '"inf": must be a number of seconds above 0'),
    ("metrics.duration-buckets", "1,1e999", '"1e999": must be a number of seconds above 0'),
    ("metrics.duration-buckets", "1,,2", '"": must be a number of seconds above 0'),
    ("metrics.duration-buckets", "2,1", '"2,1": must be in ascending order, each bound once'),
    ("metrics.duration-buckets", "1,1", '"1,1": must be in ascending order, each bound once'),
    (
        "metrics.duration-buckets",
        ",".join(map(str, range(1, 52))),
        f'"{",".join(map(str, range(1, 52)))[:100]}...": at most 50 bounds are allowed, not 51',
    ),
    ("metrics.max-label-values", "0", '"0": must be a whole number of at least 1'),
    ("metrics.max-label-values", "1.5", '"1.5": must be a whole number of at least 1'),
    ("metrics.max-accounts", "-1", '"-1": must be a whole number of at least 0'),
    ("metrics.created-timestamps", "maybe", '"maybe": must be true or false'),
    ("log.level", "loud", '"loud": must be one of debug, info, warn, error'),
    ("log.format", "xml", '"xml": must be one of logfmt, json'),
]


@pytest.mark.parametrize(("option", "text", "message"), WRONG)
def test_wrong_values(option: str, text: str, message: str) -> None:
    """A wrong value is named with its flag and what is allowed."""
    environ = {} if option == "api.key-file" else KEYED

    assert [f"--{option} {message}"] == problems({option: [text]}, environ)


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("simulate.seed", "x", '"x": must be a whole number of at least 0'),
        ("simulate.logs-per-day", "0", '"0": must be a whole number of at least 1'),
        ("simulate.history", "91d", '"91d": must be at least 0s and at most 90d'),
        (
            "simulate.rate-limit",
            "0",
            '"0": must be a whole number of at least 1, or one of free, build, accelerate, unlimited',
        ),
        ("simulate.listen-address", "x", f'"x": {TCP_ADDRESS}'),
        (
            "simulate.incident",
            "fire",
            '"fire": must be one of platform-outage, revoked-token, rate-limit-storm, slow-video',
        ),
    ],
)
def test_wrong_values_of_the_simulator(option: str, text: str, message: str) -> None:
    """The simulator's options are checked like the others."""
    assert [f"--{option} {message}"] == problems({option: [text]}, {}, "simulate")


def test_every_way_names_itself(file: Path) -> None:
    """A mistake is told with the flag, the variable or the place in the file that it came from."""
    environ = KEYED | {"LATE_EXPORTER_POLL__LOOKBACK": "1"}
    file.write_text("api:\n  timeout: fast\n")

    assert [
        f'late.yaml:2: api.timeout "fast": {DURATION}',
        f'--poll.interval "5x": {DURATION}',
        f'LATE_EXPORTER_POLL__LOOKBACK "1": {DURATION}',
    ] == problems({"config.file": ["late.yaml"], "poll.interval": ["5x"]}, environ)


def test_all_mistakes_at_once(file: Path) -> None:
    """Whoever made many mistakes reads of all of them."""
    file.write_text("pol: {}\npoll: {intervall: 1s, lookback: 1, lookback: 2}\n")
    flags = {"config.file": ["late.yaml"], "web.listen-address": ["a", ":1", "b"], "log.level": ["info", "warn"]}

    assert [
        "--log.level: given 2 times",
        "LATE_EXPORTER_POL__INTERVAL: unknown variable; did you mean LATE_EXPORTER_POLL__INTERVAL?",
        "late.yaml:1: pol: unknown; did you mean poll?",
        "late.yaml:2: poll.lookback: given twice, first in line 2",
        "late.yaml:2: poll.intervall: unknown; did you mean poll.interval?",
        f'late.yaml:2: poll.lookback "1": {DURATION}',
        f'--web.listen-address "a": {ADDRESS}',
        f'--web.listen-address "b": {ADDRESS}',
        NO_KEY,
    ] == problems(flags, {"LATE_EXPORTER_POL__INTERVAL": "1s"})


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("LATE_EXPORTER_POLL_INTERVAL", "unknown variable; did you mean LATE_EXPORTER_POLL__INTERVAL?"),
        ("LATE_EXPORTER_QUUX", "unknown variable"),
        ("LATE_EXPORTER_API__KEY_FILE", "unknown variable; did you mean LATE_API_KEY_FILE?"),
        ("LATE_EXPORTER_API__KEY", "unknown variable; did you mean LATE_API_KEY?"),
    ],
)
def test_unknown_variables(variable: str, message: str) -> None:
    """A variable that nobody reads is a mistake."""
    assert [f"{variable}: {message}"] == problems({}, KEYED | {variable: "1s"})


FILES = [
    ("- poll", "late.yaml: must be a mapping of sections, as in poll: {interval: 30s}"),
    ("poll: 30s", "late.yaml:1: poll: must be a mapping of options"),
    ("poll:\n  interval: [30s]", "late.yaml:2: poll.interval: must be one value"),
    ("poll:\n  feeds: [[a]]", "late.yaml:2: poll.feeds: must be one value or a list of values"),
    ("poll:\n  interval:", f'late.yaml:2: poll.interval "": {DURATION}'),
    ("poll:\n  interval: 30", f'late.yaml:2: poll.interval "30": {DURATION}'),
    ("config: {file: a}", "late.yaml:1: config: unknown"),
    ("api:\n  key: sk_0123", "late.yaml:2: api.key: unknown; did you mean api.key-file?"),
    ("poll: {}\npoll: {}", "late.yaml:2: poll: given twice, first in line 1"),
    (
        "metrics:\n  max-accounts: 1\n  max_accounts: 2",
        "late.yaml:3: metrics.max_accounts: given twice, first in line 2",
    ),
    ("? [a]\n: b", "late.yaml:1: a key must be one word"),
    ("poll: {interval: 1s", "late.yaml:1:20: not valid YAML: expected ',' or '}', but got '<stream end>'"),
    ("a: b: c", "late.yaml:1:5: not valid YAML: mapping values are not allowed here"),
    ("poll: {}\n---\npoll: {}", "late.yaml:2:1: not valid YAML: but found another document"),
    ("poll: *nothing", "late.yaml:1:7: not valid YAML: found undefined alias ..."),
    ("[" * 600, "late.yaml: nested too deeply"),
    ("\0", "late.yaml: not a text file in UTF-8"),
    (r'"\UFFFFFFFF"', "late.yaml: not valid YAML: a character or number is out of range"),
    (f"%YAML {'9' * 5000}.1", "late.yaml: not valid YAML: a character or number is out of range"),
    ("# " + "x" * (1 << 20), "late.yaml: larger than 1 MiB"),
]


@pytest.mark.parametrize(("text", "message"), FILES, ids=range(len(FILES)))
def test_wrong_files(file: Path, text: str, message: str) -> None:
    """A mistake in the file is named with its line, a broken file with its column too."""
    assert [message] == file_problems(file, text)


def test_a_binary_file(file: Path) -> None:
    """A file that is no text is said to be none."""
    file.write_bytes(b"\xff\xfe\x00")

    assert ["late.yaml: not a text file in UTF-8"] == problems({"config.file": ["late.yaml"]})


@pytest.mark.parametrize(("path", "reason"), [("gone", "No such file or directory"), (".", "Is a directory")])
def test_unreadable_files(file: Path, path: str, reason: str) -> None:
    """A file that cannot be read is an error with the reason, and says nothing of keys that it may name."""
    assert not file.exists()
    assert [f'LATE_EXPORTER_CONFIG__FILE "{path}": {reason}'] == problems({}, {"LATE_EXPORTER_CONFIG__FILE": path})


def test_a_broken_file_may_have_named_a_key(file: Path) -> None:
    """Who has no key because the file is broken reads of the file alone."""
    assert ["late.yaml:1:2: not valid YAML: expected the node content, but found '<stream end>'"] == file_problems(
        file, "[", {}
    )


@pytest.mark.parametrize("text", ["", "# nothing\n", "poll:\n", "poll: ~\nweb: null\n", "\ufeffpoll: {}\n"])
def test_files_that_say_nothing(file: Path, text: str) -> None:
    """An empty file or section leaves the defaults."""
    assert loaded() == without_file(from_file(file, text))


@pytest.mark.parametrize("style", ["max-label-values", "max_label_values"])
def test_keys_in_either_style(file: Path, style: str) -> None:
    """Keys have hyphens or underscores."""
    assert 7 == from_file(file, f"metrics: {{{style}: 7}}").metrics.max_label_values


def test_values_of_a_file_are_what_is_written(file: Path) -> None:
    """Numbers, switches and lists are taken as they stand in the file."""
    text = "metrics: {duration-buckets: [0.5, 1], created-timestamps: True}\nweb: {listen-address: ':1, :2'}\n"

    got = from_file(file, text)

    assert ((0.5, 1.0), True) == (got.metrics.duration_buckets, got.metrics.created_timestamps)
    assert (Address("", 1), Address("", 2)) == got.web.listen_address


def test_the_simulator_leaves_other_options_alone(file: Path) -> None:
    """One file serves all commands, and each reads its own options only."""
    got = from_file(file, "poll: {interval: x}\nsimulate: {seed: 3}\nworkspaces: 7\n", {}, "simulate")

    assert 3 == got.simulate.seed


@pytest.mark.parametrize("command", ["run", "check"])
def test_no_key(command: str) -> None:
    """Commands that ask the API need a key, and say how to give one."""
    assert [NO_KEY] == problems({}, {}, command)


@pytest.mark.parametrize("command", ["demo", "simulate"])
def test_no_key_is_read_where_none_is_needed(command: str) -> None:
    """The demo and the simulator read no key, not even a wrong one."""
    got = load(command, {}, {"LATE_API_KEY": "a b", "LATE_API_KEY_FILE": "/nowhere"})

    assert (None, None) == (got.workspaces[0].key, got.workspaces[0].key_file)


def test_key_by_its_other_name() -> None:
    """The key may be given under the API's newer name; two that differ are a mistake, and neither is shown."""
    other = "sk_" + "e" * 64
    assert KEY == _key_of({"ZERNIO_API_KEY": KEY}) == _key_of({"ZERNIO_API_KEY": KEY, "LATE_API_KEY": KEY})
    (problem,) = problems({}, {"ZERNIO_API_KEY": other, "LATE_API_KEY": KEY})
    assert "LATE_API_KEY and ZERNIO_API_KEY: two keys are given; drop one of them" == problem
    (problem,) = problems({}, {"ZERNIO_API_KEY": other, "LATE_EXPORTER_LOG__LEVEL": other})
    assert other not in problem


def _key_of(environ: dict[str, str]) -> str:
    key = load("run", {}, environ).workspaces[0].key
    return key.get_secret_value() if key else ""


def test_key_from_the_environment() -> None:
    """The key comes from the environment, without the whitespace around it."""
    key = load("run", {}, {"LATE_API_KEY": f" {KEY}\n"}).workspaces[0].key

    assert key is not None
    assert KEY == key.get_secret_value()


def test_key_from_a_file(file: Path) -> None:
    """The key comes from a file, which is remembered to be read again."""
    file.write_text(f"{KEY}\n")
    workspace = load("run", {"api.key-file": [str(file)]}, {}).workspaces[0]

    assert workspace.key is not None
    assert (KEY, file) == (workspace.key.get_secret_value(), workspace.key_file)


def test_the_flag_wins_over_the_variable_of_a_key_file(file: Path) -> None:
    """One key file replaces the other."""
    file.write_text(KEY)

    assert file == load("run", {"api.key-file": [str(file)]}, {"LATE_API_KEY_FILE": "/nowhere"}).workspaces[0].key_file


def test_key_files_in_a_file_are_beside_it(tmp_path: Path) -> None:
    """A relative path in the file is relative to the file."""
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "late.yaml").write_text("api: {key-file: key}")

    assert tmp_path / "key" == load("run", {"config.file": [f"{tmp_path}/late.yaml"]}, {}).workspaces[0].key_file


def test_two_keys(file: Path) -> None:
    """A key and a key file together are a mistake."""
    file.write_text(KEY)

    assert ["LATE_API_KEY and --api.key-file: two keys are given; drop one of them"] == problems(
        {"api.key-file": [str(file)]}, KEYED
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b" \n", "the file is empty"),
        (b"one two", f"not a valid key (its value is not shown); {A_KEY}"),
        (b"one\ntwo", f"not a valid key (its value is not shown); {A_KEY}"),
        (b"k\xc3\xa9y", f"not a valid key (its value is not shown); {A_KEY}"),
        (b"k\0y", f"not a valid key (its value is not shown); {A_KEY}"),
        (b"k" * 513, f"not a valid key (its value is not shown); {A_KEY}"),
        (b"k" * 5_000_000, f"not a valid key (its value is not shown); {A_KEY}"),
    ],
    ids=range(8),
)
def test_wrong_key_files(file: Path, content: bytes, reason: str) -> None:
    """What is wrong with a key is said without showing it."""
    file.write_bytes(content)

    assert [f'LATE_API_KEY_FILE "late.yaml": {reason}'] == problems({}, {"LATE_API_KEY_FILE": "late.yaml"})


@pytest.mark.parametrize(
    ("key", "reason"),
    [(" ", f"is empty; {A_KEY}"), ("one two", f"not a valid key (its value is not shown); {A_KEY}")],
)
def test_wrong_keys(key: str, reason: str) -> None:
    """A wrong key is not shown."""
    assert [f"LATE_API_KEY: {reason}"] == problems({}, {"LATE_API_KEY": key})


def test_workspaces(file: Path) -> None:
    """Each workspace has a name, a key file, and perhaps a place of its own."""
    (file.parent / "a").write_text(KEY)
    text = (
        "api: {base-url: https://zernio.com/api}\n"
        "workspaces:\n"
        "- {name: brand-a, api_key_file: a}\n"
        "- {name: 12, api-key-file: a, api-base-url: http://localhost:1}\n"
    )

    first, second = from_file(file, text, {}).workspaces

    assert ("brand-a", "https://zernio.com/api", Path("a")) == (first.name, first.base_url, first.key_file)
    assert ("12", "http://localhost:1") == (second.name, second.base_url)
    assert first.key is not None
    assert KEY == first.key.get_secret_value()


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("workspaces:", ["late.yaml:1: workspaces: must be a list of name, api_key_file and optionally api_base_url"]),
        (
            "workspaces: {}",
            ["late.yaml:1: workspaces: must be a list of name, api_key_file and optionally api_base_url"],
        ),
        ("workspaces: []", ["late.yaml:1: workspaces: must list at least one workspace"]),
        (
            "workspaces:\n- a",
            ["late.yaml:2: workspaces[0]: name is missing", "late.yaml:2: workspaces[0]: api_key_file is missing"],
        ),
        (
            "workspaces:\n- name: a b\n  api_key_file: gone\n  key: x",
            [
                "late.yaml:4: workspaces[0].key: unknown",
                'late.yaml:2: workspaces[0].name "a b": must be 1 to 64 letters, digits, or _ . -',
                'late.yaml:3: workspaces[0].api_key_file "gone": No such file or directory',
            ],
        ),
        (
            "workspaces:\n- {name: a, api_key_file: key}\n- {name: a, api_key_file: key}",
            ['late.yaml:1: workspaces: the name "a" is given twice'],
        ),
        (
            "workspaces:\n- {name: a, api_key_file: [key]}",
            ['late.yaml:2: workspaces[0].api_key_file "": must be the path of a file'],
        ),
        (
            "workspaces:\n- {name: a, api_key_file: key, api_base_url: 'http://me:pw@x'}",
            [
                f'late.yaml:2: workspaces[0].api_base_url "http://***@x": {USER}',
            ],
        ),
    ],
    ids=range(8),
)
def test_wrong_workspaces(file: Path, text: str, messages: list[str]) -> None:
    """Mistakes in workspaces are told with the workspace they are in."""
    (file.parent / "key").write_text(KEY)

    assert messages == file_problems(file, text, {})


def test_workspaces_and_a_key(file: Path) -> None:
    """With workspaces a single key has no place, and the message says which to drop."""
    (file.parent / "key").write_text(KEY)
    file.write_text("workspaces:\n- {name: a, api_key_file: key}\n")
    drop = "drop it, each workspace in late.yaml:1: workspaces has its own api_key_file"

    assert [f"LATE_API_KEY: {drop}", f"--api.key-file: {drop}"] == problems(
        {"config.file": ["late.yaml"], "api.key-file": ["key"]}, KEYED
    )


@given(key=keys)
def test_settings_never_show_a_key(key: str) -> None:
    """However settings are printed, the key is not in them."""
    got, other = (load("run", {}, {"LATE_API_KEY": value}) for value in (key, "another"))
    assume(key not in repr(other))

    assert key not in f"{got!r} {got} {got.workspaces[0].key}"


@given(key=keys)
def test_errors_never_show_a_key(key: str) -> None:
    """A key in the wrong place is in no message."""
    flags = {
        "api.base-url": [f"https://me:{key}@getlate.dev"],
        "api.key-file": [f"{key}"],
        "state.url": [f"postgres://{key}@db/late"],
        "poll.interval": [f"x{key}"],
    }
    environ = {"LATE_API_KEY": key, "LATE_EXPORTER_API__KEY": key}

    assert key not in "\n".join(problems(flags, environ))


@given(key=keys)
def test_urls_never_show_a_key(key: str) -> None:
    """A key in a URL is masked although nobody knows that it is one."""
    for url in (
        f"https://me:{key}@late.dev",
        f"http://{key}@late.dev",
        f"http://late.dev?key={key}",
        f"{key}@late.dev",
        f"late.dev#{key}",
    ):
        assert key not in "\n".join(problems({"api.base-url": [url]}))


def test_what_looks_like_a_key_is_masked() -> None:
    """Who gives a key in place of its file does not read it in the message."""
    assert ['--api.key-file "***": No such file or directory'] == problems({"api.key-file": [KEY]}, {})


def test_every_option_is_in_the_table() -> None:
    """The README's table has one row an option, with what a user needs."""
    rows = options_markdown().splitlines()

    assert len(OPTIONS) + 2 == len(rows)
    assert (
        "| `--poll.interval` | `LATE_EXPORTER_POLL__INTERVAL` | `30s` (`demo`: `5s`, `logs`: `5s`) "
        "| run, check, demo, textfile, logs, audit | Time between two polls, with jitter. |"
    ) in rows


@pytest.mark.parametrize("option", [option for option in OPTIONS if option.default], ids=lambda option: option.name)
def test_defaults_are_as_they_are_shown(option: Option) -> None:
    """Giving an option its default changes nothing."""
    command = option.commands[0]

    assert load(command, {}, KEYED) == load(command, {option.name: [option.default_for(command) or ""]}, KEYED)


IN_FILES = [option for option in OPTIONS if option.flag and option.name != "config.file"]


@pytest.mark.parametrize("option", IN_FILES, ids=lambda option: option.name)
def test_every_option_has_all_ways(file: Path, option: Option) -> None:
    """Each option is read from flag, variable and file, and a wrong value is told with its way."""
    wrong = "\u2603"
    file.write_text(json.dumps({option.section: {option.key: wrong}}, ensure_ascii=False))
    command = option.commands[0]
    ways: list[tuple[str, dict[str, list[str]], dict[str, str]]] = [
        (option.flag, {option.name: [wrong]}, {}),
        (option.variable, {}, {option.variable: wrong}),
        (f"late.yaml:1: {option.name}", {"config.file": ["late.yaml"]}, {}),
    ]

    for place, flags, environ in ways:
        told = problems(flags, (KEYED if option.name != "api.key-file" else {}) | environ, command)
        assert [True] == [text.startswith(f'{place} "{wrong}": ') for text in told]
