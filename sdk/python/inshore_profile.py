"""Where the time of a local run goes, by table. `inshore debug --profile` has the operations wrapped; a run
without it pays nothing.

Time between two operations of a thread is the connector's own code and counts for the table of the second; after the
last one, and before a checkpoint, for the table before. A checkpoint's wait is shared out by the rows of its window.
"""

import contextlib
import json
import os
import resource
import sys
import threading
import time

from fivetran_connector_sdk import Operations
from inshore_encoder import encoder as _inshore

VARIABLE = "INSHORE_PROFILE"
ROWS, USER, ENCODING, WAITING, CHECKPOINT = range(5)
WRITE_EVERY_NS = 1_000_000_000
# What no operation stands for: a connector without rows still spends time.
NO_TABLE = ""

_now = time.perf_counter_ns
# What this thread has waited for room in the queue to the job.
_waited = getattr(_inshore, "waited_ns", lambda: 0)


class Profile:
    def __init__(self, path):
        self.path = path
        self.began = _now()
        self.phases = {}
        self.tables = {}
        self.window = {}
        self.threads = 0
        self.written = 0
        self.lock = threading.Lock()
        self.local = threading.local()

    @contextlib.contextmanager
    def phase(self, name):
        began = _now()
        try:
            yield
        finally:
            self.phases[name] = self.phases.get(name, 0) + _now() - began

    def wrap(self):
        for name in ("upsert", "update", "delete", "truncate"):
            setattr(Operations, name, staticmethod(self._timed(getattr(Operations, name))))
        Operations.checkpoint = staticmethod(self._checkpoint(Operations.checkpoint))

    def begin(self):
        """The calling thread's own code runs from here on."""
        self._thread().since = _now()

    def end(self):
        thread = self._thread()
        now = _now()
        with self.lock:
            self._of(thread.table)[USER] += now - thread.since
        thread.since = now
        self.write()

    def write(self):
        """Whoever reads sees an older text or this one."""
        with self.lock:
            text = json.dumps(
                {
                    "wall_ns": _now() - self.began,
                    "threads": self.threads,
                    "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                    "phases": self.phases,
                    "tables": [{"table": name, "times": times} for name, times in self.tables.items()],
                }
            )
            new = self.path + ".new"
            with open(new, "w") as file:
                file.write(text)
            os.replace(new, self.path)
            self.written = _now()

    def _timed(self, operation):
        def timed(*args, **kwargs):
            thread = self._thread()
            table = _name(args[0] if args else kwargs.get("table"), kwargs.get("schema"))
            began, waited, rows = _now(), _waited(), 0
            try:
                operation(*args, **kwargs)
                rows = 1
            finally:
                ended, waited = _now(), _waited() - waited
                with self.lock:
                    times = self._of(table)
                    times[ROWS] += rows
                    times[USER] += began - thread.since
                    times[ENCODING] += max(ended - began - waited, 0)
                    times[WAITING] += waited
                    self.window[table] = self.window.get(table, 0) + rows
                thread.table, thread.since = table, _now()

        return timed

    def _checkpoint(self, operation):
        def checkpoint(*args, **kwargs):
            thread = self._thread()
            began = _now()
            with self.lock:
                self._of(thread.table)[USER] += began - thread.since
                window, self.window = self.window, {}
            try:
                operation(*args, **kwargs)
            finally:
                ended = _now()
                rows = sum(window.values())
                with self.lock:
                    for table, share in window.items() if rows else [(thread.table, 1)]:
                        self._of(table)[CHECKPOINT] += (ended - began) * share // max(rows, 1)
                if ended - self.written > WRITE_EVERY_NS:
                    self.write()
                thread.since = _now()

        return checkpoint

    def _thread(self):
        local = self.local
        if not hasattr(local, "since"):
            # When a thread of the connector's own began is not known: it counts from its first operation.
            local.since, local.table = _now(), NO_TABLE
            with self.lock:
                self.threads += 1
        return local

    def _of(self, table):
        return self.tables.setdefault(table, [0] * 5)


class Nothing:
    """Without --profile."""

    phase = staticmethod(lambda name: contextlib.nullcontext())
    begin = end = staticmethod(lambda: None)


def start():
    """What notes the times of this process, before the connector's code is imported."""
    path = os.environ.pop(VARIABLE, None)
    if path is None:
        return Nothing
    profile = Profile(path)
    profile.wrap()
    return profile


def _name(table, schema):
    name = table if isinstance(table, str) else "?"
    return sys.intern(f"{schema}.{name}") if isinstance(schema, str) else name
