"""Runs one sync of a project under the original runtime and prints, as JSON, everything that its stream said.

    drain.py PROJECT < {"configuration": {...}, "state": ...}

It starts itself as the platform starts a connector (`drain.py --serve PORT` in the project's folder), calls Schema and
Update once each, and ends the process. The messages are those that the installed package brings along; nothing of it is
copied. Runs in the environment of requirements.txt only.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile

READY_SECONDS = 60
SYNC_SECONDS = 110
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
MOMENTS = ("naive_date", "naive_datetime", "utc_datetime", "naive_time")


def serve(port):
    sys.path.append(os.getcwd())
    from connector import connector

    connector.run(port=port)


def main():
    project = os.path.abspath(sys.argv[1])
    asked = json.load(sys.stdin)
    port = free_port()
    with tempfile.TemporaryFile() as output:
        server = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), "--serve", str(port)], cwd=project, stdout=output, stderr=output,
            stdin=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        try:
            said = conversation(server, port, asked)
        finally:
            server.kill()
            server.wait()
        output.seek(0)
        said["output"] = output.read().decode(errors="replace")[-3000:]
    json.dump(said, sys.stdout)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def conversation(server, port, asked):
    """The answers to Schema and Update; `ended` is "OK", a gRPC status, or "DIED" for a process that never served."""
    import grpc
    from fivetran_connector_sdk.protos import connector_sdk_pb2, connector_sdk_pb2_grpc

    said = {"schema": None, "events": [], "ended": "OK", "details": ""}
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=UNLIMITED) as channel:
        ready = grpc.channel_ready_future(channel)
        for _ in range(READY_SECONDS * 10):
            try:
                ready.result(timeout=0.1)
                break
            except grpc.FutureTimeoutError:
                if server.poll() is not None:
                    return {**said, "ended": "DIED", "details": f"exit status {server.returncode}"}
        service = connector_sdk_pb2_grpc.SourceConnectorStub(channel)
        try:
            schema = connector_sdk_pb2.SchemaRequest(configuration=asked["configuration"])
            said["schema"] = schema_of(service.Schema(schema, timeout=SYNC_SECONDS))
            state = json.dumps(asked["state"])
            request = connector_sdk_pb2.UpdateRequest(configuration=asked["configuration"], state_json=state)
            for response in service.Update(request, timeout=SYNC_SECONDS):
                if events(response, said["events"]):
                    return {**said, "ended": "TASK"}
        except grpc.RpcError as error:
            said["ended"], said["details"] = error.code().name, error.details()[:2000]
    return said


def schema_of(response):
    """Tables as [schema or None, name, [[column, type, is key, precision, scale]]]; None when there is no schema()."""
    which = response.WhichOneof("response")
    if which == "with_schema":
        return [[schema.name, *table_of(table)] for schema in response.with_schema.schemas for table in schema.tables]
    if which == "without_schema":
        return [[None, *table_of(table)] for table in response.without_schema.tables]
    return None


def table_of(table):
    from fivetran_connector_sdk.protos import common_pb2

    return table.name, [
        [column.name, common_pb2.DataType.Name(column.type), column.primary_key, column.params.decimal.precision, column.params.decimal.scale]
        for column in table.columns
    ]


def events(response, into):
    """Appends what a response says. True when the sync stops here: the original asks for a person."""
    which = response.WhichOneof("operation")
    said = getattr(response, which)
    if which == "structured_records":
        into.extend(record(one) for one in said.structured_records)
    elif which == "structured_record":
        into.append(record(said))
    elif which == "truncate":
        into.append(["TRUNCATE", said.schema_name, said.table_name, {}])
    elif which == "checkpoint":
        into.append(["CHECKPOINT", json.loads(said.state_json)])
    elif which not in ("warning", "task", "unstructured_record", "schema_change"):
        raise SystemExit(f"drain: unknown response {which}")
    return which == "task"


def record(one):
    from fivetran_connector_sdk.protos import common_pb2

    schema = one.schema_name if one.HasField("schema_name") else None
    cells = {name: value_of(one.data[name]) for name in sorted(one.data)}
    return [common_pb2.RecordType.Name(one.type), schema, one.table_name, cells]


def value_of(value):
    """[kind, value]: moments as microseconds, binary as hex, floats as their shortest text."""
    kind = value.WhichOneof("inner")
    held = getattr(value, kind)
    if kind in MOMENTS:
        held = held.seconds * 1_000_000 + held.nanos // 1000
    elif kind == "binary":
        held = held.hex()
    elif kind in ("float", "double"):
        held = repr(held)
    return [kind, held]


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        serve(int(sys.argv[2]))
    else:
        main()
