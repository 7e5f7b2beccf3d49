#!/usr/bin/env python3
"""Inshore beside its targets: bench.py main --stage DIR [--rounds N] [--json FILE] [--smoke]

Starts the staged release on loopback in a temporary folder, measures, and prints one line per figure: ours, the limit
or the peer, `ok` or `missed`; lines without a target are there to be read. Exits 1 on a miss. What is compared runs
alternately in one go; a figure of several runs is their median, unless it says worst.
"""

import argparse
import contextlib
import hashlib
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from statistics import median

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent / "python"))

import machine  # noqa: E402
from stack import Stack, StackError, pack  # noqa: E402
from watch import MEBIBYTE, Watch, cpu_seconds, memory_bytes  # noqa: E402

SYNC_SECONDS = 900
ENDED = ("succeeded", "failed", "failed_with_task", "rescheduled", "cancelled")
# Looking costs about 0.1 ms: 1 % of a core while rows move, more where the moment counts and nothing else is measured.
LOOK_SECONDS, LOOK_CLOSELY_SECONDS = 0.01, 0.001
SETTLE_SECONDS = 3

CONNECTOR_RATIO_MIN = 0.5
JOB_MEMORY_MIB_MAX = 256
IDLE_MEMORY_MIB_MAX = 30
IDLE_CPU_PERCENT_MAX = 0.1
ONLINE_SECONDS_MAX = 1.0
OFFER_MS_MAX = 250
BINARY_MIB_MAX = 40


@dataclass(frozen=True)
class Sizes:
    rows: int
    checkpoint_rows: int
    rounds: int
    starts: int
    offers: int
    idle_seconds: int


FULL = Sizes(rows=1_000_000, checkpoint_rows=100_000, rounds=5, starts=7, offers=20, idle_seconds=60)
SMOKE = Sizes(rows=20_000, checkpoint_rows=5_000, rounds=1, starts=2, offers=2, idle_seconds=3)


@dataclass
class Line:
    """One row of the table. `target` and `ratio` are text; `ok` is None where nothing is promised."""

    what: str
    ours: str
    target: str = ""
    ratio: str = ""
    ok: bool | None = None


@dataclass
class Report:
    lines: list[Line] = field(default_factory=list)
    samples: dict[str, list] = field(default_factory=dict)

    def tell(self, what, ours):
        self.lines.append(Line(what, ours))

    def at_most(self, what, value, limit, unit, digits=1):
        ours, target = f"{value:.{digits}f} {unit}", f"≤ {limit:g} {unit}"
        self.lines.append(Line(what, ours, target, f"{value / limit:.2f}", value <= limit))

    def sample(self, kind, **values):
        self.samples.setdefault(kind, []).append(values)

    def table(self):
        verdict = {True: "ok", False: "missed", None: ""}
        cells = [["what", "ours", "limit or peer", "ratio", ""]]
        cells += [[line.what, line.ours, line.target, line.ratio, verdict[line.ok]] for line in self.lines]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        cells.insert(1, ["-" * width for width in widths])
        return "\n".join(
            "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |" for row in cells
        )

    @property
    def missed(self):
        return [line.what for line in self.lines if line.ok is False]


def say(text):
    print(text, file=sys.stderr, flush=True)


# ---- one installation -----------------------------------------------------------------------------------------------


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
            "declared": str(declared).lower(), "figures": str(self.figures(schema)),
        }
        return self.stack.client.create_connection(self.group_id, schema, self.package_id, settings), schema

    def figures(self, schema):
        return self.stack.folder / f"{schema}.json"

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
        return wall_seconds, watch, json.loads(self.figures(schema).read_text()), asked_ns

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


# ---- the figures ----------------------------------------------------------------------------------------------------


def measure_binaries(report, stage):
    for name, limit in (("inshore", BINARY_MIB_MAX), ("inshore-control", None), ("_inshore.abi3.so", None)):
        path = stage / ("usr/lib/inshore/sdk" if name.endswith(".so") else "usr/bin") / name
        sections = subprocess.run(["readelf", "-S", "-W", path], capture_output=True, text=True, check=True).stdout
        size = path.stat().st_size / MEBIBYTE
        stripped = "stripped" if ".symtab" not in sections else "not stripped"
        if limit:
            report.at_most(f"size of `{name}` ({stripped})", size, limit, "MiB")
        else:
            report.tell(f"size of `{name}` ({stripped})", f"{size:.1f} MiB")


def measure_starts(bench):
    seconds = []
    for _ in range(bench.sizes.starts):
        bench.stop_agent()
        seconds.append(bench.start_agent())
        bench.report.sample("start", seconds=seconds[-1], load=machine.load())
        say(f"start to online: {seconds[-1] * 1000:.0f} ms")
    what = f"start of the agent's process to its session at the control plane (median of {len(seconds)})"
    bench.report.at_most(what, median(seconds), ONLINE_SECONDS_MAX, "s", 3)
    bench.report.tell("    worst", f"{max(seconds):.3f} s")


def measure_idle(bench, label, seconds, limits=True):
    pid = bench.stack.agent.pid
    time.sleep(SETTLE_SECONDS)
    before, began = cpu_seconds(pid), time.monotonic()
    time.sleep(seconds)
    percent = 100 * (cpu_seconds(pid) - before) / (time.monotonic() - began)
    resident = memory_bytes(pid, "VmRSS") / MEBIBYTE
    bench.report.sample("idle", label=label, cpu_percent=percent, resident_mib=resident, load=machine.load())
    say(f"idle {label}: {resident:.1f} MiB, {percent:.3f} % of a core")
    bench.report.at_most(f"agent idle {label}: resident memory", resident, IDLE_MEMORY_MIB_MAX, "MiB")
    bench.report.at_most(f"agent idle {label}: CPU over {seconds} s", percent, IDLE_CPU_PERCENT_MAX, "% of a core", 3)


def measure_offers(bench):
    """A connection whose environment exists, asked to sync again and again."""
    connection_id, schema = bench.connect(100)
    bench.sync(connection_id, schema)
    exists, first_line, python = [], [], []
    for number in range(bench.sizes.offers):
        python.append(python_start_seconds() * 1000)
        _, watch, figures, asked_ns = bench.sync(connection_id, schema, LOOK_CLOSELY_SECONDS)
        exists.append((watch.connector.found_ns - asked_ns) / 1e6)
        first_line.append((figures["imported_ns"] - asked_ns) / 1e6)
        job = (watch.job.found_ns - asked_ns) / 1e6
        bench.report.sample(
            "offer", job_ms=job, connector_ms=exists[-1], first_line_ms=first_line[-1], python_ms=python[-1],
            load=machine.load(),
        )
        say(f"offer {number + 1}: job after {job:.0f} ms, connector {exists[-1]:.0f} ms, first line {first_line[-1]:.0f} ms")
    count = len(exists)
    report = bench.report
    what = f"sync requested by REST to the connector's process running (worst of {count})"
    report.at_most(what, max(exists), OFFER_MS_MAX, "ms", 0)
    report.tell("    median", f"{median(exists):.0f} ms")
    report.tell(f"    … to the first line of connector.py (median of {count})", f"{median(first_line):.0f} ms")
    report.tell("    a bare `python -I -c pass`, for comparison", f"{median(python):.0f} ms")


def python_start_seconds():
    started = time.monotonic()
    subprocess.run([sys.executable, "-I", "-B", "-c", "pass"], check=True)
    return time.monotonic() - started


def bare_loop_seconds(rows):
    done = subprocess.run(
        [sys.executable, "-I", "-B", str(FOLDER / "bare_loop.py"), str(rows)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def measure_sync(bench, label, declared, rounds):
    """The whole path, alternating with the loop that only builds the rows."""
    rows, samples = bench.sizes.rows, []
    for number in range(rounds):
        def loop():
            return bare_loop_seconds(rows)

        bare = loop() if number % 2 == 0 else None
        sample = sync_once(bench, rows, None, declared)
        sample["bare_loop_cpu_s"] = bare if bare is not None else loop()
        bench.report.sample(f"sync {label}", **sample)
        samples.append(sample)
        say(f"{label} {number + 1}/{rounds}: " + ", ".join(f"{name} {value:.3g}" for name, value in sample.items()))

    def middle(name):
        return median(sample[name] for sample in samples)

    report = bench.report
    thousands = rows / 1000
    head = f"{rows:,} rows, 10 columns, {label}, end to end (median of {rounds})"
    report.tell(f"{head}: wall", f"{middle('wall_s'):.1f} s, {rows / middle('wall_s'):,.0f} rows/s")
    report.tell("    connector process: CPU, peak memory", f"{middle('connector_cpu_s'):.2f} s, {middle('connector_mib'):.0f} MiB")
    report.tell("    job process: CPU", f"{middle('job_cpu_s'):.2f} s")
    ours, loop_rate = thousands / middle("update_cpu_s"), thousands / middle("bare_loop_cpu_s")
    ratio = median(sample["bare_loop_cpu_s"] / sample["update_cpu_s"] for sample in samples)
    report.lines.append(Line(
        "    thousand rows per CPU second of the connector process, imports left out", f"{ours:,.0f}",
        f"≥ {CONNECTOR_RATIO_MIN:g} x bare loop ({loop_rate:,.0f})", f"{ratio:.2f}", ratio >= CONNECTOR_RATIO_MIN,
    ))
    both = thousands / (middle("connector_cpu_s") + middle("job_cpu_s"))
    report.tell("    thousand rows per CPU second of both processes, into the lake", f"{both:,.0f}")
    worst = max(sample["job_mib"] for sample in samples)
    report.at_most("    job process: peak memory (worst)", worst, JOB_MEMORY_MIB_MAX, "MiB", 0)


def measure_one_window(bench):
    """All rows between two checkpoints: more than the job may keep in memory."""
    rows = bench.sizes.rows
    sample = sync_once(bench, rows, rows, declared=False)
    bench.report.sample("one window", **sample)
    say("one window: " + ", ".join(f"{name} {value:.3g}" for name, value in sample.items()))
    bench.report.tell(f"{rows:,} rows in one commit window: wall, CPU of the job", f"{sample['wall_s']:.1f} s, {sample['job_cpu_s']:.2f} s")
    bench.report.at_most("    job process: peak memory", sample["job_mib"], JOB_MEMORY_MIB_MAX, "MiB", 0)


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
    import deltalake
    import pyarrow.compute

    ids = deltalake.DeltaTable(str(bench.lake / schema / "orders")).to_pyarrow_table(columns=["id"]).column("id")
    distinct, total = pyarrow.compute.count_distinct(ids).as_py(), pyarrow.compute.sum(ids).as_py()
    if (len(ids), distinct, total) != (rows, rows, rows * (rows - 1) // 2):
        raise StackError(f"the lake holds {len(ids)} rows of {schema}, {distinct} of them distinct, not {rows}")


# ---- from start to end ----------------------------------------------------------------------------------------------


def measure_main(stage, sizes):
    report = Report()
    measure_binaries(report, stage)
    with tempfile.TemporaryDirectory(prefix="inshore-bench-") as folder, Stack(stage, folder) as stack:
        bench = Bench(stack, sizes, report)
        bench.set_up()
        bench.start_agent()
        measure_idle(bench, "before its first job", sizes.idle_seconds)
        measure_starts(bench)
        measure_offers(bench)
        measure_sync(bench, "types inferred", False, sizes.rounds)
        measure_sync(bench, "types declared", True, sizes.rounds)
        measure_one_window(bench)
        measure_idle(bench, "after its jobs", sizes.idle_seconds)
    return report


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=["main"])
    parser.add_argument("--stage", type=pathlib.Path, required=True, help="the staged release, as ./dev build release leaves it")
    parser.add_argument("--rounds", type=int, help="syncs per case")
    parser.add_argument("--smoke", action="store_true", help="small sizes: says that the bench works, not how fast we are")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the machine, the table and every sample here")
    arguments = parser.parse_args()
    sizes = SMOKE if arguments.smoke else FULL
    if arguments.rounds:
        sizes = Sizes(**{**asdict(sizes), "rounds": arguments.rounds})
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    described = machine.describe()
    try:
        report = measure_main(arguments.stage.resolve(), sizes)
    except StackError as error:
        print(f"bench: failed: {error}", file=sys.stderr)
        return 1
    print(f"{described['date']}: {machine.sentence(described)}, {machine.load()} at the end\n")
    print(report.table())
    if arguments.json:
        document = {"machine": described, "sizes": asdict(sizes), "lines": [asdict(line) for line in report.lines], "samples": report.samples}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")
    for what in report.missed:
        print(f"missed: {what.strip()}")
    return 1 if report.missed else 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
