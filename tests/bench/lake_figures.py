"""`bench.py lake`: keyed upserts into a large table: ours beside delta-rs and DuckDB, with marks and without."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import machine
from report import Report, say

FOLDER = Path(__file__).resolve().parent / "lake"
MEBIBYTE = 1 << 20
MEMORY_MIB_MAX = 512
MERGE_MARKS, MERGE_REWRITE = 0.15, 0.5
FLOOR_REWRITE = 1.15
SMALL_MARKS_CPU_SECONDS_MAX = 0.3
APPEND_CPU_SECONDS_MAX = 0.5


@dataclass(frozen=True)
class Sizes:
    rows: int
    rounds: int


FULL = Sizes(rows=10_000_000, rounds=5)
SMOKE = Sizes(rows=50_000, rounds=1)


class BenchError(Exception):
    pass


@dataclass
class Ran:
    wall: float
    cpu: float
    memory: int


def run(command, environment=()):
    """One process, its children's time included."""
    began = time.monotonic()
    process = subprocess.Popen(command, env={**os.environ, **dict(environment)}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    with process.stderr:
        said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise BenchError(f"{command[:4]} ended with {process.returncode}: {said.decode(errors='replace')[-2000:]}")
    return Ran(time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


class Bench:
    def __init__(self, binary, sizes, folder):
        self.binary, self.sizes, self.folder, self.report = binary, sizes, Path(folder), Report()
        self.data = self.key = None

    def ours(self, lake, rows, formats, op="upsert"):
        names = {"LAKE": lake, "ROWS": rows, "OP": op, "KEY": "id", "FORMATS": formats}
        environment = {f"INSHORE_BENCH_{name}": str(value) for name, value in names.items()}
        return run([self.binary, "--exact", "destination::tests::bench::lake"], environment)

    def peer(self, name, table, rows):
        return run([sys.executable, FOLDER / "peer.py", name, table, rows])

    def prepare(self, key):
        self.key, self.data = key, self.folder / key
        say(f"{key}: making {self.sizes.rows:,} rows")
        run([sys.executable, FOLDER / "data.py", self.data, "--rows", str(self.sizes.rows), "--key", key])
        for formats in ("delta", "iceberg"):
            loaded = self.ours(self.table(formats), self.data / "base", formats)
            self.report.tell(f"{key} key: loading {self.sizes.rows:,} rows, {formats}", f"{loaded.cpu:.1f} CPU s")
        for name in ("deltalake", "duckdb"):
            self.peer(f"{name}-create", self.table(name), self.data / "base")

    def table(self, name):
        return self.data / f"table-{name}"

    def fresh(self, name):
        """A copy of a prepared table, for one measurement."""
        place = self.data / "work"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.table(name), place)
        return place

    def measure(self, cases):
        """The cases alternately, every second round in the opposite order; medians by case."""
        found = {name: [] for name, _, _ in cases}
        for number in range(self.sizes.rounds):
            for name, table, work in cases if number % 2 == 0 else reversed(cases):
                ran = work(self.fresh(table))
                found[name].append(ran)
                self.report.sample("lake", key=self.key, case=name, wall=ran.wall, cpu=ran.cpu, memory=ran.memory, load=machine.load())
                say(f"{self.key}, {name}: {ran.wall:.2f} s, {ran.cpu:.2f} CPU s, {ran.memory / MEBIBYTE:.0f} MiB")
        return {
            name: Ran(*(median(getattr(one, what) for one in ran) for what in ("wall", "cpu", "memory"))) for name, ran in found.items()
        }


def compare(report, what, ours, peer, factor, peer_name):
    for quantity, unit in (("cpu", "CPU s"), ("wall", "s")):
        mine, theirs = getattr(ours, quantity), getattr(peer, quantity)
        report.at_most_of(f"{what}: {unit}", mine, theirs, factor, peer_name, unit)
    report.at_most(f"{what}: peak memory", ours.memory / MEBIBYTE, MEMORY_MIB_MAX, "MiB", 0)


def measure_upserts(bench, batch):
    rows = bench.data / f"{batch}.parquet"
    found = bench.measure([
        ("marks", "iceberg", lambda table: bench.ours(table, rows, "iceberg")),
        ("copy-on-write", "delta", lambda table: bench.ours(table, rows, "delta")),
        ("floor", "delta", lambda table: bench.ours(table, rows, "delta", "floor")),
        ("deltalake", "deltalake", lambda table: bench.peer("deltalake-merge", table, rows)),
        ("duckdb", "duckdb", lambda table: bench.peer("duckdb-rewrite", table, rows)),
    ])
    what = f"{bench.key} key, upsert of {bench.sizes.rows // 10:,} rows, {batch}"
    merge, rewritten = found["deltalake"], found["copy-on-write"]
    compare(bench.report, f"{what}, marks", found["marks"], merge, MERGE_MARKS, "deltalake")
    limit = max(MERGE_REWRITE, FLOOR_REWRITE * found["floor"].cpu / merge.cpu)
    compare(bench.report, f"{what}, copy-on-write", rewritten, merge, limit, "deltalake")
    bench.report.tell("    decoding and encoding the whole table", f"{found['floor'].cpu:.2f} CPU s")
    bench.report.at_most_of("    beside DuckDB writing the table anew: CPU s", rewritten.cpu, found["duckdb"].cpu, 1, "duckdb", "CPU s")


def measure_small(bench):
    small, fresh = bench.data / "small.parquet", bench.data / "fresh.parquet"
    found = bench.measure([
        ("small, marks", "iceberg", lambda table: bench.ours(table, small, "iceberg")),
        ("small, copy-on-write", "delta", lambda table: bench.ours(table, small, "delta")),
        ("append", "delta", lambda table: bench.ours(table, fresh, "delta")),
        ("deltalake append", "deltalake", lambda table: bench.peer("deltalake-append", table, fresh)),
    ])
    limit = SMALL_MARKS_CPU_SECONDS_MAX
    bench.report.at_most(f"{bench.key} key, upsert of 1,000 rows, marks", found["small, marks"].cpu, limit, "CPU s", 2)
    bench.report.tell("    copy-on-write", f"{found['small, copy-on-write'].cpu:.2f} CPU s")
    what = f"{bench.key} key, {bench.sizes.rows // 10:,} new rows"
    bench.report.at_most(what, found["append"].cpu, APPEND_CPU_SECONDS_MAX * bench.sizes.rows / FULL.rows, "CPU s", 2)
    bench.report.tell("    deltalake, appending without a look at the key", f"{found['deltalake append'].cpu:.2f} CPU s")


def measure(_stage, sizes, binary):
    with tempfile.TemporaryDirectory(prefix="inshore-bench-lake-") as folder:
        bench = Bench(binary, sizes, folder)
        for key in ("int64", "uuid"):
            bench.prepare(key)
            measure_upserts(bench, "scattered")
            measure_upserts(bench, "recent")
            measure_small(bench)
            shutil.rmtree(bench.data)
        return bench.report
