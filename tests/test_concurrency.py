"""Calls in threads of their own."""

from __future__ import annotations

import threading

import pytest

from late_exporter.concurrency import DaemonThreadExecutor


def test_a_system_without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """If no thread can be started, the result of a call is an error of the system, as of a call that fails."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(BlockingIOError, match="can't start new thread"):
        DaemonThreadExecutor().submit(str).result()
