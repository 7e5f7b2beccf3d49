"""Owns a running control plane and agent with connections of the measured connector, and one sync of it from end to end."""

import hashlib
import pathlib
import subprocess
import sys
import time
from statistics import median

import machine
from report import Line, say
from stack import StackError, pack
from watch import MEBIBYTE, Watch

FOLDER = pathlib.Path(__file__).resolve().parent
SYNC_SECONDS = 900
CONNECTOR_RATIO_MIN = 0.5
ENDED = ("succeeded", "failed", "failed_with_task", "rescheduled", "cancelled")
# Looking costs about 0.1 ms: 1 % of a core while rows move, more where the moment counts and nothing else is measured.
LOOK_SECONDS, LOOK_CLOSELY_SECONDS = 0.01, 0.001


class Bench:
    """A running control plane and agent, and connections of the measured connector."""

    def __init__(self, stack, sizes, report):
        self.stack, self.sizes, self.report = stack, sizes, report
        self.lake = stack.folder / "lake"
        self.connections = 0

    def set_up(self):
        self.lake.mkdir()
        package = pack(FOLDER / "connector")
        self.stack.control.start()
        self.stack.agent.configure([self.lake.as_uri()], [hashlib.sha256(package).hexdigest()])
        client = self.stack.client
        self.group_id = client.create_group("bench")
        agent = client.create_agent("bench", self.group_id)
        self.agent_id = agent["id"]
        self.stack.agent.enrol(agent["token"])
        client.create_destination(self.group_id, self.lake.as_uri())
        self.package_id = client.upload("/v1/connector-sdk/packages", "bench.zip", package)["id"]

    def connect(self, rows, checkpoint_rows=None, declared=False):
        """A new connection, so that every sync writes a new table; returns its id and schema."""
        self.connections += 1
        schema = f"bench_{self.connections}"
        settings = {
            "rows": str(rows), "checkpoint_rows": str(checkpoint_rows or self.sizes.checkpoint_rows),
            "declared": str(declared).lower(), "figures": "true",
        }
        return self.stack.client.create_connection(self.group_id, schema, self.package_id, settings), schema

    def figures(self, schema):
        """What the connector says of its own last sync."""
        rows = self.table(schema, "figures").to_pylist()
        return max(rows, key=lambda row: row["imported_ns"])

    def table(self, schema, name, columns=None):
        import deltalake

        return deltalake.DeltaTable(str(self.lake / schema / name)).to_pyarrow_table(columns=columns)

    def sync(self, connection_id, schema, look_seconds=LOOK_SECONDS):
        """Runs one sync to its end: (wall seconds since the request, its Watch, the connector's own figures, and the
        request's moment)."""
        client = self.stack.client
        with Watch(look_seconds) as watch:
            asked_ns = time.monotonic_ns()
            sync_id = client.start_sync(connection_id)
            sync = {"status": "pending"}
            while sync["status"] not in ENDED:
                sync = client.sync(connection_id, sync_id, wait_seconds=60)
                if time.monotonic_ns() - asked_ns > SYNC_SECONDS * 1e9:
                    raise StackError(f"the sync did not end within {SYNC_SECONDS} s; it is {sync['status']}")
                self.stack.check()
            wall_seconds = (time.monotonic_ns() - asked_ns) / 1e9
        if sync["status"] != "succeeded":
            error = sync.get("error") or {}
            raise StackError(f"the sync ended as {sync['status']}: {error.get('code')}, {error.get('message')}")
        if not watch.job or not watch.connector:
            raise StackError("the job's or the connector's process was not seen")
        return wall_seconds, watch, self.figures(schema), asked_ns

    def start_agent(self):
        """Starts the agent; returns the seconds until the control plane has its session."""
        client = self.stack.client
        started = time.monotonic()
        self.stack.agent.start()
        while not client.agent(self.agent_id)["online"]:
            self.stack.agent.check()
            if time.monotonic() - started > 30:
                raise StackError("the agent did not come online within 30 s")
            time.sleep(0.001)
        return time.monotonic() - started

    def stop_agent(self):
        self.stack.agent.stop()
        deadline = time.monotonic() + 60
        while self.stack.client.agent(self.agent_id)["online"]:
            if time.monotonic() > deadline:
                raise StackError("a stopped agent still counts as online after 60 s")
            time.sleep(0.01)


def printed_seconds(script, *arguments):
    """What a script of this folder prints after it ran in an interpreter of its own."""
    command = [sys.executable, "-I", "-B", str(FOLDER / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SYNC_SECONDS, check=False)
    if done.returncode:
        raise StackError(f"{script} failed: {done.stderr.strip()[-500:]}")
    return float(done.stdout)


def measure_connector(bench, stage, label, declared):
    """The connector's process beside the loop that only builds its rows, in turns and each alone on the machine: what it
    sends is thrown away, as the rows of the 2.13.1 producer are."""
    sizes, pairs = bench.sizes, []
    for number in range(sizes.pairs):
        order = ("loop", "connector") if number % 2 == 0 else ("connector", "loop")
        seconds = {}
        for which in order:
            seconds[which] = printed_seconds("bare_loop.py", sizes.rows) if which == "loop" else printed_seconds(
                "alone.py", stage / "usr" / "lib" / "inshore" / "sdk", sizes.rows, sizes.checkpoint_rows, str(declared).lower()
            )
        bench.report.sample(f"connector, {label}", **seconds)
        say(f"connector, {label} {number + 1}/{sizes.pairs}: {seconds['connector']:.3f} s, the loop {seconds['loop']:.3f} s")
        pairs.append(seconds)
    ratio = median(pair["loop"] / pair["connector"] for pair in pairs)
    ours, loop = (sizes.rows / 1000 / median(pair[which] for pair in pairs) for which in ("connector", "loop"))
    bench.report.lines.append(Line(
        f"thousand rows per CPU second of the connector alone, {label} (median of {sizes.pairs} pairs)", f"{ours:,.0f}",
        f"≥ {CONNECTOR_RATIO_MIN:g} x bare loop ({loop:,.0f})", f"{ratio:.2f}", ratio >= CONNECTOR_RATIO_MIN,
    ))


def sync_once(bench, rows, checkpoint_rows, declared):
    load = machine.load()
    connection_id, schema = bench.connect(rows, checkpoint_rows, declared)
    wall_seconds, watch, figures, _ = bench.sync(connection_id, schema)
    check_lake(bench, schema, rows)
    return {
        "wall_s": wall_seconds, "connector_cpu_s": watch.connector.cpu_seconds, "update_cpu_s": figures["update_cpu_s"],
        "job_cpu_s": watch.job.cpu_seconds, "connector_mib": watch.connector.memory_bytes / MEBIBYTE,
        "job_mib": watch.job.memory_bytes / MEBIBYTE, "load": load,
    }


def check_lake(bench, schema, rows):
    """An independent reader finds every key once, so that no figure is of work that was not done."""
    import pyarrow.compute

    ids = bench.table(schema, "orders", ["id"]).column("id")
    distinct, total = pyarrow.compute.count_distinct(ids).as_py(), pyarrow.compute.sum(ids).as_py()
    if (len(ids), distinct, total) != (rows, rows, rows * (rows - 1) // 2):
        raise StackError(f"the lake holds {len(ids)} rows of {schema}, {distinct} of them distinct, not {rows}")
