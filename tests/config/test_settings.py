import json
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from late_exporter.config.options import Option
from late_exporter.config.sections import ConfigSettings
from late_exporter.config.settings import OPTIONS, Settings, Workspace, restart_only_changes
from late_exporter.config.sources import load
from late_exporter.config.types import Address, Secret
from late_exporter.errors import ConfigError
from late_exporter.simulator import INCIDENTS

KEY = "sk_" + "0123456789abcdef" * 4
WITH_KEY = {"LATE_API_KEY": KEY}
SECTIONS = "sections are api, poll, status, state, sharding, web, webhook, metrics, events, log, simulate, workspaces"
DURATION = "not a duration; write it like 500ms, 30s, 1h30m, 7d or 2w"
TCP_ADDRESS = "not an address; write it like :10077, 127.0.0.1:10077 or [::1]:10077"
ADDRESS = "not an address; write it like :10077, 127.0.0.1:10077, [::1]:10077 or unix:/run/late.sock"
URL = "must be a URL like https://zernio.com/api"
USER = "must not contain a user or password; give the key with LATE_API_KEY or --api.key-file"
NO_KEY = (
    "no API key: set LATE_API_KEY or ZERNIO_API_KEY, or name a file that holds it with LATE_API_KEY_FILE or "
    "--api.key-file, or list workspaces in --config.file; the demo command needs no key"
)
STATE = (
    "must be sqlite:///relative/path.db, sqlite:////absolute/path.db, sqlite:// for memory, or"
    " postgresql://user@host/database"
)
NO_POSTGRES = "replicas share a state in PostgreSQL; name its database with --state.url postgresql://user@host/database"
PASSWORD = "must not contain a password; name a file that holds it with --state.password-file or PGPASSFILE"
WEBHOOK = "must be a path like /webhook, of letters, digits and - . _ ~ between slashes"
NO_WEBHOOK = "must not be one of /, /config, /-/healthy, /-/ready, /-/reload, /-/quit, nor a parent of one"
A_KEY = "a key is 1 to 512 visible ASCII characters without whitespace"

NOT_A_LIST = (
    "late.yaml:1: workspaces: must be a list of name, api_key_file and optionally api_base_url, profile_id and labels"
)

NOT_A_LABEL = "must be 1 to 64 letters, digits or _, and not workspace, job, instance"

visible = st.characters(min_codepoint=0x21, max_codepoint=0x7E)
# What ends with :// at the beginning of a URL is its scheme.
keys = st.text(visible, min_size=16, max_size=80).filter(lambda key: "://" not in key)


def load_flags(command: str = "run", **flags: str) -> Settings:
    """Return settings of a key and flags, ``poll__interval="1s"`` for ``--poll.interval 1s``."""
    given = {name.replace("__", ".").replace("_", "-"): [text] for name, text in flags.items()}
    return load(command, given, WITH_KEY)


def problems(
    flags: dict[str, list[str]] | None = None, environ: dict[str, str] | None = None, command: str = "run"
) -> list[str]:
    """Return the problems of flags and environment."""
    with pytest.raises(ConfigError) as caught:
        load(command, flags or {}, WITH_KEY if environ is None else environ)
    return list(caught.value.problems)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of ``late.yaml`` in the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "late.yaml"


def from_file(file: Path, text: str, environ: dict[str, str] | None = None, command: str = "run") -> Settings:
    """Return settings of a key and a file."""
    file.write_text(text)
    return load(command, {"config.file": ["late.yaml"]}, WITH_KEY if environ is None else environ)


def without_file(settings: Settings) -> Settings:
    """Return the settings without the path of their file."""
    return settings._replace(config=ConfigSettings(None))


def file_problems(file: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    """Return the problems of a file."""
    with pytest.raises(ConfigError) as caught:
        from_file(file, text, environ)
    return list(caught.value.problems)


def test_webhooks(file: Path) -> None:
    """Webhooks are off by default; their secret is read from a file and never printed."""
    off = load_flags()
    assert (None, None) == (off.webhook.path, off.webhook.secret_file)

    (file.parent / "secret").write_text("whsec_0123456789\n")
    text = "webhook: {path: /late/hook, secret-file: secret}"
    settings = from_file(file, text)
    assert "/late/hook" == settings.webhook.path
    assert (KEY, "whsec_0123456789") == settings.secrets
    assert "whsec_" not in repr(settings)
    assert (False, False) == (off.webhook.require_auth, settings.webhook.require_auth)


def test_a_password_for_webhooks_needs_users(file: Path) -> None:
    """Webhooks can be protected by a password only if there is one; commands that serve nothing do not mind."""
    text = "webhook: {require-auth: true}"
    assert ["late.yaml:1: webhook.require-auth: needs basic_auth_users in the file of --web.config.file"] == (
        file_problems(file, text)
    )
    (file.parent / "web.yml").write_text(f"basic_auth_users: {{alice: $2y$10${'a' * 21}O{'a' * 31}}}")
    assert from_file(file, f"{text}\nweb: {{config-file: web.yml}}").webhook.require_auth
    from_file(file, text, command="textfile")


def test_webhooks_have_addresses_of_their_own(file: Path) -> None:
    """An address of webhooks needs their path, and serves no metrics; a free port may be chosen for both."""
    (file.parent / "secret").write_text("whsec_0123456789")
    webhook = "path: /hook, secret-file: secret"
    assert () == from_file(file, f"webhook: {{{webhook}}}").webhook.listen_address
    settings = from_file(file, f"webhook: {{{webhook}, listen-address: [':10079', 'unix:hook.sock']}}")
    assert [":10079", "unix:h"] == [str(address)[:6] for address in settings.webhook.listen_address]
    web = "web: {listen-address: [':1', '127.0.0.1:0']}"
    from_file(file, f"{web}\nwebhook: {{{webhook}, listen-address: '127.0.0.1:0'}}")
    problem = "is also --web.listen-address, which serves the metrics; choose another address"
    assert [f'late.yaml:2: webhook.listen-address ":1": {problem}'] == (
        file_problems(file, f"{web}\nwebhook: {{{webhook}, listen-address: ':1'}}")
    )
    assert [
        "late.yaml:1: webhook.listen-address: needs --webhook.path, the path that receives webhooks there"
    ] == file_problems(file, "webhook: {listen-address: ':1'}")


@pytest.mark.parametrize("key", [KEY, "zrk_" + "4f1d8c6b" * 8])
@pytest.mark.parametrize(
    "text",
    [
        "api: {{key-file: {}}}",
        "api: {{key: {}}}",
        "api: {{{}: x}}",
        "{}: x",
        "{}",
        "poll: {{interval: {}}}",
        "api: {{base-url: 'http://example.org/{}'}}",
        "workspaces: [{{name: a, api_key_file: {}}}]",
        "workspaces: [{{name: '{} x', api_key_file: late.key}}]",
        "workspaces: [{{name: a, {}: x}}]",
        "web: {{config-file: {}}}",
        "webhook: {{path: /hook, secret-file: {}}}",
    ],
)
def test_keys_in_wrong_places_are_masked(file: Path, text: str, key: str) -> None:
    """A key that was put in the wrong place of the file is not repeated by the message about it."""
    messages = file_problems(file, text.format(key), environ={"LATE_API_KEY": "other"})
    assert messages
    assert [] == [message for message in messages if key[4:16] in message]


@pytest.mark.parametrize("telemetry", ["/late", "/late/metrics"])
def test_webhooks_have_a_path_of_their_own(file: Path, telemetry: str) -> None:
    """The webhook path, which needs no password, must not be the telemetry path or a parent of it."""
    (file.parent / "secret").write_text("whsec_0123456789")
    text = f"webhook: {{path: /late, secret-file: secret}}\nweb: {{telemetry-path: {telemetry}}}"
    assert [
        f'late.yaml:1: webhook.path "/late": must not be --web.telemetry-path "{telemetry}" or its parent'
    ] == file_problems(file, text)


def test_demo_leaves_no_state_behind_and_polls_faster() -> None:
    """The demo keeps its state in memory, polls often, and has a rate limit that allows it."""
    settings = load_flags("demo")

    assert ("sqlite://", 5.0, 6000) == (settings.state.url, settings.poll.interval, settings.simulate.rate_limit)


def test_another_api(file: Path) -> None:
    """A copy for another API has a single workspace and keeps everything else."""
    (file.parent / "web.yml").write_text("rate_limit: {interval: 1s, burst: 5}")
    settings = load_flags("demo", web__config__file="web.yml")
    copy = settings.with_api("http://localhost:1/api", KEY)

    assert (Workspace("default", "http://localhost:1/api", Secret(KEY)),) == copy.workspaces
    assert (KEY,) == copy.secrets
    assert settings.web_config is copy.web_config
    assert copy.web_config.rate is not None


def test_changes_that_take_a_restart() -> None:
    """Changed options that take a restart are named, others are not."""
    old, new = load_flags(), load_flags(poll__interval="1s", poll__feeds="publishing", metrics__max_accounts="3")

    assert ["poll.feeds", "metrics.max-accounts"] == restart_only_changes(old, new)
    assert [] == restart_only_changes(old, load_flags(poll__interval="1s", log__level="debug"))


def test_another_database_password_takes_no_restart(file: Path) -> None:
    """The password is read for each connection, so that a reload may find another one; another file takes a restart."""
    path = file.with_name("password")
    flags = {"state__url": "postgresql://db/late", "state__password_file": str(path)}
    path.write_text("first")
    old = load_flags(**flags)
    path.write_text("second")
    assert [] == restart_only_changes(old, load_flags(**flags))
    other = file.with_name("other")
    other.write_text("second")
    assert ["state.password-file"] == restart_only_changes(
        old, load_flags(**flags | {"state__password_file": str(other)})
    )


def test_flags_win_then_environment_then_file(file: Path) -> None:
    """Flags win over the environment, the environment over the file, and the file over defaults."""
    file.write_text("poll: {interval: 1s, lookback: 1d, reconcile-interval: 1h}\napi: {timeout: 1s}\n")
    environ = WITH_KEY | {"LATE_EXPORTER_POLL__INTERVAL": "2s", "LATE_EXPORTER_POLL__LOOKBACK": "2d"}
    environ["LATE_EXPORTER_CONFIG__FILE"] = str(file)

    settings = load("run", {"poll.interval": ["3s"]}, environ)

    assert (3.0, 172_800.0, 3600.0, 1.0) == (
        settings.poll.interval,
        settings.poll.lookback,
        settings.poll.reconcile_interval,
        settings.api.timeout,
    )
    assert 0.5 == settings.api.quota_share


def test_a_wrong_value_that_does_not_win_is_no_mistake() -> None:
    """A wrong variable is no mistake if a flag overrides it."""
    assert 1.0 == load("run", {"poll.interval": ["1s"]}, WITH_KEY | {"LATE_EXPORTER_POLL__INTERVAL": "x"}).poll.interval


def test_a_variable_that_is_not_utf_8() -> None:
    """Its bytes are not in the error, which could then not be printed."""
    environ = {**WITH_KEY, "LATE_EXPORTER_WEB__LISTEN_ADDRESS": "unix:\udcff"}
    assert ["LATE_EXPORTER_WEB__LISTEN_ADDRESS: not UTF-8"] == problems(environ=environ)


def test_an_empty_variable_is_not_set() -> None:
    """An empty variable, as in compose files, means the default."""
    assert (
        30.0 == load("run", {}, WITH_KEY | {"LATE_EXPORTER_POLL__INTERVAL": "", "LATE_API_KEY_FILE": ""}).poll.interval
    )


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
    """Variables that Kubernetes sets for a Service named late-exporter are ignored."""
    assert load_flags() is not None
    assert 30.0 == load("run", {}, WITH_KEY | {variable: "tcp://10.0.0.1:10077"}).poll.interval


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
    """Durations are parsed as in Prometheus."""
    assert seconds == pytest.approx(load_flags(poll__reconcile_interval=text).poll.reconcile_interval)


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
    """An address has a port and an optional host, and is formatted as it was parsed."""
    assert (address,) == load_flags(web__listen_address=text).web.listen_address
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
    """The base URL is https, or http on a loopback address."""
    assert url == load_flags(api__base_url=text).workspaces[0].base_url


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///late.db",
        "sqlite:////var/lib/late.db",
        "postgresql://late@[::1],[::1]:5433/late",
        "postgresql://db:5432/late?user=me@project.example",
        "postgresql://?service=late",
    ],
)
def test_state_urls(url: str) -> None:
    """The state URL is a file, memory, or a database that libpq finds."""
    assert url == load_flags(state__url=url).state.url


@pytest.mark.parametrize("directories", ["/var/lib/late", "/var/lib/late/:/var/lib/other"])
def test_state_directory(directories: str) -> None:
    """The state is in the first state directory of systemd unless --state.url is set."""
    environ = WITH_KEY | {"STATE_DIRECTORY": directories}

    assert "sqlite:////var/lib/late/late-exporter.db" == load("run", {}, environ).state.url
    assert "sqlite://" == load("run", {"state.url": ["sqlite://"]}, environ).state.url


def test_lists() -> None:
    """Lists are comma-separated, or their flag is repeated."""
    given = {
        "web.listen-address": [":1", "[::1]:2"],
        "metrics.duration-buckets": [".5, 1,2e1"],
        "poll.feeds": ["publishing"],
    }

    settings = load("run", given, WITH_KEY)

    assert (Address("", 1), Address("::1", 2)) == settings.web.listen_address
    assert (0.5, 1.0, 20.0) == settings.metrics.duration_buckets
    assert ("publishing",) == settings.poll.feeds


@pytest.mark.parametrize("text", ["none", ""])
def test_no_status_feeds(text: str) -> None:
    """All status feeds can be switched off, which is not possible for feeds of logs."""
    assert () == load("run", {"status.feeds": [text]}, WITH_KEY).status.feeds
    assert ("posts", "billing") == load("run", {"status.feeds": ["posts, billing"]}, WITH_KEY).status.feeds


def test_status_feeds_in_a_file(file: Path) -> None:
    """Status feeds and their intervals can be set in the file, also to none, and apply without a restart."""
    settings = from_file(file, "status: {feeds: [posts, webhooks], posts-interval: 1m}")
    assert (("posts", "webhooks"), 60.0) == (settings.status.feeds, settings.status.intervals["posts"])
    off = from_file(file, "status: {feeds: []}")
    assert () == off.status.feeds == from_file(file, "status: {feeds: none}").status.feeds
    assert [] == restart_only_changes(settings, off)


OUTPUT = "must be stdout or file:PATH"

WRONG = [
    ("poll.interval", "5x", f'"5x": {DURATION}'),
    ("poll.interval", "", f'"": {DURATION}'),
    ("poll.interval", "-30s", f'"-30s": {DURATION}'),
    ("poll.interval", "٣s", f'"٣s": {DURATION}'),
    ("poll.interval", "9" * 17 + "d", f'"{"9" * 17}d": must be at least 100ms and at most 100y'),
    ("poll.interval", "9" * 5000 + "y", "of 5001 characters: must be at least 100ms and at most 100y"),
    ("poll.interval", "30s\n", f'"30s\\n": {DURATION}'),
    ("poll.interval", "50ms", '"50ms": must be at least 100ms and at most 100y'),
    ("poll.lookback", "30s", '"30s": must be at least 1m and at most 90d'),
    (
        "poll.feeds",
        "posts",
        '"posts": must be one of publishing, connections, webhooks, messaging, workflow_event, api_request',
    ),
    ("poll.feeds", "", '"": must name at least one'),
    ("poll.feeds", "publishing,publishing", '"publishing,publishing": publishing is given twice'),
    (
        "status.feeds",
        "publishing",
        '"publishing": must be one of posts, accounts, cooldowns, webhooks, billing',
    ),
    ("status.feeds", "posts,posts", '"posts,posts": posts is given twice'),
    ("status.posts-interval", "29s", '"29s": must be at least 30s and at most 1d'),
    ("api.timeout", "0s", '"0s": must be at least 1ms and at most 100y'),
    ("api.quota-share", "0", '"0": must be a number above 0 and at most 1'),
    ("api.quota-share", "50%", '"50%": must be a number above 0 and at most 1'),
    ("api.base-url", "getlate.dev/api", f'"getlate.dev/api": {URL}'),
    ("api.base-url", "https:///api", f'"https:///api": {URL}'),
    ("api.base-url", "https://late.dev:65536", f'"https://late.dev:65536": {URL}'),
    ("api.base-url", "https://[::g]", f'"https://[::g]": {URL}'),
    ("api.base-url", "https://late.dev\\api", f'"https://late.dev\\\\api": {URL}'),
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
    ("api.key-file", "/nowhere/key", '"/nowhere/key": No such file or directory'),
    ("api.key-file", "/", '"/": Is a directory'),
    ("api.key-file", "", '"": must be the path of a file'),
    ("api.key-file", "/dev/null", '"/dev/null": the file is empty'),
    ("state.url", "postgres://me:secret@db/late", f'"postgres://***@db/late": {STATE}'),
    ("state.url", "postgresql://", f'"postgresql://": {STATE}'),
    ("state.url", "postgresql://me:secret@db/late", f'"postgresql://***@db/late": {PASSWORD}'),
    ("state.url", "postgresql://me:sec/ret@db/late", f'"postgresql://***@db/late": {PASSWORD}'),
    ("state.url", "postgresql://me:sec?ret@db/late", f'"postgresql://***": {PASSWORD}'),
    ("state.url", "postgresql://db/late?password=secret", f'"postgresql://db/late?***": {PASSWORD}'),
    ("state.url", "postgresql://db/late?p%61ssword=secret", f'"postgresql://db/late?***": {PASSWORD}'),
    ("state.url", "postgresql://db/late?sslpassword=secret", f'"postgresql://db/late?***": {PASSWORD}'),
    ("state.url", "host=db password=secret user=late", f'"host=db password=*** user=late": {STATE}'),
    ("state.url", "host=db PASSWORD = 'a secret'", f'"host=db PASSWORD = ***": {STATE}'),
    ("state.url", "postgres:me:secret@db", f'"***@db": {STATE}'),
    ("state.password-file", "/nowhere/password", '"/nowhere/password": No such file or directory'),
    ("state.password-file", "/dev/null", '"/dev/null": the file must contain one password'),
    ("state.replicas", "true", f'"true": {NO_POSTGRES}'),
    ("state.lease-duration", "1s", '"1s": must be at least 2s and at most 10m'),
    ("state.url", "sqlite://late.db", f'"sqlite://late.db": {STATE}'),
    ("api.base-url", "https://a?b@c", f'"https://***": {USER}'),
    ("state.url", "sqlite:///late.db?mode=ro", f'"sqlite:///late.db?***": {STATE}'),
    ("web.listen-address", "10077", f'"10077": {ADDRESS}'),
    ("web.listen-address", ":65536", f'":65536": {ADDRESS}'),
    ("web.listen-address", "unix:", f'"unix:": {ADDRESS}'),
    ("web.listen-address", "unix:" + "x" * 108, f'"unix:{"x" * 95}...": the path of a socket has at most 107 bytes'),
    ("web.listen-address", "127.0.0.256:1", f'"127.0.0.256:1": {ADDRESS}'),
    ("web.listen-address", ":1,:1", '":1,:1": :1 is given twice'),
    (
        "web.unauthenticated-paths",
        "healthy",
        '"healthy": must begin with / and contain only letters, digits and - . _ ~ /',
    ),
    ("web.unauthenticated-paths", "/-/ready,/-/ready", '"/-/ready,/-/ready": /-/ready is given twice'),
    ("web.telemetry-path", "metrics", '"metrics": must begin with / and contain only letters, digits and - . _ ~ /'),
    ("web.telemetry-path", "/", '"/": must not be one of /, /config, /-/healthy, /-/ready, /-/reload, /-/quit'),
    ("webhook.path", "webhook", f'"webhook": {WEBHOOK}'),
    ("webhook.path", "/", f'"/": {WEBHOOK}'),
    ("webhook.path", "/-", f'"/-": {NO_WEBHOOK}'),
    ("webhook.path", "/-/quit", f'"/-/quit": {NO_WEBHOOK}'),
    (
        "webhook.path",
        "/webhook",
        '"/webhook": name a file that holds the secret of the webhooks with --webhook.secret-file',
    ),
    ("webhook.secret-file", "/nowhere/secret", '"/nowhere/secret": No such file or directory'),
    ("metrics.duration-buckets", "1,x", '"x": must be a number of seconds above 0'),
    ("metrics.duration-buckets", "0,1", '"0": must be a number of seconds above 0'),
    ("metrics.duration-buckets", "1,,2", '"": must be a number of seconds above 0'),
    ("metrics.duration-buckets", "2,1", '"2,1": must be in ascending order, each bound once'),
    (
        "metrics.duration-buckets",
        ",".join(map(str, range(1, 52))),
        f'"{",".join(map(str, range(1, 52)))[:100]}...": at most 50 bounds are allowed, not 51',
    ),
    ("metrics.max-label-values", "0", '"0": must be a whole number of at least 1'),
    ("metrics.max-label-values", "1.5", '"1.5": must be a whole number of at least 1'),
    ("metrics.max-accounts", "-1", '"-1": must be a whole number of at least 0'),
    ("metrics.max-accounts", "9" * 19, f'"{"9" * 19}": must be a whole number of at least 0 and at most {"9" * 18}'),
    ("metrics.created-timestamps", "maybe", '"maybe": must be true or false'),
    ("events.output", "syslog", f'"syslog": {OUTPUT}'),
    ("events.output", "file:", f'"file:": {OUTPUT}'),
    ("events.output", "loki:http://loki:3100", f'"loki:http://loki:3100": {OUTPUT}'),
    ("events.include", "some", '"some": must be one of failed, all'),
    ("events.max-pending", "0", '"0": must be a whole number of at least 1'),
    ("log.level", "loud", '"loud": must be one of debug, info, warn, error'),
    ("log.format", "xml", '"xml": must be one of logfmt, json'),
]


@pytest.mark.parametrize(("option", "text", "message"), WRONG)
def test_wrong_values(option: str, text: str, message: str) -> None:
    """A wrong value is reported with its flag and the allowed values."""
    environ = {} if option == "api.key-file" else WITH_KEY

    assert [f"--{option} {message}"] == problems({option: [text]}, environ)


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("simulate.history", "91d", '"91d": must be at least 0s and at most 90d'),
        ("simulate.listen-address", "x", f'"x": {TCP_ADDRESS}'),
        ("simulate.incident", "fire", f'"fire": must be one of {", ".join(INCIDENTS)}'),
    ],
)
def test_wrong_values_of_the_simulator(option: str, text: str, message: str) -> None:
    """Wrong values of the simulator's options are reported like others."""
    assert [f"--{option} {message}"] == problems({option: [text]}, {}, "simulate")


def test_all_mistakes_at_once(file: Path) -> None:
    """All mistakes of all sources are reported at once."""
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
    """An unknown variable is a mistake."""
    assert [f"{variable}: {message}"] == problems({}, WITH_KEY | {variable: "1s"})


FILES = [
    ("- poll", "late.yaml: must be a mapping of sections, as in poll: {interval: 30s}"),
    ("poll: 30s", "late.yaml:1: poll: must be a mapping of options"),
    ("poll:\n  interval: [30s]", "late.yaml:2: poll.interval: must be one value"),
    ("poll:\n  interval:", f'late.yaml:2: poll.interval "": {DURATION}'),
    ("config: {file: a}", f"late.yaml:1: config: unknown; {SECTIONS}"),
    ("foo: 1", f"late.yaml:1: foo: unknown; {SECTIONS}"),
    ("poll.interval: 30s", "late.yaml:1: poll.interval: unknown; write it as poll: {interval: ...}"),
    ("api:\n  key: sk_0123", "late.yaml:2: api.key: unknown; did you mean api.key-file?"),
    ("api:\n  keyfile:sk_0123: x", "late.yaml:2: api.keyfile***: unknown; did you mean api.key-file?"),
    (f"{KEY}: x", f"late.yaml:1: ***: unknown; {SECTIONS}"),
    (f"api:\n  {KEY}: x", "late.yaml:2: api.***: unknown"),
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
    ("poll:\n\tinterval: 1s", "late.yaml:2:1: not valid YAML: found a tab; use spaces"),
    ("[" * 600, "late.yaml: nested too deeply"),
    ("\0", "late.yaml: not a text file in UTF-8"),
    (r'"\UFFFFFFFF"', "late.yaml: not valid YAML: a character or number is out of range"),
    (f"%YAML {'9' * 5000}.1", "late.yaml: not valid YAML: a character or number is out of range"),
    ("# " + "x" * (1 << 20), "late.yaml: larger than 1 MiB"),
]


@pytest.mark.parametrize(("text", "message"), FILES, ids=range(len(FILES)))
def test_wrong_files(file: Path, text: str, message: str) -> None:
    """A mistake in the file is reported with its line, invalid YAML also with its column."""
    assert [message] == file_problems(file, text)


@pytest.mark.parametrize(("path", "reason"), [("gone", "No such file or directory"), (".", "Is a directory")])
def test_unreadable_files(file: Path, path: str, reason: str) -> None:
    """A file that cannot be read is reported with the reason, and without a missing key."""
    assert not file.exists()
    assert [f'LATE_EXPORTER_CONFIG__FILE "{path}": {reason}'] == problems({}, {"LATE_EXPORTER_CONFIG__FILE": path})


@pytest.mark.parametrize("text", ["", "# nothing\n", "poll:\n", "poll: ~\nweb: null\n", "\ufeffpoll: {}\n"])
def test_empty_files(file: Path, text: str) -> None:
    """An empty file or section keeps the defaults."""
    assert load_flags() == without_file(from_file(file, text))


def test_values_of_a_file(file: Path) -> None:
    """Numbers, booleans and lists of YAML are accepted."""
    text = "metrics: {duration-buckets: [0.5, 1], created-timestamps: True}\nweb: {listen-address: ':1, :2'}\n"

    settings = from_file(file, text)

    assert ((0.5, 1.0), True) == (settings.metrics.duration_buckets, settings.metrics.created_timestamps)
    assert (Address("", 1), Address("", 2)) == settings.web.listen_address


def test_the_simulator_leaves_other_options_alone(file: Path) -> None:
    """One file serves all commands, and each reads only its own options."""
    settings = from_file(file, "poll: {interval: x}\nsimulate: {seed: 3}\nworkspaces: 7\n", {}, "simulate")

    assert 3 == settings.simulate.seed


@pytest.mark.parametrize("command", ["run", "check"])
def test_no_key(command: str) -> None:
    """Commands that use the API need a key, and say how to set one."""
    assert [NO_KEY] == problems({}, {}, command)


def test_the_simulated_history_is_limited() -> None:
    """A history that would take long to simulate, and much memory, is rejected; without one many logs are possible."""
    for per_day, history in ((10_000_000, "0s"), (1_000_000, "2d"), (20_000, "90d")):
        load("simulate", {"simulate.logs-per-day": [str(per_day)], "simulate.history": [history]}, {})
    [problem] = problems({"simulate.logs-per-day": ["10000000"]}, {}, "simulate")
    assert problem.startswith("--simulate.logs-per-day and --simulate.history: these are 70,000,000 logs at startup; ")


@pytest.mark.parametrize("command", ["demo", "simulate"])
def test_no_key_is_read_where_none_is_needed(command: str) -> None:
    """The demo and the simulator ignore keys, also wrong ones."""
    settings = load(command, {}, {"LATE_API_KEY": "a b", "LATE_API_KEY_FILE": "/nowhere"})

    assert (None, None) == (settings.workspaces[0].key, settings.workspaces[0].key_file)


def test_key_by_its_other_name() -> None:
    """The key may be set by the API's newer name; two different keys are a mistake, and neither is shown."""
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
    """The key of the environment is stripped of whitespace."""
    key = load("run", {}, {"LATE_API_KEY": f" {KEY}\n"}).workspaces[0].key

    assert key is not None
    assert KEY == key.get_secret_value()


def test_the_flag_wins_over_the_variable_of_a_key_file(file: Path) -> None:
    """The flag of a key file wins over its variable."""
    file.write_text(KEY)

    assert file == load("run", {"api.key-file": [str(file)]}, {"LATE_API_KEY_FILE": "/nowhere"}).workspaces[0].key_file


def test_key_files_in_a_file_are_beside_it(tmp_path: Path) -> None:
    """Relative paths in a file are relative to the file."""
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "late.yaml").write_text("api: {key-file: key}")

    assert tmp_path / "key" == load("run", {"config.file": [f"{tmp_path}/late.yaml"]}, {}).workspaces[0].key_file


def test_paths_of_state_events_and_sockets_are_not_beside_the_file(tmp_path: Path) -> None:
    """Paths that are part of another value are relative to the working directory, as in a flag."""
    (tmp_path / "late.yaml").write_text(
        "{state: {url: 'sqlite:///late.db'}, events: {output: 'file:events'}, web: {listen-address: 'unix:socket'}}"
    )
    settings = load("run", {"config.file": [f"{tmp_path}/late.yaml"]}, WITH_KEY)

    assert ("sqlite:///late.db", "file:events", "unix:socket") == (
        settings.state.url,
        str(settings.events.output),
        str(settings.web.listen_address[0]),
    )


def test_two_keys(file: Path) -> None:
    """Setting a key and a key file is a mistake."""
    file.write_text(KEY)

    assert ["LATE_API_KEY and --api.key-file: two keys are given; drop one of them"] == problems(
        {"api.key-file": [str(file)]}, WITH_KEY
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"one two", f"not a valid key (its value is not shown); {A_KEY}"),
        (b"k\xc3\xa9y", f"not a valid key (its value is not shown); {A_KEY}"),
        (b"k" * 513, f"not a valid key (its value is not shown); {A_KEY}"),
        (b"k" * 5_000_000, f"not a valid key (its value is not shown); {A_KEY}"),
    ],
    ids=range(5),
)
def test_wrong_key_files(file: Path, content: bytes, reason: str) -> None:
    """A wrong key file is reported without its content."""
    file.write_bytes(content)

    assert [f'LATE_API_KEY_FILE "late.yaml": {reason}'] == problems({}, {"LATE_API_KEY_FILE": "late.yaml"})


@pytest.mark.parametrize(
    ("key", "reason"),
    [(" ", f"is empty; {A_KEY}"), ("one two", f"not a valid key (its value is not shown); {A_KEY}")],
)
def test_wrong_keys(key: str, reason: str) -> None:
    """A wrong key is reported without its value."""
    assert [f"LATE_API_KEY: {reason}"] == problems({}, {"LATE_API_KEY": key})


def test_workspaces(file: Path) -> None:
    """Each workspace has a name, a key file and optionally a base URL."""
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
        (
            "workspaces:",
            [NOT_A_LIST],
        ),
        (
            "workspaces: {}",
            [NOT_A_LIST],
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
            ['late.yaml:2: workspaces[0].api_key_file "key": must be one value'],
        ),
        (
            "workspaces:\n- {name: a, api_key_file: key, api_base_url: 'http://me:pw@x'}",
            [
                f'late.yaml:2: workspaces[0].api_base_url "http://***@x": {USER}',
            ],
        ),
        (
            "workspaces:\n- {name: a, api_key_file: key, profile_id: a b}",
            [
                'late.yaml:2: workspaces[0].profile_id "a b": must be 1 to 200 visible ASCII characters, no whitespace',
            ],
        ),
        (
            "workspaces:\n- {name: a, api_key_file: key, profile_id: null, labels: {team: ~}}",
            [
                'late.yaml:2: workspaces[0].profile_id "null": leave it out to read all profiles',
                "late.yaml:2: workspaces[0].labels: the value of team must be 1 to 100 printable characters, not null",
            ],
        ),
        (
            "workspaces:\n- {name: a, api_key_file: key, profile_id: p}\n- {name: b, api_key_file: key, profile-id: p}",
            [
                'late.yaml:1: workspaces: "a" and "b" have the same API key and profile_id; give each its own one',
            ],
        ),
        (
            "workspaces:\n- {name: a, api_key_file: key, labels: [team]}",
            ['late.yaml:2: workspaces[0].labels "team": must be a mapping'],
        ),
        (
            "workspaces:\n- {name: a, api_key_file: key, labels: {job: x}}",
            [
                f'late.yaml:2: workspaces[0].labels: "job": {NOT_A_LABEL}',
            ],
        ),
        (
            "workspaces:\n- {name: a, api_key_file: key, labels: {team: {x: y}}}",
            ["late.yaml:2: workspaces[0].labels: the value of team must be 1 to 100 printable characters, not null"],
        ),
    ],
    ids=range(14),
)
def test_wrong_workspaces(file: Path, text: str, messages: list[str]) -> None:
    """Mistakes in workspaces are reported with the index of the workspace."""
    (file.parent / "key").write_text(KEY)

    assert messages == file_problems(file, text, {})


def test_profiles_of_a_key(file: Path) -> None:
    """One key serves several workspaces if each has a profile; without profiles they count the same logs."""
    (file.parent / "a").write_text(KEY)
    rows = ["{name: all, api_key_file: a}", "{name: x, api_key_file: a, profile_id: p1}"]
    rows += ["{name: y, api_key_file: a, profile-id: p2}", "{name: again, api_key_file: a}"]

    settings = from_file(file, "workspaces:\n" + "".join(f"- {row}\n" for row in rows), {})

    assert [None, "p1", "p2", None] == [workspace.profile_id for workspace in settings.workspaces]
    assert [("all", "again")] == settings.workspaces_with_same_logs
    assert [] == load_flags().workspaces_with_same_logs
    assert ["p3"] == [workspace.profile_id for workspace in load_flags(**{"api.profile-id": "p3"}).workspaces]


def test_a_profile_beside_workspaces(file: Path) -> None:
    """The profile of a single workspace is rejected if workspaces are listed."""
    (file.parent / "a").write_text(KEY)
    text = "api: {profile-id: p}\nworkspaces: [{name: a, api_key_file: a}]\n"

    assert [
        "late.yaml:1: api.profile-id: drop it, workspaces in late.yaml:2: workspaces have their own"
    ] == file_problems(file, text, {})


def test_workspaces_and_a_key(file: Path) -> None:
    """Setting workspaces and a key is a mistake, and the message says what to drop."""
    (file.parent / "key").write_text(KEY)
    file.write_text("workspaces:\n- {name: a, api_key_file: key}\n")
    drop = "drop it, each workspace in late.yaml:1: workspaces has its own api_key_file"

    assert [f"LATE_API_KEY: {drop}", f"--api.key-file: {drop}"] == problems(
        {"config.file": ["late.yaml"], "api.key-file": ["key"]}, WITH_KEY
    )


@given(key=keys)
def test_settings_never_show_a_key(key: str) -> None:
    """No representation of settings contains a key."""
    settings, other = (load("run", {}, {"LATE_API_KEY": value}) for value in (key, "another"))
    assume(key not in repr(other))

    assert key not in f"{settings!r} {settings} {settings.workspaces[0].key}"


def test_every_option_is_in_the_table() -> None:
    """The table of options in the documentation has one row per option."""
    rows = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text().splitlines()

    assert all(any(f"| `{option.variable}`" in row for row in rows) for option in OPTIONS)
    assert (
        "| `--poll.interval` | `LATE_EXPORTER_POLL__INTERVAL` | `30s` (`demo`: `5s`, `logs`: `5s`) "
        "| run, check, demo, textfile, logs, audit | Time between two polls, with jitter. |"
    ) in rows


def test_options_are_unique_and_explained() -> None:
    """Every option has its own flag or variable, and a help of whole sentences."""
    names = [name for option in OPTIONS for name in (option.flag, option.variable, option.alias) if name]

    assert len(names) == len(set(names))
    assert [] == [option.name for option in OPTIONS if not option.help.endswith(".")]


@pytest.mark.parametrize("option", [option for option in OPTIONS if option.default], ids=lambda option: option.name)
def test_defaults_are_as_they_are_shown(option: Option) -> None:
    """Setting an option to its documented default changes nothing."""
    command = option.commands[0]

    assert load(command, {}, WITH_KEY) == load(command, {option.name: [option.default_for(command) or ""]}, WITH_KEY)


IN_FILES = [option for option in OPTIONS if option.flag and option.name != "config.file"]


@pytest.mark.parametrize("option", IN_FILES, ids=lambda option: option.name)
def test_every_option_has_all_sources(file: Path, option: Option) -> None:
    """Each option is read from flag, variable and file, and a wrong value is reported with its source."""
    wrong = "\u2603"
    file.write_text(json.dumps({option.section: {option.key: wrong}}, ensure_ascii=False))
    command = option.commands[0]
    sources: list[tuple[str, dict[str, list[str]], dict[str, str]]] = [
        (option.flag, {option.name: [wrong]}, {}),
        (option.variable, {}, {option.variable: wrong}),
        (f"late.yaml:1: {option.name}", {"config.file": ["late.yaml"]}, {}),
    ]

    for place, flags, environ in sources:
        messages = problems(flags, (WITH_KEY if option.name != "api.key-file" else {}) | environ, command)
        assert [True] == [text.startswith(f'{place} "{wrong}": ') for text in messages]
