"""The socket to the job: a queue bounded in bytes, one thread that writes it, one that reads acknowledgements.

Pushing never blocks, so that frames are queued in the order in which rows were gathered; whoever pushed waits for room
afterwards. When the job is gone this process has nothing left to do: the reader ends it, with every process of its group.
"""

import collections
import json
import os
import signal
import socket
import struct
import threading

HELLO, SCHEMA, ROWS, TRUNCATE, CHECKPOINT, LOG, WARNING, ERROR, END, FAILED, ANSWER, FILE_CHUNK, FILE_END, FILE_ABANDON = range(1, 15)
START, ACK, STOP = 64, 65, 66
FRAME_BYTES_MAX = 64 << 20
QUEUE_BYTES_MAX = 16 << 20
CONTROL_BYTES = 64
# How long a wait lasts before the caller looks at signals again.
WAIT_STEP = 0.5
DONE, NOT_YET, LOST = range(3)


class Link:
    def __init__(self):
        """Takes stdin as the socket and waits for the start message."""
        self._socket = socket.socket(fileno=os.dup(0))
        self._queue, self._bytes, self._writing = collections.deque(), 0, False
        self._lost, self._ending, self._acknowledged = False, False, 0
        # Signal handlers and finalizers run between any two lines: they may take the lock that their thread holds.
        self._moved = threading.Condition(threading.RLock())
        frame = self._receive()
        if frame is None or frame[0] != START:
            raise RuntimeError("the job closed the socket before it started the sync")
        self.start = frame[1].decode()

    def run(self):
        for name, work in (("inshore-read", self._read), ("inshore-write", self._write)):
            threading.Thread(target=work, name=name, daemon=True).start()

    def push(self, kind, payload):
        """A frame: JSON, or bytes that are a payload already."""
        if not isinstance(payload, bytes):
            payload = json.dumps(payload).encode()
        with self._moved:
            self._queue.append((kind, payload))
            self._bytes += len(payload) + CONTROL_BYTES
            self._moved.notify_all()

    def has_room(self):
        return self._bytes <= QUEUE_BYTES_MAX

    def is_acknowledged(self, checkpoint):
        return self._acknowledged >= checkpoint

    def is_written(self):
        """Or nobody reads any more: whoever has the last frame may close before the writer knows."""
        return self._lost or not self._queue and not self._writing

    def set_ending(self):
        """From here on the job may close its end: the sync is over."""
        self._ending = True

    def wait(self, done):
        """One step of waiting."""
        with self._moved:
            self._moved.wait_for(lambda: done() or self._lost, WAIT_STEP)
            return DONE if done() else LOST if self._lost else NOT_YET

    def _write(self):
        while True:
            with self._moved:
                self._moved.wait_for(lambda: self._queue or self._lost)
                if self._lost:
                    return
                kind, payload = self._queue.popleft()
                self._writing = True
            sent = self._send(kind, payload)
            with self._moved:
                self._bytes -= len(payload) + CONTROL_BYTES
                self._writing = False
                self._lost |= not sent
                self._moved.notify_all()

    def _send(self, kind, payload):
        """Rows that cannot be framed are a fault of this runtime: it says so, then the link is lost."""
        fits = len(payload) < FRAME_BYTES_MAX
        if not fits:
            kind, payload = FAILED, json.dumps({"kind": "internal", "trace": f"a frame of {len(payload)} bytes"}).encode()
        try:
            self._socket.sendall(struct.pack("<IB", len(payload) + 1, kind) + payload)
        except OSError:
            return False
        return fits

    def _read(self):
        while True:
            frame = self._receive()
            if frame is None or frame[0] == STOP:
                break
            if frame[0] == ACK:
                with self._moved:
                    self._acknowledged = json.loads(frame[1])["checkpoint"]
                    self._moved.notify_all()
        with self._moved:
            self._lost = True
            self._moved.notify_all()
        if not self._ending:
            end_process_group()

    def _receive(self):
        """(kind, payload), or None at the end of the stream."""
        prefix = self._exactly(4)
        if prefix is None:
            return None
        body = self._exactly(struct.unpack("<I", prefix)[0])
        return (body[0], body[1:]) if body else None

    def _exactly(self, count):
        parts = bytearray()
        while len(parts) < count:
            try:
                part = self._socket.recv(min(count - len(parts), 1 << 20))
            except OSError:
                return None
            if not part:
                return None
            parts += part
        return bytes(parts)


def end_process_group():
    """A hanging connector must not outlive its job."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
