"""Requests that do not decide a poll's outcome take turns."""

from __future__ import annotations

import itertools

from late_exporter.ingest.request_queue import MAX_AGE, MAX_DELAY, RequestQueue

POSTS = [f"p{number}" for number in range(30)]


def test_each_request_has_its_turn() -> None:
    """Ten of thirty requests per poll: after three polls all were sent, in six twice."""
    queue, sent = RequestQueue(), list[str]()
    for poll in range(6):
        queue.start_poll(poll)
        for post in queue.select("post", POSTS, 10):
            queue.succeed(("post", post))
            sent.append(post)
        assert len(set(sent[-10 * min(3, poll + 1) :])) == 10 * min(3, poll + 1)
    assert sorted(POSTS * 2) == sorted(sent)


def test_requests_that_fail_are_behind_all_others_and_wait() -> None:
    """The polls between two attempts double up to a limit, and a success ends that."""
    queue, polls = RequestQueue(), list[int]()
    for poll in range(1, 300):
        queue.start_poll(poll)
        due = queue.select("post", ["bad", "good", "new"] if poll > 250 else ["bad", "good"], 3)
        if "bad" in due:
            assert poll == 1 or ["bad"] == due[-1:]
            polls.append(poll)
            queue.fail(("post", "bad"))
        queue.succeed(("post", "good"))
    assert [1, 2, 4, 8, 16, 32, 64] == [later - former for former, later in itertools.pairwise(polls)][:7]
    assert MAX_DELAY == polls[-1] - polls[-2]
    queue.succeed(("post", "bad"))
    queue.start_poll(300)
    assert queue.is_due(("post", "bad"))
    assert 0 == queue.failure_count(("post", "bad"))


def test_a_process_that_runs_for_one_poll_asks_for_all_in_the_end() -> None:
    """Queues without a memory select other requests in each poll."""
    sent: set[str] = set()
    for poll in range(20):
        queue = RequestQueue()
        queue.start_poll(1_795_600_000_000 + poll * 300_000)
        sent |= set(queue.select("post", POSTS, 10))
    assert set(POSTS) == sent


def test_requests_about_what_is_gone_are_forgotten() -> None:
    """Attempts that were not repeated for many polls take no memory, the others stay."""
    queue = RequestQueue()
    for poll in range(1, 2 * MAX_AGE + 1):
        queue.start_poll(poll)
        if poll == 1:
            queue.fail(("post", "gone"))
        if poll % 64 == 1:
            queue.fail(("post", "bad"))
    assert 0 == queue.failure_count(("post", "gone"))
    assert 32 == queue.failure_count(("post", "bad"))
