"""Runs the probes as any connector's code runs, and reports by rows."""

import json
import os
import socket
import ssl
import struct
import urllib.request

import bombs
import probes
from fivetran_connector_sdk import Connector
from fivetran_connector_sdk import Operations as op


def said_over_tcp(host, port):
    with socket.create_connection((host, int(port)), timeout=5) as stream:
        stream.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return stream.recv(64).decode()


def said_over_https(host, port, trusted, proxy):
    context = ssl.create_default_context(cadata=trusted)
    if proxy:
        opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
        return opener.open(f"https://{host}:{port}/", timeout=5).read().decode()
    with socket.create_connection((host, int(port)), timeout=5) as stream:
        with context.wrap_socket(stream, server_hostname=host) as secure:
            secure.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return "".join(iter(lambda: secure.recv(1024).decode(), ""))


def spelt(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def records(name, kind):
    """What the sandbox's resolver says, by a question of our own: code, and the data of each record."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(10)
        asking.connect(("127.0.0.1", 53))
        asking.send(b"\x01\x02\x01\0\0\x01\0\0\0\0\0\0" + spelt(name) + struct.pack(">HH", kind, 1))
        answer = asking.recv(4096)
    code, count, at, found = answer[3] & 15, answer[7], 12 + len(spelt(name)) + 4, []
    for _ in range(count):
        (length,) = struct.unpack(">H", answer[at + 10:at + 12])
        found.append(answer[at + 12:at + 12 + length])
        at += 12 + length
    if code:
        raise OSError(f"code {code}")
    return found


def services(name):
    """Host and port of each."""
    places = []
    for data in records(name, 33):
        labels, at = [], 6
        while data[at]:
            labels.append(data[at + 1:at + 1 + data[at]].decode())
            at += 1 + data[at]
        places.append((".".join(labels), struct.unpack(">H", data[4:6])[0]))
    return places


def said_by_service(name):
    """As drivers do that find a cluster's members by one name."""
    return " ".join(f"{host}:{port} {said_over_tcp(host, port)}" for host, port in services(name))


def egress(targets):
    """What each way out brings: listed ones and others."""
    trusted = targets["certificate"]
    ways = {
        "raw listed": lambda: said_over_tcp("listed.example", targets["listed_port"]),
        "raw below suffix": lambda: said_over_tcp("broker-7.late.example", targets["listed_port"]),
        "raw by address": lambda: said_over_tcp(targets["internet"], targets["listed_port"]),
        "https raw": lambda: said_over_https("listed.example", targets["https_port"], trusted, False),
        "https proxy": lambda: said_over_https("listed.example", targets["https_port"], trusted, True),
        "http proxy": lambda: urllib.request.urlopen(f"http://listed.example:{targets['listed_port']}/", timeout=5).read().decode(),
        "other name": lambda: said_over_tcp("other.example", targets["listed_port"]),
        "other https": lambda: said_over_https("other.example", targets["https_port"], trusted, True),
        "other port": lambda: said_over_tcp("listed.example", targets["other_port"]),
        "found by service": lambda: said_by_service("_kafka._tcp.cluster.late.example"),
        "text": lambda: str(records("cluster.late.example", 16)),
        "service of another": lambda: said_by_service("_kafka._tcp.other.example"),
        "text of another": lambda: str(records("other.example", 16)),
        "name that leads here": lambda: said_over_tcp("rebound.late.example", targets["listed_port"]),
        "name that leads to metadata": lambda: said_over_tcp("metadata.late.example", targets["listed_port"]),
    }
    for name, way in ways.items():
        try:
            got = way()
        except Exception as error:
            got = f"denied: {error!r}"
        op.upsert("egress", {"way": name, "got": got})


def widened():
    """Whether the room can give itself a processor more."""
    try:
        os.sched_setaffinity(0, range(os.cpu_count()))
    except PermissionError:
        return False
    return True


def own_program():
    """What reading the sandbox's own first program brings: it is mounted, and readable by its mode."""
    try:
        with open("/run/inshore/inshore", "rb") as file:
            return f"read {len(file.read(4))}"
    except OSError as error:
        return type(error).__name__


def update(configuration, state):
    targets = json.loads(configuration["targets"])
    what = configuration["what"]
    if what == "probes":
        for number, got in probes.run(targets).items():
            op.upsert("got", {"number": number, "got": got})
        op.upsert("surroundings", {"id": 1, "descriptors": sorted(map(int, os.listdir("/proc/self/fd"))),
                                   "variables": sorted(os.environ), "user": os.getuid(),
                                   "own_program": own_program()})
    elif what == "egress":
        egress(targets)
    elif what == "bounds":
        op.upsert("bounds", {"id": 1, "processors": len(os.sched_getaffinity(0)), "widened": widened()})
        op.checkpoint(state)
        bombs.memory()
    elif what == "outlive":
        bombs.outlive(targets["outliver"])
    else:
        getattr(bombs, what)()
    op.upsert("done", {"what": what})


def schema(configuration):
    return [{"table": "got", "primary_key": ["number"]}, {"table": "egress", "primary_key": ["way"]}]


connector = Connector(update=update, schema=schema)
