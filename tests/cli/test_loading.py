"""Loading flags and settings in a child process."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from late_exporter.cli.loading import SettingsProcess, load_arguments
from late_exporter.cli.parser import parse
from late_exporter.errors import ConfigError

KEY = "sk_" + "0123456789abcdef" * 4


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Give each test a key and a working directory of its own."""
    for variable in [name for name in os.environ if name.startswith(("LATE_", "ZERNIO_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("LATE_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)


def problems_of(*argv: str) -> list[str]:
    """Return the mistakes that a child process finds."""
    with pytest.raises(ConfigError) as caught:
        SettingsProcess(argv).result()
    return list(caught.value.problems)


def test_a_child_loads_what_this_process_would_load(tmp_path: Path) -> None:
    """Values of every kind and source arrive: keys, paths, addresses, lists, numbers and workspaces."""
    (tmp_path / "a.key").write_text(KEY)
    (tmp_path / "secret").write_text("whsec_0123456789")
    (tmp_path / "late.yml").write_text(
        "web: {listen-address: [':1', 'unix:late.sock']}\nwebhook: {path: /hook, secret-file: secret}\n"
        "workspaces: [{name: a, api_key_file: a.key, profile_id: p}]\n"
    )
    for argv in (
        ["--poll.interval=7s", "--once", "--metrics.duration-buckets", "1,2"],
        ["demo", "--simulate.incident=slow-video", "--generation", "both"],
    ):
        assert load_arguments(parse(argv)) == SettingsProcess(argv).result()
    os.environ.pop("LATE_API_KEY")
    flags, settings = SettingsProcess(["--config.file=late.yml"]).result()
    assert (flags, settings) == load_arguments(parse(["--config.file=late.yml"]))
    assert (KEY, "whsec_0123456789") == settings.secrets


def test_a_child_finds_all_mistakes(tmp_path: Path) -> None:
    """The mistakes of command line and configuration arrive in their order."""
    (tmp_path / "late.yml").write_text("poll: {lookback: 1}")
    argv = ["--config.file=late.yml", "--poll.feed", "x", "--log.level=", "--once=7"]
    args = parse(argv)
    args.check()
    with pytest.raises(ConfigError) as caught:
        load_arguments(args)
    assert len(caught.value.problems) == 4
    assert list(caught.value.problems) == problems_of(*argv)


def test_the_web_configuration_is_loaded_too(tmp_path: Path) -> None:
    """The web configuration, whose TLS context cannot leave a process, is that of the file, or a mistake is found."""
    file = tmp_path / "web.yml"
    file.write_text("rate_limit: {interval: 1s, burst: 5}")
    _, settings = SettingsProcess([f"--web.config.file={file}"]).result()
    assert settings.web_config.rate is not None
    file.write_text("rate_limit: 7")
    assert [f"{file}:1: rate_limit: must be a mapping"] == problems_of(f"--web.config.file={file}")


@pytest.mark.parametrize("program", ["/nowhere/python", "/bin/false", ""])
def test_without_a_child_this_process_loads(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """A child that cannot be started, or fails, stops no exporter: the settings are loaded in this process."""
    monkeypatch.setattr(sys, "executable", program)
    process = SettingsProcess(["--poll.interval=7s"])
    assert 7.0 == process.result()[1].poll.interval
    with pytest.raises(ConfigError, match="not a duration"):
        SettingsProcess(["--poll.interval=x"]).result()


def test_a_child_imports_nothing_from_the_working_directory(tmp_path: Path) -> None:
    """A file in the working directory never takes the place of a module of the same name."""
    trace = tmp_path / "trace"
    for name in ("pickle", "pydantic", "late_exporter", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text(f"open({str(trace)!r}, 'a').write('{name} ')")
    assert 7.0 == SettingsProcess(["--poll.interval=7s"]).result()[1].poll.interval
    assert not trace.exists()


@contextmanager
def pipe_of(text: str) -> Iterator[str]:
    """Open a pipe that holds a text, as a shell does for ``<(command)``, and yield its path."""
    reader, writer = os.pipe()
    os.write(writer, text.encode())
    os.close(writer)
    os.set_inheritable(reader, True)  # noqa: FBT003 - positional only
    try:
        yield f"/dev/fd/{reader}"
    finally:
        os.close(reader)


def test_a_child_reads_the_files_that_the_shell_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file may be an open descriptor, as in ``--api.key-file <(command)``."""
    monkeypatch.delenv("LATE_API_KEY")
    with pipe_of(KEY) as path:
        _, settings = SettingsProcess([f"--api.key-file={path}"]).result()
    assert (KEY,) == settings.secrets


def test_a_configuration_that_was_read_from_a_pipe_cannot_be_reloaded() -> None:
    """A pipe is a configuration once; later it is an error instead of the defaults."""
    with pipe_of("poll: {interval: 7s}") as path:
        assert 7.0 == SettingsProcess([f"--config.file={path}"]).result()[1].poll.interval
        [problem] = problems_of(f"--config.file={path}")
    assert f'--config.file "{path}": is empty, because a pipe can be read only once' == problem
