"""Plays the job's part for the shim's tests: starts the host on a small project and collects its frames."""

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import textwrap

import pyarrow.ipc

HELLO, SCHEMA, ROWS, TRUNCATE, CHECKPOINT, LOG, WARNING, ERROR, END, FAILED, ANSWER = range(1, 12)
FILE_CHUNK, FILE_END, FILE_ABANDON = range(12, 15)
START, ACK = 64, 65
REPOSITORY = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))


def staged_sdk():
    """The Python packages of this tree beside the built native module; INSHORE_NATIVE names another one."""
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(REPOSITORY, "target"))
    native = os.environ.get("INSHORE_NATIVE", os.path.join(target, "debug", "lib_inshore.so"))
    if not os.path.isfile(native):
        raise RuntimeError(f"needs the native module {native}: cargo build -p inshore-sdk-native")
    folder = tempfile.mkdtemp()
    shutil.copytree(os.path.join(REPOSITORY, "sdk", "python"), folder, dirs_exist_ok=True)
    shutil.copy(native, os.path.join(folder, "_inshore.abi3.so"))
    with open(os.path.join(folder, "inshore_encoder", "letters.txt"), "wb") as letters:
        binary = os.path.join(os.path.dirname(native), "inshore")
        subprocess.run([binary, "sdk-letters"], stdout=letters, check=True)
    return folder


class Run:
    """One sync of `code` as connector.py: frames as (kind, payload), the exit status and what was printed. `start` adds
    to the host's first message, `environment` to its environment. Checkpoints are acknowledged at once, or when a frame
    of the kind `acknowledge_after` has come."""

    def __init__(self, sdk, code, state=None, environment=None, acknowledge_after=None, **start):
        with tempfile.TemporaryDirectory() as project:
            with open(os.path.join(project, "connector.py"), "w") as file:
                file.write(textwrap.dedent(code))
            start = {
                "project": project, "schema": "shop", "naming": "fivetran", "inference": "compatible", "debug": False,
                "configuration": {},
                "state": state or {}, **start,
            }  # fmt: skip
            ours, theirs = socket.socketpair()
            command = [sys.executable, "-I", "-B", os.path.join(sdk, "inshore_host.py")]
            with theirs, tempfile.TemporaryFile() as output:
                streams = {"stdin": theirs, "stdout": output, "stderr": output}
                surroundings = {**os.environ, **(environment or {})}
                host = subprocess.Popen(command, **streams, env=surroundings, start_new_session=True)
                theirs.close()
                with ours:
                    ours.sendall(frame(START, start))
                    self.frames = list(conversation(ours, acknowledge_after))
                self.exit = host.wait(60)
                output.seek(0)
                self.output = output.read().decode()

    def payloads(self, kind):
        return [payload for known, payload in self.frames if known == kind]

    def rows(self):
        return self.payloads(ROWS)

    def values(self):
        """Every row in the order of its frame, without what says how it was emitted."""
        return [row for rows in self.rows() for row in values(rows)]

    def files(self):
        """path → content of every file that is whole."""
        chunks = self.payloads(FILE_CHUNK)
        content = lambda upload: b"".join(chunk for number, chunk in chunks if number == upload)  # noqa: E731
        return {end["path"]: content(end["upload"]) for end in self.payloads(FILE_END)}

    def failure(self):
        return self.payloads(FAILED)[0]


def values(rows):
    with pyarrow.ipc.open_stream(rows["arrow"]) as stream:
        batches = stream.read_all().to_pylist()
    return [{name: value for name, value in row.items() if not name.startswith("#")} for row in batches]


def frame(kind, payload):
    body = bytes([kind]) + json.dumps(payload).encode()
    return struct.pack("<I", len(body)) + body


def conversation(link, acknowledge_after=None):
    waiting = None
    with link.makefile("rb") as stream:
        while True:
            prefix = stream.read(4)
            if len(prefix) < 4:
                return
            body = stream.read(struct.unpack("<I", prefix)[0])
            kind, payload = body[0], body[1:]
            arrow = None
            if kind == ROWS:
                header = struct.unpack("<I", payload[:4])[0]
                payload, arrow = payload[4 : 4 + header], payload[4 + header :]
            payload = json.loads(payload) if kind != FILE_CHUNK else (struct.unpack("<Q", payload[:8])[0], payload[8:])
            if arrow:
                payload["arrow"] = arrow
            yield kind, payload
            if kind == CHECKPOINT:
                waiting = payload["checkpoint"]
            if waiting is not None and kind == (acknowledge_after or CHECKPOINT):
                link.sendall(frame(ACK, {"checkpoint": waiting}))
                waiting = None
            if kind in (END, FAILED):
                return
