import contextlib
import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from late_exporter import __revision__, __version__, cli, log
from late_exporter.commands.catalogue import COMMANDS, Command
from late_exporter.commands.healthcheck import quick_target
from late_exporter.config.settings import ALL_OPTIONS, CommandContext, Settings
from late_exporter.config.types import Address
from late_exporter.errors import ConfigError, LateError, StoreError
from late_exporter.metrics.catalogue import CATALOGUE

KEY = "sk_" + "0123456789abcdef" * 4
FILE, ADDRESS = "LATE_EXPORTER_CONFIG__FILE", "LATE_EXPORTER_WEB__LISTEN_ADDRESS"

keys = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=26, max_size=80)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a key and 80 columns."""
    for variable in [name for name in os.environ if name.startswith(("LATE_", "ZERNIO_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("ZERNIO_API_KEY", KEY)
    monkeypatch.setenv("COLUMNS", "80")


class ProgramRun:
    """A run of the program: exit code, both outputs, and the settings of the called command."""

    def __init__(self, *argv: str, act: Callable[[Settings], int] = lambda _: 0) -> None:
        self.calls: list[tuple[str, Settings]] = []
        out, err = io.StringIO(), io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            patch.setattr(Command, "load", lambda command: self._function(command.name, act))
            self.code = cli.main(argv)
        self.out, self.err = out.getvalue(), err.getvalue()

    def _function(self, name: str, act: Callable[[Settings], int]) -> Callable[[CommandContext], int]:
        def function(call: CommandContext) -> int:
            assert call.settings == call.reload_settings()
            self.calls.append((name, call.settings))
            return act(call.settings)

        return function

    @property
    def problems(self) -> list[str]:
        """Lines of standard error without their prefix."""
        lines = self.err.splitlines()
        assert all(line.startswith("late-exporter: error: ") for line in lines)
        return [line.removeprefix("late-exporter: error: ") for line in lines]


@pytest.mark.parametrize(
    ("line", "name", "interval"),
    [
        ("", "run", 30.0),
        ("demo", "demo", 5.0),
        ("run --poll.interval 5s", "run", 5.0),
        ("--poll.interval=5s", "run", 5.0),
    ],
)
def test_commands(line: str, name: str, interval: float) -> None:
    """A command receives its settings; without a command it is run. A flag and its value are two words or one."""
    run = ProgramRun(*line.split())

    assert (run.code, run.out, run.err) == (0, "", "")
    assert [(each, settings.poll.interval) for each, settings in run.calls] == [(name, interval)]


WRONG = [
    (["statuss"], "No such command 'statuss'; did you mean status?"),
    (["chek"], "No such command 'chek'; did you mean check?"),
    (["acounts"], "No such command 'acounts'; did you mean accounts?"),
    (["rnu"], "No such command 'rnu'; did you mean run?"),
    (["publish"], "No such command 'publish'; --help lists the commands"),
    (["run", "away"], "Got unexpected extra argument (away)"),
    (["run", "--config.file", "a", "--poll.interval", "5s", "run"], "Got unexpected extra argument (run)"),
    (["post"], "Missing argument 'POST_ID'."),
    (["state"], "Missing command."),
    (["state", "inf"], "No such command 'inf'; did you mean info?"),
    (["state", "drop"], "No such command 'drop'; --help lists the commands"),
    (["--poll.interval"], "Option '--poll.interval' requires an argument."),
    (["--once=7"], "Option '--once' does not take a value."),
    (["logs", "--limit", "-1"], '--limit "-1": must be greater than or equal to 0'),
    (["logs", "--since", "91d"], '--since "91d": must be at least 1s and at most 90d'),
    (["post", "a", "--format", "csv"], "Invalid value for '--format': 'csv' is not one of 'text', 'json'."),
]


@pytest.mark.parametrize(("argv", "message"), WRONG, ids=range(len(WRONG)))
def test_wrong_command_lines(argv: list[str], message: str) -> None:
    """A wrong command line gives one message, and exit code 2."""
    run = ProgramRun(*argv)

    assert (run.code, run.out, run.problems, run.calls) == (2, "", [message], [])


@pytest.mark.parametrize("flag", ["--poll.intervall", "--api.key", "--simulate.seed", "-v"])
def test_unknown_flags(flag: str) -> None:
    """A flag that the command does not have is named; click suggests similar ones."""
    run = ProgramRun("run", f"{flag}={KEY}")

    assert (run.code, run.out, len(run.problems), run.calls) == (2, "", 1, [])
    assert run.problems[0].startswith("No such option")
    assert flag in run.problems[0]


@pytest.mark.parametrize("columns", ["60", "80", "200"])
@pytest.mark.parametrize("command", COMMANDS)
def test_help(monkeypatch: pytest.MonkeyPatch, command: str, columns: str) -> None:
    """Help lists the options of the command and no other, fits the terminal, and has examples that can be copied.

    It is printed even if the configuration is wrong.
    """
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("LATE_EXPORTER_POLL__INTERVAL", "x")
    run = ProgramRun(*command.split(), "--help")
    examples = [f"  late-exporter {line}" for line, _ in COMMANDS[command].examples]
    lines = run.out.splitlines()
    assert (run.code, run.err, run.calls) == (0, "", [])
    assert examples
    assert [line for line in examples if line not in lines] == []
    assert [line for line in lines if len(line) > min(int(columns), 100) and line not in examples] == []
    names = re.findall(r"^  (?:-\w, )?(--[a-z-]+(?:\.[a-z-]+)*)(?= |$)", run.out, re.MULTILINE)
    flags = [option.flag for option in ALL_OPTIONS if option.flag and command in option.commands]
    assert {*flags, "--help"} == {*names}


def test_help_of_the_program_names_the_commands() -> None:
    """The help of the program lists all commands, and the exit codes."""
    out = ProgramRun("--help").out
    assert out.startswith("Usage: late-exporter [OPTIONS] COMMAND [ARGS]...\n")
    assert [name for name, command in COMMANDS.items() if f"\n  {name:<12}  {command.summary[:30]}" not in out] == []
    assert "\n  2  Wrong usage or configuration." in out
    assert ProgramRun("--once", "--help").out == ProgramRun("run", "--help").out
    assert "Copy the state to a file" in ProgramRun("state", "--help").out


@pytest.mark.parametrize("argv", [["--version"], ["-V", "--help"]], ids=str)
def test_version(argv: list[str]) -> None:
    """The version is printed with its revision, as by Prometheus."""
    assert ProgramRun(*argv).out == f"late-exporter, version {__version__} (revision: {__revision__})\n"


def test_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    """The catalogue has a line per family, whose columns are aligned."""
    assert cli.main(["metrics"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert [row[head.index("MEANING") :] for row in rows] == [family.help for family in CATALOGUE.values()]
    assert [row[: head.index("TYPE")].rstrip() for row in rows] == list(CATALOGUE)


@pytest.mark.parametrize(
    ("words", "environ", "target"),
    [
        ([], {}, (Address("", 10077), False)),
        (["--web.listen-address=:4,:5"], {ADDRESS: ":3"}, (Address("", 4), False)),
        (["--web.listen-address", "[::1]:1"], {"LATE_EXPORTER_WEB__CONFIG_FILE": "tls.yml"}, (Address("::1", 1), True)),
        ([], {"LATE_EXPORTER_WEB__CONFIG_FILE": "users.yml"}, (Address("", 10077), False)),
        (["--web.listen-address", "1"], {}, None),
        (["--web.config.file", "tls.yml"], {}, None),
        ([], {FILE: "late.yml"}, None),
    ],
)
def test_the_health_check_reads_the_address_itself(
    words: list[str], environ: dict[str, str], target: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flag, variable or default give the address, and whether TLS may be in use; everything else needs the settings."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tls.yml").write_text("tls_server_config: {cert_file: a}")
    (tmp_path / "users.yml").write_text("basic_auth_users: {}")
    assert target == quick_target(words, environ)


def failing(error: BaseException) -> Callable[[Settings], int]:
    """Return a command that fails."""

    def command(_: Settings) -> int:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "messages"),
    [
        (StoreError("late.db: database is locked"), 1, ["late.db: database is locked"]),
        (LateError("two\nlines"), 1, ["two\\nlines"]),
        (LateError(f"refused {KEY}"), 1, ["refused [redacted]"]),
        (ConfigError("a", "b"), 2, ["a", "b"]),
        (KeyboardInterrupt(), 1, []),
    ],
    ids=lambda value: type(value).__name__,
)
def test_failures_have_no_traceback(error: BaseException, code: int, messages: list[str]) -> None:
    """A failure at run time is one line, and the exit code depends on its kind."""
    run = ProgramRun(act=failing(error))

    assert (code, messages) == (run.code, run.problems)


def test_a_bug() -> None:
    """A bug ends the command with exit code 1 and one entry in the log, with its redacted traceback."""
    run = ProgramRun("--log.format", "json", act=failing(RuntimeError(f"oops {KEY}")))
    fields = json.loads(run.err)
    assert (run.code, fields["msg"]) == (1, "this is a bug, please report it")
    assert fields["exception"].startswith("Traceback (most recent call last):\n")
    assert fields["exception"].endswith("RuntimeError: oops [redacted]")


def test_keys_are_redacted_from_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys of all workspaces are registered before the command runs."""
    monkeypatch.delenv("ZERNIO_API_KEY")
    (tmp_path / "a").write_text("first-key-of-two")
    (tmp_path / "b").write_text("second-key-of-two")
    (tmp_path / "late.yaml").write_text(
        "workspaces: [{name: a, api_key_file: a}, {name: b, api_key_file: b}]\nlog: {level: debug}\n"
    )

    def act(_: Settings) -> int:
        log.get_logger("x").debug("first-key-of-two and second-key-of-two")
        return 0

    assert '"[redacted] and [redacted]"' in ProgramRun("--config.file", f"{tmp_path}/late.yaml", act=act).err


@pytest.mark.parametrize("key", ["sk_" + "4f1d8c6b" * 8, "zrk_" + "4f1d8c6b" * 8])
@pytest.mark.parametrize(
    "words",
    ["run --api.key-file {}", "check --api.key-file={}", "run --{}", "{}", "run {}"],
)
def test_a_key_in_the_place_of_its_file(words: str, key: str) -> None:
    """A key on the command line, which no environment tells the program about, is rejected and not repeated."""
    run = ProgramRun(*words.format(key).split())

    assert (run.code, bool(run.problems)) == (2, True)
    assert key[4:16] not in run.err + run.out


@given(key=keys)
def test_no_output_holds_a_key(key: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No output contains a key, wherever it was set by mistake."""
    folder = tmp_path_factory.mktemp("keys")
    (folder / "key").write_text(f"{key} {key}")
    (folder / "late.yaml").write_text(f"api: {{key: {json.dumps(key)}, key_file: {json.dumps(key)}}}\n")
    lines = [
        [],
        ["run", f"--api.kye={key}"],
        [f"--{key}"],
        ["--api.base-url", f"http://me:{key}@late.dev"],
        ["--config.file", f"{folder}/late.yaml"],
        ["metrics", key],
    ]
    outputs = []
    for environ in ({"ZERNIO_API_KEY": key}, {"ZERNIO_API_KEY": f"{key} {key}"}, {"LATE_EXPORTER_API__KEY": key}):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environ.items():
                patch.setenv(name, value)
            outputs += [ProgramRun(*argv, act=failing(LateError(f"says {key}"))) for argv in lines]

    assert [run.err for run in outputs if key in run.out + run.err] == []
