"""Owns looking at other processes: their CPU clocks, their peak memory, and the moment they come to exist."""

import contextlib
import os
import threading
import time
from dataclasses import dataclass

MEBIBYTE = 1 << 20


def cpu_seconds(pid):
    """User and system time of a living process, ended threads included, children not: its own clock, in nanoseconds."""
    return time.clock_gettime((~pid << 3) | 2)


def memory_bytes(pid, field="VmHWM"):
    """VmHWM is the most that was ever resident, VmRSS what is now; 0 when the process is gone."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    return 0


def command_line(pid):
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read().rstrip(b"\0").decode(errors="replace").split("\0")
    return []


@dataclass
class Seen:
    """What was last seen of a process; its peak memory and CPU only grow."""

    pid: int
    found_ns: int
    cpu_seconds: float = 0.0
    memory_bytes: int = 0

    def look(self):
        with contextlib.suppress(OSError):
            self.cpu_seconds = max(self.cpu_seconds, cpu_seconds(self.pid))
        self.memory_bytes = max(self.memory_bytes, memory_bytes(self.pid))


class Watch:
    """Finds the next job and the next connector process, and follows both until they end.

    Every `seconds` it looks: what a process does after the last look is missed, at most that much of its CPU time.
    """

    def __init__(self, seconds):
        self.job = self.connector = None
        self._seconds = seconds
        self._old = set(os.listdir("/proc"))
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()

    def _run(self):
        while not self._end.wait(self._seconds):
            if self.job is None or self.connector is None:
                self._find()
            for seen in (self.job, self.connector):
                if seen:
                    seen.look()

    def _find(self):
        # New processes are asked again and again: between fork and exec they still have their parent's command line.
        for name in set(os.listdir("/proc")) - self._old:
            if not name.isdigit():
                continue
            words, now = command_line(name), time.monotonic_ns()
            # The sandbox around the interpreter has the same words in its own line.
            if words and "/python" in words[0] and any(word.endswith("inshore_host.py") for word in words):
                self.connector = self.connector or Seen(int(name), now)
            elif len(words) > 1 and words[0].endswith(("/inshore", "/exe")) and words[1] == "job":
                self.job = self.job or Seen(int(name), now)
