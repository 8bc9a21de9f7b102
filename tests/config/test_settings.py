"""The settings: their sources, values and mistakes. Wrong configurations are tables of input and exact message."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args
from unittest.mock import ANY

import pytest
from pydantic import SecretStr

from late_exporter.config.fields import NOT_A_KEY
from late_exporter.config.options import Option
from late_exporter.config.sections import Incident
from late_exporter.config.settings import ALL_OPTIONS, OPTIONS, Settings, Workspace, restart_only_changes
from late_exporter.config.sources import NO_KEY, load
from late_exporter.config.types import Address
from late_exporter.errors import ConfigError
from late_exporter.metrics.catalogue import CATALOGUE, build_catalogue
from late_exporter.simulator import INCIDENTS
from tests.support.settings import KEY, settings_of

WITH_KEY = {"ZERNIO_API_KEY": KEY}
SECTIONS = "not supported; supported are api, poll, status, state, web, metrics, log, simulate, workspaces"
POLL_OPTIONS = "not supported; supported are interval, lookback, reconcile_interval, late_window, audit_interval, feeds"
API_OPTIONS = "not supported; supported are key_file, base_url, generation, profile_id, timeout, quota_share"
DURATION = "not a duration; write it like 500ms, 30s, 1h30m, 7d or 2w"
ADDRESS = "not an address; write it like :10077, 127.0.0.1:10077, [::1]:10077"
URL = "must be a URL like https://zernio.com/api"
USER = "must not contain a user or password; give the key with ZERNIO_API_KEY or --api.key-file"
STATE = (
    "must be sqlite:///relative/path.db, sqlite:////absolute/path.db, sqlite:// for memory, or"
    " postgresql://user@host/database"
)
NO_POSTGRES = "replicas share a state in PostgreSQL; name its database with --state.url postgresql://user@host/database"
PASSWORD = "must not contain a password; name a file that holds it with --state.password-file or PGPASSFILE"
NOT_A_LABEL = "must be 1 to 64 letters, digits or _, and not workspace, job, instance"
OWN_FILE = (
    "API keys are not read from this file, which others may read; write the key to a file of its"
    " own, and name that file with"
)
KEY_IN_FILE = f"{OWN_FILE} key_file below api, or set ZERNIO_API_KEY"
NOT_SUPPORTED = "not supported; supported are name, api_key_file, api_base_url, profile_id, labels"
DROP = "drop it, each workspace in late.yaml:2: workspaces has its own"
ALIKE = "have the same name, or the same API key and profile_id; give each its own"
NOT_A_NAME = "must be 1 to 64 letters, digits, or _ . -"
NOT_REGULAR = "must be a regular file, because it is read again when it changes"
DELAY = "late_publishing_delay_seconds"
PUBLISHING = "late_publishing_duration_seconds"


def problems(
    flags: Mapping[str, str | Sequence[str]] | None = None, environ: dict[str, str] | None = None, command: str = "run"
) -> list[str]:
    """Return the problems of flags and environment."""
    with pytest.raises(ConfigError) as caught:
        load(command, flags or {}, WITH_KEY if environ is None else environ)
    return list(caught.value.problems)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of ``late.yaml`` in the working directory, beside a key and a secret."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "secret").write_text("whsec_0123456789\n")
    return tmp_path / "late.yaml"


def from_file(file: Path, text: str, environ: dict[str, str] | None = None, command: str = "run") -> Settings:
    """Return settings of a key and a file."""
    file.write_text(text)
    return load(command, {"config.file": "late.yaml"}, WITH_KEY if environ is None else environ)


def file_problems(file: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    """Return the problems of a file."""
    file.write_text(text)
    return problems({"config.file": "late.yaml"}, environ)


def test_flags_win_then_environment_then_file(file: Path) -> None:
    """Flags win over the environment, the environment over the file, and the file over defaults.

    A wrong value that does not win is no mistake.
    """
    file.write_text("poll: {interval: x, lookback: 1d, reconcile_interval: 1h}\napi: {timeout: 1s}\n")
    environ = WITH_KEY | {"LATE_EXPORTER_POLL__INTERVAL": "2s", "LATE_EXPORTER_POLL__LOOKBACK": "2d"}
    environ["LATE_EXPORTER_CONFIG__FILE"] = str(file)
    settings = load("run", {"poll.interval": "3s"}, environ)
    poll = settings.poll
    assert (poll.interval, poll.lookback, poll.reconcile_interval) == (3.0, 172_800.0, 3600.0)
    assert (settings.api.timeout, settings.api.quota_share) == (1.0, 0.5)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_has_all_sources(file: Path, option: Option) -> None:
    """Each option is read from flag, variable and file, and a wrong value is reported with its source.

    Its documented default changes nothing.
    """
    command, wrong = option.commands[0], "\u2603"
    if option.default:
        given = {option.name: option.default_for(command) or ""}
        assert load(command, {}, WITH_KEY) == load(command, given, WITH_KEY)
    if option.secret or option.name == "config.file":
        return
    file.write_text(json.dumps({option.section: {option.key: wrong}}, ensure_ascii=False))
    sources: list[tuple[str, dict[str, str], dict[str, str]]] = [
        (f'{option.flag} "{wrong}', {option.name: wrong}, {}),
        (f'{option.variables[0]} "{wrong}', {}, {option.variables[0]: wrong}),
        (f"late.yaml:1: {option.section}.{option.key} ", {"config.file": "late.yaml"}, {}),
    ]
    for place, flags, environ in sources:
        messages = problems(flags, (WITH_KEY if option.name != "api.key-file" else {}) | environ, command)
        assert [text.startswith(place) for text in messages] == [True]


def test_options_are_unique_and_explained() -> None:
    """Every option has its own flag or variable, and a help of whole sentences."""
    names = [name for option in OPTIONS for name in (option.name, *option.variables)]
    assert len(names) == len(set(names))
    assert [option.name for option in ALL_OPTIONS if not option.help.endswith(".")] == []


def test_no_mistake_in_the_variables() -> None:
    """An empty variable, as in compose files, means the default; variables of Kubernetes are ignored."""
    names = ["SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP_METRICS", "PORT", "PORT_10077_TCP"]
    names += ["PORT_10077_TCP_ADDR", "HEADLESS_SERVICE_HOST"]
    environ = {f"LATE_EXPORTER_{name}": "tcp://10.0.0.1:10077" for name in names}
    environ |= {"LATE_EXPORTER_POLL__INTERVAL": "", "ZERNIO_API_KEY_FILE": ""}
    assert load("run", {}, WITH_KEY | environ).poll.interval == 30.0


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("LATE_EXPORTER_POLL_INTERVAL", "1s", "unknown variable; did you mean LATE_EXPORTER_POLL__INTERVAL?"),
        ("LATE_EXPORTER_API__KEY", "1s", "unknown variable; did you mean ZERNIO_API_KEY?"),
    ],
)
def test_wrong_variables(variable: str, value: str, message: str) -> None:
    """An unknown variable is a mistake."""
    assert problems({}, WITH_KEY | {variable: value}) == [f"{variable}: {message}"]


@pytest.mark.parametrize(
    ("option", "text", "value"),
    [
        ("poll.reconcile-interval", "1y2w3d4h5m6s7ms", 33_019_506.007),
        ("web.listen-address", "[fe80::1%eth0]:80", (Address("fe80::1%eth0", 80),)),
        ("web.listen-address", ":1, [::1]:2", (Address("", 1), Address("::1", 2))),
        ("api.base-url", "https://getlate.dev/api/", "https://getlate.dev/api"),
        ("api.base-url", "https://zernio.com/api/v1/", "https://zernio.com/api"),
        ("api.base-url", "https://zernio.com/v1/api", "https://zernio.com/v1/api"),
        ("api.base-url", "http://[::1]:10078", "http://[::1]:10078"),
        ("state.url", "postgresql://late@[::1],[::1]:5433/late", "postgresql://late@[::1],[::1]:5433/late"),
        ("state.url", "postgresql://?service=late", "postgresql://?service=late"),
    ],
)
def test_values(option: str, text: str, value: object) -> None:
    """A text has the value that is documented."""
    (row,) = (each for each in OPTIONS if each.name == option)
    loaded = load("run", {option: text}, WITH_KEY).value_of(row)
    assert value == (pytest.approx(loaded) if isinstance(loaded, float) else loaded)


def test_values_of_a_file(file: Path) -> None:
    """Numbers, booleans and lists of YAML are accepted; paths of files are beside the file, other paths are not."""
    text = "metrics: {max_accounts: 7, created_timestamps: True}\nweb: {listen_address: [':1', ':2']}"
    settings = from_file(file, f"{text}\nstate: {{url: 'sqlite:///late.db'}}\nlog: {{failures: [connections]}}")
    assert (settings.metrics.max_accounts, settings.metrics.created_timestamps) == (7, True)
    assert settings.web.listen_address == (Address("", 1), Address("", 2))
    assert (settings.state.url, settings.log.failures) == ("sqlite:///late.db", ("connections",))
    file.write_text("api: {key_file: key}")
    loaded = load("run", {"config.file": str(file)}, {})
    assert (file.parent / "key", KEY) == (loaded.workspaces[0].key_file, loaded.workspaces[0].key_text)


@pytest.mark.parametrize("text", ["", "# nothing\n", "poll:\n", "poll: ~\nweb: null\n", "\ufeffpoll: {}\n"])
def test_empty_files(file: Path, text: str) -> None:
    """An empty file or section keeps the defaults."""
    assert from_file(file, text) == settings_of("run").model_copy(update={"config": ANY})


def test_each_command_reads_its_own_options(file: Path) -> None:
    """One file serves all commands: the mistakes in what others read are ignored, and so are keys and workspaces."""
    text = "poll: {interval: x}\nsimulate: {seed: 3}\nworkspaces: 7\n"
    assert from_file(file, text, {}, "simulate").simulate.seed == 3
    settings = load("demo", {}, {"ZERNIO_API_KEY": "a b", "ZERNIO_API_KEY_FILE": "/nowhere"})
    assert (settings.workspaces[0].key, settings.workspaces[0].key_file) == (None, None)
    assert (settings.poll.interval, settings.log.failures, settings.simulate.rate_limit) == (5.0, (), 6000)


def test_state_directory() -> None:
    """The state is in the state directory of systemd unless --state.url is set."""
    environ = WITH_KEY | {"STATE_DIRECTORY": "/var/lib/late"}
    assert load("run", {}, environ).state.url == "sqlite:////var/lib/late/late-exporter.db"
    assert load("run", {"state.url": "sqlite://"}, environ).state.url == "sqlite://"


def test_defaults_of_the_demo() -> None:
    """The demo has the simulated API and a state in memory, whatever the environment sets for other commands."""
    defaults = {"api.base-url": "http://localhost:1/api", "api.key": KEY, "state.url": "sqlite://"}
    environ = {"LATE_EXPORTER_STATE__URL": "sqlite:///real.db", "STATE_DIRECTORY": "/var/lib/late"}
    settings = load("demo", {}, environ, defaults=defaults)
    assert settings.workspaces == (Workspace("default", "http://localhost:1/api", SecretStr(KEY)),)
    assert (settings.secrets, settings.state.url) == ((KEY,), "sqlite://")


def test_changes_that_take_a_restart(file: Path) -> None:
    """Changed options that take a restart are named; another content of a file with a secret takes none."""
    old = settings_of("run", state__url="postgresql://db/late", state__password_file="secret")
    (file.parent / "secret").write_text("another")
    flags = {"state__url": "postgresql://db/late", "poll__interval": "1s", "log__level": "debug"}
    assert restart_only_changes(old, settings_of("run", state__password_file="secret", **flags)) == []
    new = settings_of("run", state__password_file="key", poll__feeds="publishing", **flags)
    assert restart_only_changes(old, new) == ["poll.feeds", "state.password-file"]


WRONG = [
    ("poll.interval", "5x", f' "5x": {DURATION}'),
    ("status.feeds", "post", " \"post\": must be 'posts', 'accounts', 'webhooks' or 'billing'"),
    ("poll.feeds", "", ' "": must name at least one'),
    ("api.quota-share", "50%", ' "50%": must be a valid number, unable to parse string as a number'),
    ("api.base-url", "getlate.dev/api", f' "getlate.dev/api": {URL}'),
    (
        "api.base-url",
        "http://127.0.0.1.nip.io",
        ' "http://127.0.0.1.nip.io": must begin with https://; plain http is allowed for loopback addresses only',
    ),
    ("api.base-url", "https://me:secret@getlate.dev", f": {USER}"),
    ("api.base-url", "https://late.dev?key=secret", ": must not contain a query or fragment"),
    ("api.key-file", "/nowhere/key", ' "/nowhere/key": No such file or directory'),
    ("state.url", "postgresql://me:sec/ret@db/late", f": {PASSWORD}"),
    ("state.url", "postgresql://db/late?p%61ssword=secret", f": {PASSWORD}"),
    ("state.url", "sqlite://late.db", f' "sqlite://late.db": {STATE}'),
    ("state.replicas", "true", f' "true": {NO_POSTGRES}'),
    ("web.listen-address", "10077", f' "10077": {ADDRESS}'),
    ("web.listen-address", ":1,:1", ' ":1,:1": :1 is given twice'),
    ("web.unauthenticated-paths", "ok", ' "ok": must begin with / and contain only letters, digits and - . _ ~ /'),
    ("web.telemetry-path", "/", ' "/": must not be one of /, /config, /-/healthy, /-/ready, /-/reload, /-/quit'),
    ("metrics.buckets", f"{DELAY}=2,1", ' "2,1": must be in ascending order, each bound once'),
    (
        "metrics.disable",
        "late_publishing_log_total",
        ' "late_publishing_log_total": is not a family of the exporter; did you mean late_publishing_logs_total?',
    ),
]


@pytest.mark.parametrize(("option", "text", "message"), WRONG)
def test_wrong_values(option: str, text: str, message: str) -> None:
    """A wrong value is reported with its flag and the allowed values."""
    environ = {} if option == "api.key-file" else WITH_KEY
    assert problems({option: text}, environ) == [f"--{option}{message}"]


def test_incidents() -> None:
    """The incidents are those of the simulator."""
    assert get_args(Incident) == tuple(INCIDENTS)


def test_all_mistakes_at_once(file: Path) -> None:
    """All mistakes of all sources are reported at once, each with its place."""
    file.write_text("pol: {}\npoll: {intervall: 1s, lookback: 1}\n")
    flags = {"config.file": "late.yaml", "web.listen-address": ["a", ":1", "b"]}
    assert problems(flags, {"LATE_EXPORTER_POL__INTERVAL": "1s", "LATE_EXPORTER_API__TIMEOUT": "0"}) == [
        "LATE_EXPORTER_POL__INTERVAL: unknown variable; did you mean LATE_EXPORTER_POLL__INTERVAL?",
        f"late.yaml:1: pol: {SECTIONS}",
        f"late.yaml:2: poll.intervall: {POLL_OPTIONS}",
        NO_KEY,
        'LATE_EXPORTER_API__TIMEOUT "0": must be at least 1ms and at most 100y',
        f'late.yaml:2: poll.lookback "1": {DURATION}',
        f'--web.listen-address "a": {ADDRESS}',
        f'--web.listen-address "b": {ADDRESS}',
    ]


FILES = [
    ("- poll", "late.yaml: must be a mapping of sections"),
    ("poll: 30s", "late.yaml:1: poll: must be a mapping of options"),
    ("poll:\n  interval: [30s]", 'late.yaml:2: poll.interval "30s": must be one value'),
    ("poll:\n  feeds: {a: b}", "late.yaml:2: poll.feeds: must be one value or a list of values"),
    ("api:\n  key: sk_0123", f"late.yaml:2: api.key: {KEY_IN_FILE}"),
    ("api:\n  api_key: sk_0123", f"late.yaml:2: api.api_key: {KEY_IN_FILE}"),
    ("api.key: sk_0123", f"late.yaml:1: api.key: {KEY_IN_FILE}"),
    ("api_key: sk_0123", f"late.yaml:1: api_key: {KEY_IN_FILE}"),
    ("ZERNIO_API_KEY: sk_0123", f"late.yaml:1: ZERNIO_API_KEY: {KEY_IN_FILE}"),
    ("poll.interval: 60s", "late.yaml:1: poll.interval: not supported; write interval below poll"),
    (
        "poll.audit-interval: 1h",
        "late.yaml:1: poll.audit-interval: not supported; write audit_interval below poll",
    ),
    (
        "web.config.file: web.yml",
        "late.yaml:1: web.config.file: not supported; write config_file below web",
    ),
    ("poll.intervall: 60s", f"late.yaml:1: poll.intervall: {SECTIONS}"),
    ("config.file: a.yml", f"late.yaml:1: config.file: {SECTIONS}"),
    ("api:\n  keyfile:sk_0123: x", f"late.yaml:2: api.keyfile***: {API_OPTIONS}"),
    (f"{KEY}: x", f"late.yaml:1: ***: {SECTIONS}"),
    ("poll: {}\npoll: {}", "late.yaml:2:1: not valid YAML: poll is given twice"),
    ("poll: {~: 60s}", "late.yaml:1:8: not valid YAML: a name is missing before the colon"),
    ("poll: {interval: 1s", "late.yaml:1:20: not valid YAML: expected ',' or '}', but got '<stream end>'"),
    ("[" * 1000, "late.yaml: not valid YAML: nested too deeply, or a character or number is out of range"),
    ("# " + "x" * (1 << 20), "late.yaml: larger than 1 MiB"),
]


@pytest.mark.parametrize(("text", "message"), FILES, ids=range(len(FILES)))
def test_wrong_files(file: Path, text: str, message: str) -> None:
    """A mistake in the file is reported with its line, invalid YAML also with its column."""
    assert file_problems(file, text) == [message]


def test_unreadable_files() -> None:
    """A file that cannot be read is reported with the reason, and without a missing key."""
    for path, reason in (("gone", "No such file or directory"), ("/", NOT_REGULAR)):
        assert problems({}, {"LATE_EXPORTER_CONFIG__FILE": path}) == [f'LATE_EXPORTER_CONFIG__FILE "{path}": {reason}']


@pytest.mark.parametrize("key", [KEY, "zrk_" + "4f1d8c6b" * 8])
@pytest.mark.parametrize(
    "text",
    [
        "api: {{key_file: {}}}",
        "{}: x",
        "poll: {{interval: {}}}",
        "api: {{base_url: 'http://example.org/{}'}}",
        "workspaces: [{{name: a, api_key_file: {}}}]",
        "workspaces: [{{name: '{} x', api_key_file: late.key}}]",
        "web: {{config_file: {}}}",
    ],
)
def test_keys_in_wrong_places_are_masked(file: Path, text: str, key: str) -> None:
    """A key that was put in the wrong place of the file is not repeated by the message about it."""
    messages = file_problems(file, text.format(key), environ={"ZERNIO_API_KEY": "other"})
    assert messages
    assert [message for message in messages if key[4:16] in message] == []


def test_settings_never_show_a_key() -> None:
    """No representation of settings contains a key."""
    settings = settings_of("run")
    assert settings.secrets == (KEY,)
    assert KEY not in f"{settings!r} {settings} {settings.workspaces[0].key}"


def test_key_by_its_other_name() -> None:
    """The key may be set by the older name, unless the newer one is set."""
    other = "sk_" + "e" * 64
    for environ in ({"LATE_API_KEY": f" {KEY}\n"}, {"ZERNIO_API_KEY": KEY, "LATE_API_KEY": KEY}):
        assert load("run", {}, environ).workspaces[0].key_text == KEY
    assert load("run", {}, {"ZERNIO_API_KEY": other, "LATE_API_KEY": KEY}).workspaces[0].key_text == other


@pytest.mark.usefixtures("file")
def test_one_key() -> None:
    """Setting no key, or a key and a key file, is a mistake; a flag wins over the variable of a key file."""
    for command in ("run", "check", "logs"):
        assert problems({}, {}, command) == [NO_KEY]
    flags, drop = {"api.key-file": "key"}, "two keys are given; drop one of them"
    assert problems(flags, WITH_KEY) == [f"ZERNIO_API_KEY and --api.key-file: {drop}"]
    (workspace,) = load("run", flags, {"ZERNIO_API_KEY_FILE": "/nowhere"}).workspaces
    assert (KEY, Path("key")) == (workspace.key_text, workspace.key_file)


@pytest.mark.parametrize("content", [b"", b"one two", b"k\xc3\xa9y", b"k" * 513, b"k" * 5_000_000], ids=range(5))
def test_wrong_keys(file: Path, content: bytes) -> None:
    """A wrong key is reported without its value."""
    (file.parent / "key").write_bytes(content)
    assert problems({}, {"ZERNIO_API_KEY_FILE": "key"}) == [f'ZERNIO_API_KEY_FILE "key": {NOT_A_KEY}']
    assert problems({}, {"ZERNIO_API_KEY": "one two"}) == [f"ZERNIO_API_KEY: {NOT_A_KEY}"]


def test_workspaces(file: Path) -> None:
    """Each workspace has a name, a key file and optionally a base URL, a profile and labels."""
    rows = ["{name: all, api_key_file: key}", "{name: 12, api_key_file: key, api_base_url: http://localhost:1}"]
    rows += ["{name: y, api_key_file: key, profile_id: p1, labels: {team: x y}}"]
    settings = from_file(file, "workspaces:\n" + "".join(f"- {row}\n" for row in rows), {})
    first, second, third = settings.workspaces
    assert ("all", "https://zernio.com/api", Path("key"), KEY) == (*first[:2], first.key_file, first.key_text)
    assert (*second[:2], third.profile_id, third.labels) == ("12", "http://localhost:1", "p1", (("team", "x y"),))
    assert settings_of("run", api__profile_id="p3").workspaces[0].profile_id == "p3"


WORKSPACES = [
    ("workspaces: {}", "1: workspaces: must be a list"),
    ("workspaces:\n- a", '2: workspaces[0] "a": must be a mapping'),
    ("workspaces:\n- {}", "2: workspaces[0]: name is missing\n2: workspaces[0]: api_key_file is missing"),
    *(
        (f"workspaces:\n- {{name: a, api_key_file: key, {more}}}", f"2: workspaces[0].{message}")
        for more, message in (
            ("profile: x", f"profile: {NOT_SUPPORTED}"),
            ("api_key: sk_0123", f"api_key: {OWN_FILE} api_key_file"),
            ("api_base_url: 'http://me:pw@x'", f"api_base_url: {USER}"),
            ("labels: {team: ~}", "labels.team: must be one value"),
            ("labels: {team: ''}", 'labels.team "": must be 1 to 100 printable characters'),
            ("labels: {job: x}", f'labels.job "job": {NOT_A_LABEL}'),
        )
    ),
    (
        "workspaces:\n- {name: a b, api_key_file: key}\n- {name: b, api_key_file: gone}",
        f'2: workspaces[0].name "a b": {NOT_A_NAME}\n3: workspaces[1].api_key_file "gone": No such file or directory',
    ),
    (
        "workspaces:\n- {name: a, api_key_file: key}\n- {name: a, api_key_file: secret}",
        f'1: workspaces: "a" and "a" {ALIKE}',
    ),
    (
        "workspaces:\n- {name: a, api_key_file: key}\n- {name: b, api_key_file: key}",
        f'1: workspaces: "a" and "b" {ALIKE}',
    ),
    (
        "api: {profile_id: p, key_file: key}\nworkspaces: [{name: a, api_key_file: key}]\n",
        f"1: api.key_file: {DROP}\n1: api.profile_id: {DROP}",
    ),
]


@pytest.mark.parametrize(("text", "messages"), WORKSPACES, ids=range(len(WORKSPACES)))
def test_wrong_workspaces(file: Path, text: str, messages: str) -> None:
    """Mistakes in workspaces are reported with the index of the workspace."""
    assert messages.splitlines() == [each.removeprefix("late.yaml:") for each in file_problems(file, text, {})]


def test_buckets(file: Path) -> None:
    """Buckets are set by histogram; an unknown one is a mistake that lists the others."""
    for buckets in (f"{{{PUBLISHING}: [0.5, 1, 2], {DELAY}: '1,3'}}", f"'{PUBLISHING}=0.5,1,2,{DELAY}=1,3'"):
        catalogue = build_catalogue(from_file(file, f"metrics: {{buckets: {buckets}}}").metrics.buckets)
        assert (catalogue[PUBLISHING].buckets, catalogue[DELAY].buckets) == ((0.5, 1.0, 2.0), (1.0, 3.0))
        assert CATALOGUE["late_exporter_log_lag_seconds"] == catalogue["late_exporter_log_lag_seconds"]
    [problem] = problems({"metrics.buckets": "late_up=1"})
    assert problem.startswith(f'--metrics.buckets "late_up": is not a histogram; these are {PUBLISHING}, ')
