import contextlib
import io
import json
import logging
import os
import platform
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from late_exporter import __revision__, __version__, cli, log
from late_exporter.cli.program import CommandFunction
from late_exporter.config.commands import COMMANDS
from late_exporter.config.flags import COMMAND_FLAGS
from late_exporter.config.settings import OPTIONS, CommandContext, Settings
from late_exporter.errors import ConfigError, LateError, StoreError
from late_exporter.metrics.catalogue import CATALOGUE

KEY = "sk_" + "0123456789abcdef" * 4
FILE = "LATE_EXPORTER_CONFIG__FILE"

keys = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=26, max_size=80)


@pytest.fixture(autouse=True)
def clean_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give each test a key, 80 columns and its own logging."""
    for variable in [name for name in os.environ if name.startswith("LATE_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("LATE_API_KEY", KEY)
    monkeypatch.setenv("COLUMNS", "80")
    root, access = logging.getLogger(), logging.getLogger("uvicorn.access")
    handlers, level, disabled = root.handlers, root.level, access.disabled
    yield
    root.handlers, access.disabled = handlers, disabled
    root.setLevel(level)


class ProgramRun:
    """A run of the program: exit code, both outputs, and the settings of the called command."""

    def __init__(self, *argv: str, act: Callable[[Settings], int] = lambda _: 0) -> None:
        self.calls: list[tuple[str, Settings]] = []
        commands = {name: self._command(name, act) for name in COMMANDS if name != "metrics"}
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            self.code = cli.main(argv, commands)
        self.out, self.err = out.getvalue(), err.getvalue()

    def _command(self, name: str, act: Callable[[Settings], int]) -> CommandFunction:
        def command(call: CommandContext) -> int:
            assert call.settings == call.reload_settings()
            self.calls.append((name, call.settings))
            return act(call.settings)

        return command

    @property
    def problems(self) -> list[str]:
        """Lines of standard error without their prefix."""
        lines = self.err.splitlines()
        assert all(line.startswith("late-exporter: error: ") for line in lines)
        return [line.removeprefix("late-exporter: error: ") for line in lines]


@pytest.mark.parametrize("argv", [[], ["run"], ["demo"], ["simulate"], ["check"], ["healthcheck"], ["logs"]], ids=str)
def test_commands(argv: list[str]) -> None:
    """A command receives its settings; the default command is run."""
    run = ProgramRun(*argv)

    assert (0, "", "") == (run.code, run.out, run.err)
    assert (argv or ["run"]) == [name for name, _ in run.calls]


@pytest.mark.parametrize(
    "argv",
    [
        ["--poll.interval", "5s", "run"],
        ["run", "--poll.interval=5s"],
        ["--poll.interval=5s"],
    ],
    ids=str,
)
def test_flags(argv: list[str]) -> None:
    """A flag and its value are two arguments or one, before the command or after it."""
    assert 5.0 == ProgramRun(*argv).calls[0][1].poll.interval


@pytest.mark.parametrize(
    ("argv", "enabled"),
    [
        ([], False),
        (["--metrics.created-timestamps"], True),
        (["--metrics.created-timestamps", "run"], True),
        (["--metrics.created-timestamps=true"], True),
        (["--metrics.created-timestamps", "false"], False),
        (["--no-metrics.created-timestamps"], False),
    ],
    ids=str,
)
def test_boolean_flags(argv: list[str], enabled: bool) -> None:  # noqa: FBT001 - the expected value
    """A boolean flag needs no value, accepts one, and has a negation."""
    assert enabled == ProgramRun(*argv).calls[0][1].metrics.created_timestamps


def test_repeated_flags() -> None:
    """The flag of a list may be repeated."""
    addresses = ProgramRun("--web.listen-address", ":1", "--web.listen-address=[::1]:2").calls[0][1].web.listen_address

    assert [":1", "[::1]:2"] == [str(address) for address in addresses]


NAMES = ", ".join(COMMANDS)
COMMANDS_OF = {option.flag: ", ".join(option.commands) for option in (*OPTIONS, *COMMAND_FLAGS)}
SIMULATE_ADDRESS = "--web.listen-address: not an option of simulate; did you mean --simulate.listen-address?"
WRONG = [
    (["rnu"], 'unknown command "rnu"; did you mean run?'),
    (["fly"], f'unknown command "fly"; commands are {NAMES}'),
    (["fly", "--help"], f'unknown command "fly"; commands are {NAMES}'),
    (["run", "away"], 'unexpected argument "away"'),
    (["run", "x" * 25], "unexpected argument of 25 characters"),
    (["--poll.intervall", "5s"], 'unknown flag "--poll.intervall"; did you mean --poll.interval?'),
    (["--pol.interval=5s"], 'unknown flag "--pol.interval"; did you mean --poll.interval?'),
    (["logs", "--sinc", "1d"], 'unknown flag "--sinc"; did you mean --since?'),
    (["--sinc", "1d", "check"], 'unknown flag "--sinc"'),
    (["run", "--poll.foo", "1"], 'unknown flag "--poll.foo"'),
    (["run", "--config", "late.yml"], 'unknown flag "--config"; did you mean --config.file?'),
    (["-v"], 'unknown flag "-v"; did you mean --log.level debug?'),
    (["help", "lgos"], f'unknown command "lgos"; commands are {NAMES}'),
    (["simulate", "--web.listen-address", ":1"], SIMULATE_ADDRESS),
    (["--"], 'unknown flag "--"'),
    (["--poll.interval"], "--poll.interval: needs a value: --poll.interval DURATION"),
    (["--poll.interval", "--log.level", "debug"], "--poll.interval: needs a value: --poll.interval DURATION"),
    (["--metrics.max-accounts", "-1"], '--metrics.max-accounts "-1": must be a whole number of at least 0'),
    (["--metrics.created-timestamps=on"], '--metrics.created-timestamps "on": must be true or false'),
    (["--log.level", "info", "--log.level", "info"], "--log.level: given 2 times"),
    (["--simulate.seed", "1"], "--simulate.seed: not an option of run, but of demo, simulate"),
    (
        ["simulate", "--poll.interval", "1s"],
        f"--poll.interval: not an option of simulate, but of {COMMANDS_OF['--poll.interval']}",
    ),
    (
        ["demo", "--api.key-file", "/nowhere"],
        f"--api.key-file: not an option of demo, but of {COMMANDS_OF['--api.key-file']}",
    ),
    (["--format", "json"], f"--format: not an option of run, but of {COMMANDS_OF['--format']}"),
    (["check", "--follow"], "--follow: not an option of check, but of logs"),
    (["post"], "POST_ID is missing"),
    (["logs", "--since", "91d"], '--since "91d": must be at least 1s and at most 90d'),
    (["post", "a", "--format", "table"], '--format "table": must be one of text, json'),
    (
        ["metrics", "--log.level", "info"],
        f"--log.level: not an option of metrics, but of {COMMANDS_OF['--log.level']}",
    ),
    (
        ["--api.key", KEY],
        "--api.key: no such flag, because other users could read it; set LATE_API_KEY or --api.key-file",
    ),
    (["check", "--web.listen-address=unix:\udcff", "--format", "json"], "--web.listen-address: not UTF-8"),
    (["logs", "--follow", "\udcff"], "argument 3: not UTF-8"),
    (["--\udcff=1", "logs"], "argument 1: not UTF-8"),
]


@pytest.mark.parametrize(("argv", "message"), WRONG, ids=range(len(WRONG)))
def test_wrong_command_lines(argv: list[str], message: str) -> None:
    """A wrong command line gives one message, and exit code 2."""
    run = ProgramRun(*argv)

    assert (2, "", [message], []) == (run.code, run.out, run.problems, run.calls)


def test_all_mistakes_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Mistakes of the command line, the environment and the file are reported together, one per line."""
    (tmp_path / "late.yaml").write_text("poll: {lookback: 1}")
    monkeypatch.setenv("LATE_EXPORTER_API__TIMEOUT", "0")
    monkeypatch.chdir(tmp_path)

    run = ProgramRun("--config.file", "late.yaml", "--zzz", "1s", "--poll.interval", "5\n", "away", "--log.level=")

    duration = "not a duration; write it like 500ms, 30s, 1h30m, 7d or 2w"
    assert [
        'unknown flag "--zzz"',
        f'unknown command "away"; commands are {NAMES}',
    ] == run.problems
    assert [
        'unknown flag "--poll.feed"; did you mean --poll.feeds?',
        'LATE_EXPORTER_API__TIMEOUT "0": must be at least 1ms and at most 100y',
        f'--poll.interval "5\\n": {duration}',
        f'late.yaml:1: poll.lookback "1": {duration}',
        '--log.level "": must be one of debug, info, warn, error',
    ] == ProgramRun(
        "--config.file", "late.yaml", "--poll.feed", "1s", "--poll.interval", "5\n", "--log.level="
    ).problems


@pytest.mark.parametrize("command", ["", *COMMANDS])
@pytest.mark.parametrize("columns", ["60", "80", "200"])
def test_help_fits(monkeypatch: pytest.MonkeyPatch, command: str, columns: str) -> None:
    """Help fits the terminal, and is at most 100 columns wide."""
    monkeypatch.setenv("COLUMNS", columns)
    run = ProgramRun(*command.split(), "--help")

    assert (0, "", []) == (run.code, run.err, run.calls)
    assert [] == [line for line in run.out.splitlines() if len(line) > min(int(columns), 100)]


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "metrics"])
def test_help_names_every_option(command: str) -> None:
    """Help lists every option of the command, and none of other commands."""
    words = ProgramRun(command, "--help-all").out.replace(",\n", ", ").split()

    for option in OPTIONS:
        assert (command in option.commands) == (option.variable in words)
        assert (command in option.commands and bool(option.flag)) == (option.flag in words)


@pytest.mark.parametrize("columns", ["1", "40", "60", "100"])
@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_every_example(monkeypatch: pytest.MonkeyPatch, command: str, columns: str) -> None:
    """An example can be copied into a shell at any width of the terminal."""
    monkeypatch.setenv("COLUMNS", columns)
    shell = re.sub(r" \\\n +", " ", ProgramRun(command, "--help").out)

    assert COMMANDS[command].examples
    assert [] == [line for line, _ in COMMANDS[command].examples if f"\n  late-exporter {line}\n" not in shell]


def test_help_explains_eight_options() -> None:
    """Of the many options, the help of the program explains those that most users need."""
    out = ProgramRun("--help").out
    explained = [line.split()[0] for line in out.splitlines() if line.startswith("  --") and ", --help" not in line]

    assert [
        "--once", "--config.file", "--api.key-file", "--poll.interval", "--poll.lookback", "--state.url",
        "--web.listen-address", "--web.config.file", "--log.level",
    ] == explained  # fmt: skip
    assert "\nFurther options, which --help-all explains:\n  api\n      LATE_API_KEY, --api.base-url" in out


@pytest.mark.parametrize("argv", [["help"], ["help", "run"], ["help", "logs"], ["help", "help"]], ids=str)
def test_help_is_a_command(argv: list[str]) -> None:
    """The words after help choose the command whose help is printed."""
    assert ProgramRun(*argv).out == ProgramRun(*argv[1:], "--help").out != ""


def test_help_of_the_program_names_the_commands() -> None:
    """The help of the program lists all commands."""
    out = ProgramRun("--help").out

    assert out.startswith("Usage: late-exporter [OPTIONS] [COMMAND] [ARGS]...\n")
    assert [] == [name for name, command in COMMANDS.items() if f"\n  {name:<11}  {command.help[:30]}" not in out]


@pytest.mark.parametrize(
    ("command", "flag", "help_text"),
    [
        ("status", "--user NAME", "User name for the basic authentication of the exporter."),
        ("post", "--workspace NAME", "Workspace to read; required if there are several."),
        ("audit", "--workspace NAME", "Workspace to read; by default all of them."),
        ("state", "--workspace NAME", "Workspace to copy; by default all of them."),
        ("logs", "--until TIME", "Time of the newest log to print, for example 2026-11-20T08:00:00Z."),
    ],
)
def test_help_is_about_the_command(command: str, flag: str, help_text: str) -> None:
    """The help of a flag says what it means to the command, and nothing about other commands."""
    assert f"\n  {flag}\n      {help_text}\n" in ProgramRun(command, "--help").out


def test_help_needs_no_right_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Help is printed even if flags and variables are wrong."""
    monkeypatch.setenv("LATE_EXPORTER_POLL__INTERVAL", "x")

    assert 0 == ProgramRun("run", "--what", "--help").code


@pytest.mark.parametrize(
    "argv",
    [
        ["--version"],
        ["run", "--version"],
        ["--version", "--help"],
        ["-V"],
        ["version"],
        ["version", "--help-all", "-V"],
    ],
    ids=str,
)
def test_version(argv: list[str]) -> None:
    """The version is printed as by Prometheus: with revision, Python and platform, everything a report needs."""
    lines = ProgramRun(*argv).out.splitlines()

    assert [
        f"late-exporter, version {__version__} (revision: {__revision__})",
        f"  python version:   {platform.python_version()}",
        f"  platform:         {sys.platform}/{platform.machine()}",
    ] == lines


def test_metrics_json_is_complete() -> None:
    """The catalogue in JSON has every family with all of its fields."""
    families = json.loads(ProgramRun("metrics", "--format", "json").out)

    assert list(CATALOGUE) == [family["name"] for family in families]
    assert {"name", "kind", "help", "labels", "buckets", "feeds", "starts_at_zero"} == set(families[0])


def test_metrics_table_is_aligned() -> None:
    """The columns of the table are aligned with their headings."""
    head, *rows = ProgramRun("metrics").out.splitlines()
    column = head.index("MEANING")

    assert [family.help for family in CATALOGUE.values()] == [row[column:] for row in rows]
    assert [family.name for family in CATALOGUE.values()] == [row[: head.index("TYPE")].rstrip() for row in rows]


@pytest.mark.parametrize("columns", ["70", "80"])
def test_metrics_fit_a_terminal(monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    """If the table is wider than the terminal, each family takes a few lines that fit."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", columns)
    with contextlib.redirect_stdout(Terminal()) as out:
        code = cli.main(["metrics"])
    lines = out.getvalue().splitlines()

    assert (0, list(CATALOGUE)) == (code, [line.split()[0] for line in lines if not line.startswith(" ")])
    assert [] == [line for line in lines if len(line) > int(columns)]


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


def test_a_bug_in_json() -> None:
    """A bug ends the command with exit code 1; its redacted traceback is a field of the entry."""
    run = ProgramRun("--log.format", "json", act=failing(RuntimeError(f"oops {KEY}")))
    entry = json.loads(run.err)

    assert (1, "this is a bug, please report it") == (run.code, entry["msg"])
    assert entry["exception"].endswith("RuntimeError: oops [redacted]")


def test_a_bug_in_logfmt() -> None:
    """In logfmt the redacted traceback follows below the entry."""
    run = ProgramRun(act=failing(RuntimeError(f"oops {KEY}")))
    entry, head, *frames, last = run.err.splitlines()

    assert 1 == run.code
    assert entry.endswith('level=error msg="this is a bug, please report it" logger=late_exporter')
    assert ("  Traceback (most recent call last):", "  RuntimeError: oops [redacted]") == (head, last)
    assert "      raise error" in frames
    assert KEY not in run.err


def test_keys_are_redacted_from_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys of all workspaces are registered before the command runs."""
    monkeypatch.delenv("LATE_API_KEY")
    (tmp_path / "a").write_text("first-key-of-two")
    (tmp_path / "b").write_text("second-key-of-two")
    (tmp_path / "late.yaml").write_text(
        "workspaces: [{name: a, api_key_file: a}, {name: b, api_key_file: b}]\nlog: {level: debug}\n"
    )

    def act(_: Settings) -> int:
        log.get_logger("x").debug("first-key-of-two and second-key-of-two")
        return 0

    assert '"[redacted] and [redacted]"' in ProgramRun("--config.file", f"{tmp_path}/late.yaml", act=act).err


@given(key=keys)
def test_no_output_holds_a_key(key: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No output contains a key, wherever it was set by mistake."""
    folder = tmp_path_factory.mktemp("keys")
    (folder / "key").write_text(f"{key} {key}")
    (folder / "late.yaml").write_text(f"api: {{key: {json.dumps(key)}, key-file: {json.dumps(key)}}}\n")
    lines = [
        [],
        ["--api.key", key],
        [f"--api.key={key}"],
        [f"--api.kye={key}"],
        ["run", key],
        [f"--{key}"],
        ["--api.key-file", f"{folder}/key"],
        ["--api.base-url", f"http://me:{key}@late.dev"],
        ["--config.file", f"{folder}/late.yaml"],
        ["metrics", key],
    ]
    outputs = []
    for environ in ({"LATE_API_KEY": key}, {"LATE_API_KEY": f"{key} {key}"}, {"LATE_EXPORTER_API__KEY": key}):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environ.items():
                patch.setenv(name, value)
            outputs += [ProgramRun(*argv, act=failing(LateError(f"says {key}"))) for argv in lines]

    assert [] == [run.err for run in outputs if key in run.out + run.err]
