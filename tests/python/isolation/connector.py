"""Runs the probes as any connector's code runs, and reports by rows."""

import json
import os
import ssl
import socket
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
        "name that leads here": lambda: said_over_tcp("rebound.late.example", targets["listed_port"]),
        "name that leads to metadata": lambda: said_over_tcp("metadata.late.example", targets["listed_port"]),
    }
    for name, way in ways.items():
        try:
            got = way()
        except Exception as error:
            got = f"denied: {error!r}"
        op.upsert("egress", {"way": name, "got": got})


def update(configuration, state):
    targets = json.loads(configuration["targets"])
    what = configuration["what"]
    if what == "probes":
        for number, got in probes.run(targets).items():
            op.upsert("got", {"number": number, "got": got})
        op.upsert("surroundings", {"id": 1, "descriptors": sorted(map(int, os.listdir("/proc/self/fd"))),
                                   "variables": sorted(os.environ), "user": os.getuid()})
    elif what == "egress":
        egress(targets)
    elif what == "outlive":
        bombs.outlive(targets["outliver"])
    else:
        getattr(bombs, what)()
    op.upsert("done", {"what": what})


def schema(configuration):
    return [{"table": "got", "primary_key": ["number"]}, {"table": "egress", "primary_key": ["way"]}]


connector = Connector(update=update, schema=schema)
