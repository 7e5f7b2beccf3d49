"""Drains the measured connector under fivetran-connector-sdk 2.13.1: drain.py ROWS CHECKPOINT_ROWS DECLARED

Prints the CPU seconds that the connector's process took between the Schema call and the last record; imports and this
client are left out. The records are counted, or the run fails.
"""

import socket
import subprocess
import sys
import time
from pathlib import Path

import grpc
from fivetran_connector_sdk.protos import connector_sdk_pb2, connector_sdk_pb2_grpc

READY_SECONDS = 60


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cpu_seconds(pid):
    return time.clock_gettime((~pid << 3) | 2)


def drain(channel, configuration):
    """The number of records of the one table."""
    service = connector_sdk_pb2_grpc.SourceConnectorStub(channel)
    service.Schema(connector_sdk_pb2.SchemaRequest(configuration=configuration))
    records = 0
    for response in service.Update(connector_sdk_pb2.UpdateRequest(configuration=configuration, state_json="{}")):
        if response.HasField("structured_records"):
            records += len(response.structured_records.structured_records)
        elif response.HasField("structured_record"):
            records += 1
    return records


def main():
    rows, checkpoint_rows, declared = sys.argv[1:]
    configuration = {"rows": rows, "checkpoint_rows": checkpoint_rows, "declared": declared, "figures": "false"}
    port = free_port()
    command = [sys.executable, str(Path(__file__).resolve().parent / "serve.py"), str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        with grpc.insecure_channel(f"localhost:{port}", options=[("grpc.max_receive_message_length", -1)]) as channel:
            grpc.channel_ready_future(channel).result(timeout=READY_SECONDS)
            before = cpu_seconds(server.pid)
            records = drain(channel, configuration)
            used = cpu_seconds(server.pid) - before
    finally:
        server.kill()
        server.wait()
    if records != int(rows):
        sys.exit(f"{records} records arrived, {rows} expected")
    print(used)


main()
