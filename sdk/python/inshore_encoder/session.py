"""The functions of the native module `_inshore`, in Python: one sync in this process, between the builders and the link.

Values are converted, which may run code of the connector, before the rows are locked. A checkpoint is one at a time;
while it waits for the job, other threads fill the next window.
"""

import contextlib
import importlib
import json
import math
import threading
import time

from . import link as links
from . import naming
from .accepting import SPACE
from .tables import COLUMNS_MAX, DELETE, TABLES_MAX, UPDATE, UPSERT, Builder, too_many
from .values import converted, marked

VERSION = 1
BATCH_BYTES = 1 << 20
BUILDERS_BYTES_MAX = 16 << 20
STALL_NOTICE_STEPS = int(60 / links.WAIT_STEP)

_notes = []
_session = None
_waited = threading.local()


def note(message):
    """What the log of each sync says at its beginning."""
    _notes.append(message)


def attach():
    """Takes the socket over from stdin, waits for the job's start message and returns it as JSON."""
    global _session
    if _session is not None:
        raise RuntimeError("this process already runs a sync")
    _session = Session(links.Link())
    return _session.link.start


def declare(tables):
    current().declare(tables)


def upsert(table, data, *, schema=None, file=None):
    current().emit(UPSERT, table, data, schema, file)


def update(table, modified, *, schema=None, file=None):
    current().emit(UPDATE, table, modified, schema, file)


def file_chunk(upload, chunk):
    """Bytes of a file, in the order of its stream; the number is the caller's own."""
    current().file_chunk(upload, chunk)


def file_abandon(upload):
    """Drops what was sent of a file. Never raises: whoever calls it has an error in hand."""
    if _session is not None and not _session.ended:
        _session.link.push(links.FILE_ABANDON, {"upload": upload})


def delete(table, keys, *, schema=None):
    current().emit(DELETE, table, keys, schema, None)


def truncate(table, *, schema=None, deferred=False):
    current().truncate(table, schema, deferred)


def checkpoint(state):
    current().checkpoint(state)


def waited_ns():
    """Nanoseconds that this thread has waited for the job to take rows."""
    return getattr(_waited, "ns", 0)


def error(message, trace):
    current().error(message, trace)


def warning(message, topic):
    current().warning(message, topic)


def answer(answer):
    session = current()
    session.check_open()
    session.link.push(links.ANSWER, answer.encode())


def finish(ending):
    current().finish(ending)


def forked():
    """A forked child has neither the threads nor the link of its parent: its operations raise."""
    if _session is not None:
        _session.ended = True


def fail(kind, trace):
    current().fail(kind, trace)


def current():
    if _session is None:
        raise RuntimeError("operations work only while a sync runs")
    return _session


class Session:
    def __init__(self, link):
        self.link, self.ended = link, False
        start = json.loads(link.start)
        self._schema, self._naming, self._inference = start["schema"], start["naming"], start["inference"]
        self._builders, self._buffered = {}, 0
        self._rows, self._inside = threading.RLock(), False
        self._one_checkpoint, self._sent = threading.Lock(), 0
        # Simulations of the original runtime let a checkpoint wait only so long.
        timeout = start.get("checkpoint_timeout_ms")
        self._checkpoint_steps_max = timeout and math.ceil(timeout / 1000 / links.WAIT_STEP)
        link.run()
        link.push(links.HELLO, {"version": VERSION})
        for message in _notes:
            link.push(links.LOG, {"level": "INFO", "message": message, "origin": "library"})

    def declare(self, tables):
        with self._locked():
            schemas = []
            for schema, table, key, columns in tables:
                name = self._name(schema, table)
                if name in self._builders:
                    text = f"two tables of schema() are both named {name[0]}.{name[1]} at the destination"
                    raise marked(ValueError(text), "schema")
                self._check_room()
                if len(columns) > COLUMNS_MAX:
                    raise too_many(f"table {name[0]}.{name[1]} has more than {COLUMNS_MAX} columns, which is the limit")
                declared = [(column, kind.replace(", ", ",")) for column, kind in columns if kind is not None]
                self._builders[name] = Builder(name, key, declared, self._naming, self._inference)
                schemas.append(self._builders[name].schema())
        self.link.push(links.SCHEMA, {"tables": schemas})

    def emit(self, op, table, data, schema, file):
        self.check_open()
        if file is None:
            self._row(op, table, data, schema)
        else:
            self._row_with_file(op, table, data, schema, file)
        if not self.link.has_room():
            self._wait_for_room()

    def _wait_for_room(self):
        """Back-pressure: what it takes is noted for whoever profiles the connector."""
        began = time.perf_counter_ns()
        try:
            self._wait(self.link.has_room)
        finally:
            _waited.ns = waited_ns() + time.perf_counter_ns() - began

    def _row_with_file(self, op, table, data, schema, file):
        """The bytes leave, then the row and the word that its file is whole go under one lock: no checkpoint between."""
        non_blank(table, "table")
        if schema is not None:
            non_blank(schema, "schema")
        uploads = importlib.import_module("fivetran_connector_sdk.file_upload")
        upload, path = uploads.send(file)
        try:
            self._row(op, table, uploads.named(data, path), schema, {"upload": upload, "path": path})
        except BaseException:
            file_abandon(upload)
            raise

    def _row(self, op, table, data, schema, upload=None):
        builder = self._builder(table, schema)
        cells = list(data.items()) if type(data) is dict else [pair(item) for item in data.items()]
        names = [column_name(key) for key, _ in cells]
        declared = builder.declared
        row = [(name, *converted(item, declared.get(name), self._inference)) for name, (_, item) in zip(names, cells)]
        self.check_open()
        with self._locked():
            before = builder.bytes
            builder.append(op, row)
            self._buffered += builder.bytes - before
            if builder.bytes >= BATCH_BYTES:
                self._flush(builder)
            elif self._buffered >= BUILDERS_BYTES_MAX:
                self._flush_all()
            if upload is not None:
                self.link.push(links.FILE_END, {**upload, "table": spelled(builder)})

    def file_chunk(self, upload, chunk):
        self.check_open()
        self.link.push(links.FILE_CHUNK, upload.to_bytes(8, "little") + chunk)
        self._wait(self.link.has_room)

    def truncate(self, table, schema, deferred):
        self.check_open()
        builder = self._builder(table, schema)
        with self._locked():
            self._flush(builder)
            self.link.push(links.TRUNCATE, {"table": spelled(builder), "deferred": bool(deferred)})

    def checkpoint(self, state):
        self.check_open()
        with self._one_checkpoint:
            with self._locked():
                self._sent += 1
                sent = self._sent
                self._flush_all()
                self.link.push(links.CHECKPOINT, f'{{"checkpoint":{sent},"state":{state}}}'.encode())
            self._wait(lambda: self.link.is_acknowledged(sent), self._checkpoint_steps_max)

    def error(self, message, trace):
        self.check_open()
        # No row can slip between: the job commits nothing after this frame.
        with self._locked():
            self._flush_all()
            self.link.push(links.ERROR, {"message": message, "trace": trace})

    def warning(self, message, topic):
        self.check_open()
        self.link.push(links.WARNING, {"message": message, "topic": topic})
        self._wait(self.link.has_room)

    def finish(self, ending):
        with self._locked():
            self.ended = True
            self._flush_all()
            self.link.set_ending()
            self.link.push(links.END, {"exit": ending})
        self._wait(self.link.is_written)

    def fail(self, kind, trace):
        with self._locked():
            self.ended = True
            self._builders.clear()
            self.link.set_ending()
            self.link.push(links.FAILED, {"kind": kind, "trace": trace})
        self._wait(self.link.is_written)

    def check_open(self):
        if self.ended:
            raise RuntimeError("the sync has ended, or this process was forked from it")

    @contextlib.contextmanager
    def _locked(self):
        """A signal handler or a finalizer may run while its own thread is in here: its operation is refused."""
        with self._rows:
            if self._inside:
                raise RuntimeError("an operation cannot interrupt another one of its thread")
            self._inside = True
            try:
                yield
            finally:
                self._inside = False

    def _builder(self, table, schema):
        table = non_blank(table, "table")
        name = self._name(None if schema is None else non_blank(schema, "schema"), table)
        with self._locked():
            if name not in self._builders:
                self._check_room()
                self._builders[name] = Builder(name, [], [], self._naming, self._inference)
            return self._builders[name]

    def _check_room(self):
        if len(self._builders) >= TABLES_MAX:
            raise too_many(f"the sync names more than {TABLES_MAX} tables, which is the limit")

    def _name(self, schema, table):
        own = self._schema if schema is None else f"{self._schema}_{naming.table_name(schema, self._naming)}"
        return own, naming.table_name(table, self._naming)

    def _flush(self, builder):
        for message in builder.warnings:
            self.link.push(links.WARNING, {"message": message, "topic": "columns"})
        builder.warnings.clear()
        self._buffered -= builder.bytes
        payload = builder.finish()
        if payload is not None:
            self.link.push(links.ROWS, payload)

    def _flush_all(self):
        for builder in self._builders.values():
            self._flush(builder)

    def _wait(self, done, steps_max=None):
        steps = 0
        while True:
            waited = self.link.wait(done)
            if waited == links.DONE:
                return
            if waited == links.LOST:
                raise RuntimeError("the link to the job is lost")
            steps += 1
            if steps_max and steps >= steps_max:
                seconds = math.ceil(steps * links.WAIT_STEP)
                raise TimeoutError(f"the checkpoint was not confirmed within {seconds} seconds")
            if steps == STALL_NOTICE_STEPS:
                message = "the connector has been waiting for the destination for 60 seconds"
                self.link.push(links.LOG, {"level": "INFO", "message": message, "origin": "library"})


def spelled(builder):
    return {"schema": builder.name[0], "table": builder.name[1]}


def pair(item):
    if not isinstance(item, tuple):
        raise TypeError("items() of a row gives pairs of name and value")
    key, value = item
    return key, value


def column_name(key):
    if isinstance(key, str):
        key.encode()
        return str.__str__(key)
    if isinstance(key, bytes):
        try:
            return key.decode()
        except UnicodeDecodeError:
            raise ValueError("a column name given as bytes must be UTF-8") from None
    raise TypeError("a column name must be a str")


def non_blank(name, what):
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a str, not {type(name).__name__}")
    name.encode()
    if not name.strip(SPACE):
        raise ValueError(f"{what} must not be blank")
    return str.__str__(name)
