"""Send requests to a remote-write server, and repeat those that it could not take yet."""

from __future__ import annotations

import base64
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import httpx

from late_exporter import __version__, log
from late_exporter.api.cookies import CookielessClient
from late_exporter.api.headers import is_compressed, retry_delay
from late_exporter.commands.backfill.openmetrics import History
from late_exporter.commands.progress import ProgressBar
from late_exporter.config.environment import certificate_context, check_proxies
from late_exporter.config.flags import CommandFlags
from late_exporter.config.types import is_private_url
from late_exporter.errors import ConfigError, LateError
from late_exporter.format import plural
from late_exporter.model import DAY_MS

MAX_ATTEMPTS = 10  # attempts to send a request; without Retry-After the last one follows after about four minutes
MAX_RETRY_AFTER = 3600.0  # seconds to wait at most if the server asks for it
MAX_PAUSE = 60.0
TIMEOUT = 30.0
MAX_MESSAGE_LENGTH = 300
MAX_BODY = 4096

SEND_AGAIN = "run the command again to complete the history, samples that were sent twice are stored once"

HINTS: Mapping[int, str] = {
    401: "check user, password and token",
    403: "check user, password, token and tenant",
    404: "check the path of the URL; Prometheus needs --web.enable-remote-write-receiver",
    413: "let the server accept requests with 2,000 samples",
}
"""What to do about a status."""

HEADERS = {
    "Accept-Encoding": "identity",
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "User-Agent": f"late-exporter/{__version__}",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}


class RemoteWriteClient:
    """Client of one remote-write server.

    Args:
        http: HTTP client; must not follow redirects.
        url: URL of the server.
        age: Age in milliseconds of the oldest sample, for error messages.
        on_wait: Called with the reason and the seconds before a request is repeated.
        jitter: Returns a number from 0 to 1.
    """

    def __init__(
        self,
        http: httpx.Client,
        url: str,
        *,
        age: int,
        on_wait: Callable[[str, float], object],
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._http = http
        self._url = url
        self._age = age
        self._on_wait = on_wait
        self._sleep = sleep
        self._clock = clock
        self._jitter = jitter

    def send(self, body: bytes) -> None:
        """Send a request, and repeat it while the server cannot take it; raise LateError if it does not in the end."""
        pause = 1.0
        reason, delay = self._send_once(body)
        for _ in range(MAX_ATTEMPTS - 1):
            if not reason:
                return
            delay = max(delay, pause * (0.5 + self._jitter() / 2))
            self._on_wait(reason, delay)
            self._sleep(delay)
            pause = min(2 * pause, MAX_PAUSE)
            reason, delay = self._send_once(body)
        if reason:
            raise LateError(f"{self._url}: {reason}, also after {plural(MAX_ATTEMPTS, 'attempt')}")

    def _send_once(self, body: bytes) -> tuple[str, float]:
        """Return why a request has to be repeated, or an empty string, and the seconds that the server asks to wait.

        Raises:
            LateError: The server rejected the request, and would do so again.
        """
        try:
            with self._http.stream("POST", self._url, content=body) as response:
                text = _read_text(response)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as exc:
            return f"no answer: {log.redact(str(exc))[:MAX_MESSAGE_LENGTH] or type(exc).__name__}", 0.0
        status = response.status_code
        if response.is_success:
            return "", 0.0
        message = f"{status}: {text}" if text else f"{status} without a message"
        if status == httpx.codes.TOO_MANY_REQUESTS or response.is_server_error:
            delay = retry_delay(response.headers, self._clock()) if "Retry-After" in response.headers else 0.0
            return message, min(delay, MAX_RETRY_AFTER)
        raise LateError(f"{self._url}: {message}; {self._hint(status)}")

    def _hint(self, status: int) -> str:
        if httpx.codes.is_redirect(status):
            return "give the URL to which it redirects"
        if status != httpx.codes.BAD_REQUEST:
            return HINTS.get(status, "it would be rejected again")
        days = self._age // DAY_MS + 1
        return (
            f"if the samples are too old or out of order, set out_of_order_time_window of the server to {days}d or "
            "more, as in docs/backfill.md, or send less with --since"
        )


def send_history(flags: CommandFlags, history: History, *, now: int, progress: ProgressBar) -> None:
    """Send the samples of a history; raise LateError if the server does not take all of them."""
    from late_exporter.commands.backfill.write_request import encode_requests  # noqa: PLC0415 - needs optional packages

    url, total = flags.remote_write or "", len(history.series)
    sample_count = series_count = 0
    progress.start(url)

    def show(note: str = "") -> None:
        progress.update(
            series_count, total, f"{series_count:,} of {total:,} series, {plural(sample_count, 'sample')}{note}"
        )

    def on_wait(reason: str, seconds: float) -> None:
        show(f", again in {seconds:.0f} s because of {reason}")

    with open_http_client(flags) as http:
        client = RemoteWriteClient(http, url, age=now - history.grid.since, on_wait=on_wait)
        for request in encode_requests(history.series, history.grid, history.target_labels):
            try:
                client.send(request.body)
            except LateError as exc:
                raise LateError(f"{exc} ({plural(sample_count, 'sample')} were sent; {SEND_AGAIN})") from exc
            sample_count += request.sample_count
            series_count += request.series_count
            show()
    progress.finish(f"{plural(sample_count, 'sample')} of {total:,} series")


@contextmanager
def open_http_client(flags: CommandFlags) -> Iterator[httpx.Client]:
    """Open the HTTP client for a server; raise ConfigError if variables of proxies or certificates are not usable."""
    check_proxies()
    headers, auth = dict(HEADERS), None
    if flags.remote_write_username is not None and flags.remote_write_password_file is not None:
        password = flags.remote_write_password_file.key.get_secret_value()
        auth = httpx.BasicAuth(flags.remote_write_username, password)
        log.add_secret(password)
        log.add_secret(base64.b64encode(f"{flags.remote_write_username}:{password}".encode()).decode())
    if flags.remote_write_bearer_token_file is not None:
        token = flags.remote_write_bearer_token_file.key.get_secret_value()
        headers["Authorization"] = f"Bearer {token}"
        log.add_secret(token)
    if flags.remote_write_tenant is not None:
        headers["X-Scope-OrgID"] = flags.remote_write_tenant
    try:
        client = CookielessClient(
            auth=auth,
            headers=headers,
            timeout=TIMEOUT,
            verify=certificate_context(),
            follow_redirects=False,
            # As for the API: a proxy would take plain http to another machine.
            mounts={"http://": None},
        )
    except (ValueError, httpx.InvalidURL):
        raise ConfigError("HTTP_PROXY, HTTPS_PROXY, ALL_PROXY or NO_PROXY: is not usable") from None
    with client:
        yield client


def find_problems(flags: CommandFlags) -> Iterator[str]:
    """Yield the mistakes in the options of remote write."""
    url, user, token = flags.remote_write, flags.remote_write_username, flags.remote_write_bearer_token_file
    if url is None:
        if user or token or flags.remote_write_password_file or flags.remote_write_tenant:
            yield "--remote-write: required by the options that begin with --remote-write"
        return
    if (user is None) != (flags.remote_write_password_file is None):
        yield "--remote-write.username: needs --remote-write.password-file, and the other way round"
    elif user is not None and (":" in user or not user.isprintable()):
        yield "--remote-write.username: must be printable and contain no colon"
    if user is not None and token is not None:
        yield "--remote-write.bearer-token-file: excludes --remote-write.username"
    if (user or token) and not is_private_url(url):
        yield "--remote-write: must begin with https://, because a password or token is sent to another machine"
    try:
        import late_exporter.commands.backfill.write_request  # noqa: F401, PLC0415 - needs optional packages
    except ImportError as exc:
        if (exc.name or "").partition(".")[0] not in ("cramjam", "google"):
            raise
        yield "--remote-write: needs more packages; run: pip install 'late-exporter[remote-write]'"


def _read_text(response: httpx.Response) -> str:
    """Return the beginning of a response's text as one line, without secrets."""
    if is_compressed(response.headers):  # it could decompress to any size
        return ""
    body = b""
    for part in response.iter_bytes():
        body += part
        if len(body) >= MAX_BODY:
            break
    # Shortened last, because a part of a secret is not recognised as one.
    line = " ".join(body[:MAX_BODY].decode("utf-8", "replace").split())
    return log.redact(line)[:MAX_MESSAGE_LENGTH]
