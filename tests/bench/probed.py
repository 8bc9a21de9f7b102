"""The exporter with a probe in its event loop: python -m tests.bench.probed ARGUMENTS...

At SIGUSR2 it appends a line of JSON to the file PROBE_FILE: the longest time that one callback has held the event loop
since the line before, in seconds of CPU and by the clock, and the name of the callback. The CPU time
is what the callback costs, whatever else the machine does.
"""

from __future__ import annotations

import asyncio
import json
import os
import runpy
import signal
import time
from pathlib import Path
from types import FrameType


class LoopProbe:
    """Longest time that a callback has held the event loop."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._original = asyncio.Handle._run  # noqa: SLF001 - asyncio has no hook for this
        self._cpu_seconds = self._wall_seconds = 0.0
        self._name = ""

    def install(self) -> None:
        """Measure every callback, and write at SIGUSR2."""
        probe = self

        def run(handle: asyncio.Handle) -> None:
            wall, cpu = time.perf_counter(), time.thread_time()
            probe._original(handle)
            held = time.thread_time() - cpu
            if held > probe._cpu_seconds:
                probe.record(held, time.perf_counter() - wall, handle)

        asyncio.Handle._run = run  # type: ignore[assignment, method-assign] # noqa: SLF001
        signal.signal(signal.SIGUSR2, self._write)

    def record(self, cpu_seconds: float, wall_seconds: float, handle: asyncio.Handle) -> None:
        """Keep a callback as the longest one."""
        callback = handle._callback  # type: ignore[attr-defined] # noqa: SLF001
        owner = getattr(callback, "__self__", None)
        name = owner.get_coro() if isinstance(owner, asyncio.Task) else callback
        self._cpu_seconds, self._wall_seconds = cpu_seconds, wall_seconds
        self._name = getattr(name, "__qualname__", repr(name))

    def _write(self, _signal: int, _frame: FrameType | None) -> None:
        line = json.dumps({"cpu": self._cpu_seconds, "wall": self._wall_seconds, "name": self._name})
        with self._file.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
        self._cpu_seconds = self._wall_seconds = 0.0


if __name__ == "__main__":
    LoopProbe(Path(os.environ["PROBE_FILE"])).install()
    runpy.run_module("late_exporter", run_name="__main__", alter_sys=True)
