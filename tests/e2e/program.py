"""late-exporter as a process: started from the command line, read over HTTP, stopped by signals."""

from __future__ import annotations

import http.client
import itertools
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeAlias, TypeVar
from urllib.parse import urlsplit

from tests.e2e.late import KEY
from tests.support.samples import Samples

DEFAULT_TIMEOUT = 300.0
"""Seconds after which a test fails. Long, so that tests do not fail on a busy machine."""

ROOT = Path(__file__).resolve().parents[2]
LISTENING_PATTERN = re.compile(r"""listening\W.*?address\W+(https?://[^"\s]+)""")

RUN_NUMBERS = itertools.count(1)

ResultT = TypeVar("ResultT")


class HttpResponse(NamedTuple):
    """Response of an HTTP request."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """Return the body as text."""
        return self.body.decode()


def http_get(url: str, headers: Mapping[str, str] | None = None, **options: Any) -> HttpResponse:
    """Send a GET request."""
    return http_request("GET", url, headers, **options)


def http_request(
    method: str,
    url: str,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    *,
    timeout: float = 10.0,
    tls: ssl.SSLContext | None = None,
) -> HttpResponse:
    """Send a request, over TLS if the URL says so."""
    parts = urlsplit(url)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=timeout, context=tls)
    else:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    try:
        target = parts.path or "/"
        target = f"{target}?{parts.query}" if parts.query else target
        connection.request(method, target, body, dict(headers or {}))
        response = connection.getresponse()
        return HttpResponse(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()


def wait_until(
    probe: Callable[[], ResultT], *, timeout: float = DEFAULT_TIMEOUT, describe: Callable[[], object] = str
) -> ResultT:
    """Call a probe until it returns a true value, and return that. OSError counts as false.

    Args:
        probe: Function to call.
        timeout: Seconds after which to raise AssertionError.
        describe: Function that describes the situation in the error.
    """
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    last_result: object = None
    while time.monotonic() < deadline:
        try:
            last_result = result = probe()
            if result:
                return result
        except (OSError, http.client.HTTPException) as exc:
            last_result = exc
        pause.wait(0.03)
    raise AssertionError(f"not within {timeout} s; last: {last_result!r} {describe()}")


def wait_equal(expected: object, actual: Callable[[], object], *, timeout: float = DEFAULT_TIMEOUT) -> None:
    """Wait until a function returns the expected value."""
    last_value: list[object] = []

    def is_equal() -> bool:
        last_value[:] = [actual()]
        return bool(last_value[0] == expected)

    wait_until(is_equal, timeout=timeout, describe=lambda: f"expected {expected!r}, is {last_value}")


def with_default_signals(command: Sequence[str]) -> list[str]:
    """Return a command that runs another one with default signal handling.

    A shell ignores SIGINT in its background jobs, and children inherit that.
    """
    return ["env", "--default-signal=HUP,INT,TERM", *command]


def run_command(*command: str | Path, check: bool = True, **options: Any) -> str:
    """Run a command and return its standard output; raise AssertionError with all of its output if it fails."""
    defaults = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "timeout": DEFAULT_TIMEOUT}
    process = subprocess.run([*map(str, command)], check=False, **{**defaults, **options})
    output = f"{' '.join(map(str, command))}\n{process.stdout}{process.stderr or ''}"
    assert not check or process.returncode == 0, output
    return str(process.stdout)


@contextmanager
def start_process(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process with default signal handling, and kill its process group at the end of the block."""
    with subprocess.Popen(with_default_signals(command), start_new_session=True, **options) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def run_server(command: Sequence[str], log: Path, pattern: str, **options: Any) -> Iterator[str]:
    """Run a process until the end of the block; yield its address, the group of a pattern that its log matches."""

    def find_address() -> str:
        match = re.search(pattern, log.read_text("utf-8"), re.DOTALL)
        return match[1] if match else ""

    with log.open("wb") as output, start_process(command, stdout=output, stderr=output, **options):
        yield wait_until(find_address, describe=log.read_text)


def write_workspaces(folder: Path, count: int) -> list[str]:
    """Write ``late.yml`` with workspaces ``w0``, ``w1`` and so on, and their key files; return their keys."""
    keys = [f"sk_{number:064x}" for number in range(count)]
    rows = ["workspaces:"]
    for number, key in enumerate(keys):
        (folder / f"{number}.key").write_text(key)
        rows.append(f"- {{name: w{number}, api_key_file: {number}.key}}")
    (folder / "late.yml").write_text("\n".join(rows))
    return keys


ZERO_HOLD = "--metrics.zero-hold"


class ExporterProcess:
    """Process of late-exporter.

    Args:
        folder: Working directory, also for its output.
        arguments: Command line.
        env: Environment besides PATH and PYTHONPATH; nothing else is inherited.

    Attributes:
        wrapper: Command that runs the process, with its arguments.
        program: What Python runs.
        timeout: Seconds that it has to respond to a request.
    """

    wrapper: Sequence[str] = ()
    program: Sequence[str] = ("-m", "late_exporter")
    timeout = 10.0

    def __init__(self, folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.arguments = arguments
        self._env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **(env or {})}
        number = next(RUN_NUMBERS)
        self._stdout_path = folder / f"output-{number}.txt"
        self._stderr_path = folder / f"errors-{number}.txt"
        self._process: subprocess.Popen[bytes] | None = None
        self._url = ""
        self.tls: ssl.SSLContext | None = None

    @classmethod
    def for_api(
        cls,
        folder: Path,
        api: str,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        interval: str = "100ms",
        state: Path | str | None = None,
    ) -> Self:
        """Return a process of ``run`` that reads an API, on a free port, with its state in the folder by default.

        The state is a path or, as text, a URL. New series show their values at once, unless the arguments differ.
        """
        path = state or folder / "state.db"
        has_hold = any(each.startswith(ZERO_HOLD) for each in arguments)
        return cls(
            folder,
            "run",
            f"--api.base-url={api}",
            f"--poll.interval={interval}",
            "--web.listen-address=127.0.0.1:0",
            f"--state.url={path}" if isinstance(path, str) else f"--state.url=sqlite:///{path}",
            *(() if has_hold else (f"{ZERO_HOLD}=0s",)),
            *arguments,
            env={"ZERNIO_API_KEY": KEY} if env is None else env,
        )

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> Self:
        """Start the process. It can be started again after it has ended."""
        command = [*self.wrapper, sys.executable, *self.program, *self.arguments]
        self._url = ""
        with self._stdout_path.open("wb") as output, self._stderr_path.open("wb") as errors:
            self._process = subprocess.Popen(
                with_default_signals(command),
                cwd=self.folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
            )
        return self

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._started_process.pid

    @property
    def stderr(self) -> str:
        """Return its standard error since its last start."""
        return self._stderr_path.read_bytes().decode("utf-8", "backslashreplace")

    @property
    def stdout(self) -> str:
        """Return its standard output since its last start."""
        return self._stdout_path.read_bytes().decode("utf-8", "backslashreplace")

    @property
    def url(self) -> str:
        """Wait until it listens, and return its URL."""
        if not self._url:
            self._url = wait_until(self._find_url, describe=lambda: self.stderr)
        return self._url

    @property
    def is_listening(self) -> bool:
        """Return whether it runs and listens, so that it handles signals."""
        return self.exit_code is None and LISTENING_PATTERN.search(self.stderr) is not None

    @property
    def exit_code(self) -> int | None:
        """Return the exit code, or None if it runs."""
        return self._started_process.poll()

    @property
    def peak_memory_bytes(self) -> int:
        """Return its peak memory."""
        status = Path(f"/proc/{self.pid}/status").read_text("ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    @property
    def _started_process(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("not started")
        return self._process

    def _find_url(self) -> str:
        if self.exit_code is not None:
            raise RuntimeError(f"ended with {self.exit_code}: {self.stderr}")
        match = LISTENING_PATTERN.search(self.stderr)
        return match[1] if match else ""

    def get(self, path: str, **headers: str) -> HttpResponse:
        """Send a GET request to it."""
        header_fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return http_get(self.url + path, header_fields, timeout=self.timeout, tls=self.tls)

    def scrape(self) -> Samples:
        """Return its metrics."""
        return Samples.parse(self.get("/metrics").text)

    def wait_ready(self) -> Self:
        """Wait until its first sync is complete."""
        wait_until(lambda: self.get("/-/ready").status == http.HTTPStatus.OK, describe=lambda: self.stderr)
        return self

    def send_signal(self, signal_number: signal.Signals) -> None:
        """Send a signal to it."""
        self._started_process.send_signal(signal_number)

    def wait_exit(self, timeout: float = DEFAULT_TIMEOUT) -> int:
        """Wait until it ends, and return its exit code."""
        return self._started_process.wait(timeout)

    def stop(self, signal_number: signal.Signals = signal.SIGTERM) -> int:
        """Send SIGTERM or another signal, and return the exit code."""
        self.send_signal(signal_number)
        return self.wait_exit()

    def kill(self) -> None:
        """Kill it, as a power failure would."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(DEFAULT_TIMEOUT)


Run: TypeAlias = Callable[..., ExporterProcess]
"""Returns a process, for arguments of its command line."""
