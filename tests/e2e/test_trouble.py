"""Tests with a failing API: the exporter reports it, keeps its counts, and recovers by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.e2e.late import KEY, FaultHandler, HttpExchange, LateServer, OtherServer, drip, hang, respond_with
from tests.e2e.program import ExporterProcess, wait_equal, wait_until
from tests.support.samples import Samples

pytestmark = pytest.mark.e2e

Run: TypeAlias = Callable[..., ExporterProcess]

LOGS = "late_publishing_logs_total"
POLLS = "late_exporter_polls_total"
REQUESTS = "late_exporter_api_requests_total"
MIB = 1024 * 1024


@pytest.fixture(params=["late", "zernio"])
def late(exit_stack: ExitStack, request: pytest.FixtureRequest) -> LateServer:
    """Return a Late API without logs, of each generation."""
    late = exit_stack.enter_context(LateServer())
    late.api.generation = request.param
    return late


def outcomes(samples: Samples, feed: str = "publishing") -> set[str]:
    """Return the number of polls by outcome."""
    return {outcome for (outcome,) in samples.family(POLLS, feed=feed)}


def is_down(program: ExporterProcess, outcome: str) -> None:
    """Wait until polls have an outcome and every feed is down."""
    wait_until(lambda: outcome in outcomes(program.scrape()), describe=lambda: program.stderr)
    wait_equal(0.0, lambda: program.scrape().sum("late_up"))


def test_unknown_host_at_the_start(exit_stack: ExitStack, tmp_path: Path) -> None:
    """Without a name server the program runs, is not ready, logs the reason, and shows no counts."""
    program = exit_stack.enter_context(ExporterProcess.for_api(tmp_path, "https://late.invalid/api"))
    is_down(program, "unavailable")
    wait_until(lambda: program.scrape().sum(REQUESTS, code="connect") > 0)
    ready = program.get("/-/ready")
    assert 200 == program.get("/-/healthy").status
    assert 503 == ready.status
    assert "default/publishing: first sync has not succeeded" in ready.text
    assert "no connection" in ready.text
    assert [] == [name for name, _ in program.scrape() if name.startswith(("late_publishing", "late_connection"))]
    assert 0 == program.stop()


def test_refused_at_the_start_and_later_there(exit_stack: ExitStack, tmp_path: Path) -> None:
    """A program that starts before the API counts once the API is there."""
    late = LateServer()
    late.reserve_port()
    late.world.publish(120, over=600)
    program = exit_stack.enter_context(ExporterProcess.for_api(tmp_path, late.url))
    is_down(program, "unavailable")
    assert 503 == program.get("/-/ready").status
    exit_stack.enter_context(late)
    wait_equal(200, lambda: program.get("/-/ready").status)
    wait_equal(120.0, lambda: program.scrape().sum(LOGS))
    wait_equal(2.0, lambda: program.scrape().sum("late_up"))


def reset_connection(exchange: HttpExchange) -> None:
    """Reset the connection before a response."""
    exchange.reset()


def send_truncated(exchange: HttpExchange) -> None:
    """Close the connection in the middle of the body."""
    exchange.send(200, b'{"logs": [{"_id": "x1", "status": "success"', length=5000)
    exchange.close()


def send_garbage(exchange: HttpExchange) -> None:
    """Send something that is not HTTP."""
    exchange.write(b"SSH-2.0-OpenSSH_9.9\r\n")
    exchange.close()


def redirect_in_circles(exchange: HttpExchange) -> None:
    """Redirect to the same URL."""
    exchange.send(302, headers={"Location": exchange.path})


def send_bad_gzip(exchange: HttpExchange) -> None:
    """Send a body that is not gzip as its header says."""
    exchange.send(200, b"not gzip at all", {"Content-Encoding": "gzip"})


def send_huge_body(exchange: HttpExchange) -> None:
    """Send 100 MB of white space before the JSON."""
    exchange.send(200, b"", length=100 * MIB)
    for _ in range(100):
        exchange.write(b" " * MIB)


def send_gzip_bomb(exchange: HttpExchange) -> None:
    """Send 100 MB in a small gzip body."""
    import gzip  # noqa: PLC0415 - only here

    exchange.send(200, gzip.compress(b" " * 100 * MIB, 1), {"Content-Encoding": "gzip"})


@pytest.mark.parametrize(
    ("fault", "outcome", "code"),
    [
        (respond_with(500, {"error": "Internal"}), "unavailable", "500"),
        (respond_with(502, "<html><h1>Bad Gateway</h1></html>", {"Content-Type": "text/html"}), "unavailable", "502"),
        (respond_with(404, {"error": "Not found"}), "unavailable", "404"),
        (respond_with(403, {"error": "Forbidden"}), "unauthorized", "403"),
        (respond_with(200, "<html>Please log in</html>"), "bad_payload", "200"),
        (respond_with(200), "bad_payload", "200"),
        (respond_with(200, {"logs": None}), "bad_payload", "200"),
        (redirect_in_circles, "unavailable", "302"),
        (reset_connection, "unavailable", "network"),
        (send_truncated, "unavailable", "network"),
        (send_garbage, "unavailable", "network"),
        (send_bad_gzip, "bad_payload", "decoding"),
        (send_huge_body, "bad_payload", "too_large"),
        (send_gzip_bomb, "bad_payload", "too_large"),
    ],
)
def test_fault_and_recovery(
    lasting: tuple[LateServer, ExporterProcess], fault: FaultHandler, outcome: str, code: str
) -> None:
    """A fault is a failed poll with its own outcome; counts stay, memory is bounded, and the exporter recovers."""
    late, program = lasting
    wait_equal(1.0, lambda: program.scrape().sum("late_up"))
    before = program.scrape()
    late.fault = fault
    wait_until(lambda: increase(before, program.scrape(), POLLS, "outcome", outcome), describe=lambda: program.stderr)
    wait_until(lambda: increase(before, program.scrape(), REQUESTS, "code", code), describe=lambda: program.stderr)
    samples = program.scrape()
    assert 0 == samples.sum("late_up")
    assert before.sum(LOGS) == samples.sum(LOGS)
    assert [] == [
        other
        for other in {*outcomes(samples)} - {"success", outcome}
        if increase(before, samples, POLLS, "outcome", other)
    ]
    assert program.peak_memory_bytes < 200 * MIB
    late.world.publish(5)
    late.fault = None
    wait_equal(before.sum(LOGS) + 5, lambda: program.scrape().sum(LOGS))
    wait_equal(1.0, lambda: program.scrape().sum("late_up"))


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LateServer, ExporterProcess]]:
    """Return a program that runs through all faults, and its API."""
    folder = tmp_path_factory.mktemp("faults")
    with LateServer() as late, ExporterProcess.for_api(folder, late.url, "--poll.feeds=publishing") as program:
        late.world.publish(30, over=60)
        wait_equal(30.0, lambda: program.scrape().sum(LOGS))
        yield late, program


def increase(before: Samples, after: Samples, name: str, label: str, value: str) -> bool:
    """Return whether a counter has increased between two scrapes."""
    return after.sum(name, **{label: value}) > before.sum(name, **{label: value})


@pytest.mark.parametrize("fault", [hang, drip])
def test_slow_answers_end(late: LateServer, start_exporter: Run, fault: Callable[[LateServer], FaultHandler]) -> None:
    """A response that never comes or never ends is abandoned after the timeout of the whole request."""
    late.fault = fault(late)
    program = start_exporter("--api.timeout=500ms", "--poll.feeds=publishing")
    is_down(program, "unavailable")
    wait_until(lambda: program.scrape().sum(REQUESTS, code="timeout") > 0)
    assert "no response within 0.5 s" in program.get("/-/ready").text


def test_redirect_to_another_host(late: LateServer, start_exporter: Run, exit_stack: ExitStack) -> None:
    """Redirects are not followed: the other host gets no request, so it gets no key."""
    elsewhere = exit_stack.enter_context(OtherServer())
    late.fault = lambda exchange: exchange.send(307, headers={"Location": f"{elsewhere.address}{exchange.path}"})
    program = start_exporter()
    is_down(program, "unavailable")
    wait_until(lambda: len(late.requests) >= 4)
    assert "not followed" in program.get("/-/ready").text
    assert [] == elsewhere.requests


def test_proxies_of_the_environment_get_no_key_for_a_loopback_api(
    late: LateServer, tmp_path: Path, exit_stack: ExitStack
) -> None:
    """A proxy of the environment gets no request that NO_PROXY exempts."""
    elsewhere = exit_stack.enter_context(OtherServer())
    env = {"LATE_API_KEY": KEY, "HTTP_PROXY": elsewhere.address, "NO_PROXY": "127.0.0.1"}
    late.world.publish(3)
    program = exit_stack.enter_context(ExporterProcess.for_api(tmp_path, late.url, env=env))
    wait_equal(3.0, lambda: program.scrape().sum(LOGS))
    assert [] == elsewhere.requests


def test_a_rejected_key_is_replaced_when_the_file_changes(
    late: LateServer, start_exporter: Run, tmp_path: Path
) -> None:
    """A rejected key is shown as such, and a new key in the file is used without a restart."""
    late.world.publish(20)
    path = tmp_path / "key"
    path.write_text(KEY)
    program = start_exporter(env={"LATE_API_KEY_FILE": str(path)})
    wait_equal(20.0, lambda: program.scrape().sum(LOGS))
    fresh = "sk_" + "5eed" * 16
    late.keys.clear()
    late.keys.add(fresh)
    is_down(program, "unauthorized")
    wait_until(lambda: program.scrape().sum(REQUESTS, code="401") > 0)
    late.world.publish(5)
    path.with_name("new").write_text(fresh + "\n")
    path.with_name("new").replace(path)
    wait_equal(25.0, lambda: program.scrape().sum(LOGS))
    wait_equal(2.0, lambda: program.scrape().sum("late_up"))
    good = len(late.requests)
    wait_until(lambda: len(late.requests) > good + 2)
    assert {f"Bearer {fresh}"} == {request.headers["Authorization"] for request in late.requests[good:]}


@pytest.mark.parametrize("announcement", ["reset", "retry-after"])
def test_rate_limited(late: LateServer, start_exporter: Run, announcement: str) -> None:
    """Between a 429 and its reset there is no request; afterwards everything is counted."""
    late.world.publish(10)
    program = start_exporter("--status.feeds=none")
    wait_equal(10.0, lambda: program.scrape().sum(LOGS))
    opens: list[float] = []

    def limited(exchange: HttpExchange) -> None:
        if not opens:
            opens.append(int(time.time()) + 4.0)
        if time.time() < opens[0]:
            exchange.send(
                429, b'{"error": "Rate limit exceeded. Please try again later."}', quota_headers(announcement, opens[0])
            )
        else:
            late.respond(exchange)

    before = len(late.requests)
    late.fault = limited
    late.world.publish(5)
    wait_until(lambda: program.scrape().sum(POLLS, outcome="rate_limited") > 0)
    assert program.scrape().sum("late_up") < 2
    wait_equal(15.0, lambda: program.scrape().sum(LOGS))
    rejected = [request for request in late.requests[before:] if request.status == 429]
    after = [request for request in late.requests if request.time > rejected[0].time and request.status != 429]
    assert 1 <= len(rejected) <= 2, "both feeds may have sent a request before the first 429"
    assert rejected[-1].time - rejected[0].time < 0.5
    assert after[0].time >= opens[0] - 0.01
    wait_equal(2.0, lambda: program.scrape().sum("late_up"))


def quota_headers(announcement: str, opens: float) -> Mapping[str, str]:
    """Return headers for each way to announce the time of the next request."""
    quota = {"X-RateLimit-Limit": "600", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(opens))}
    return quota if announcement == "reset" else {"Retry-After": str(int(opens - time.time()) + 1)}


def test_quota_share_is_kept(late: LateServer, start_exporter: Run) -> None:
    """With a limit of 60 requests per minute, a catch-up uses no more than half of them."""
    late.api.rate_limit = 60  # the tier of the key
    late.world.publish(6000, over=86_400)
    program = start_exporter("--status.feeds=none")
    wait_until(lambda: program.scrape().sum("late_exporter_api_quota_limit") == 60)
    wait_until(lambda: len(late.requests) >= 25 and time.time() - late.requests[-1].time > 1)
    assert len(late.requests) <= 30
    assert {200} == {request.status for request in late.requests if "limit=1&" not in request.query}


def odd_logs() -> list[Any]:
    """Return logs that are invalid in different ways."""
    moment = "2026-11-24T10:00:00Z"
    return [
        {"_id": "s1", "platform": "instagram", "action": "publish", "status": "success", "createdAt": moment},
        {"_id": "s2", "platform": "a\ud83d", "accountUsername": "\udc00b", "status": "success", "createdAt": moment},
        {"_id": "s3", "platform": "x" * 5000, "action": 'new\nline"\\', "status": "success", "createdAt": moment},
        {"_id": "s4", "platform": 7, "action": None, "status": {"x": 1}, "createdAt": moment, "durationMs": "long"},
        {"_id": "s5", "request": {"contentPreview": "caption cut in an emoji \ud83e"}, "createdAt": moment},
        {"_id": 6},
        "not an object",
        None,
    ]
