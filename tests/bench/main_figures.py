"""`bench.py main`: the whole product on loopback: sizes, idle cost, start, offers, and a million rows from end to end."""

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from statistics import median

import machine
from installation import LOOK_CLOSELY_SECONDS, Bench, sync_once
from report import Report, say
from stack import Stack
from watch import MEBIBYTE, cpu_seconds, memory_bytes

SETTLE_SECONDS = 3
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


def measure_sync(bench, label, declared, rounds):
    """The whole path."""
    rows, samples = bench.sizes.rows, []
    for number in range(rounds):
        sample = sync_once(bench, rows, None, declared)
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
    ours = thousands / middle("update_cpu_s")
    report.tell("    thousand rows per CPU second of the connector process, imports left out", f"{ours:,.0f}")
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


def measure(stage, sizes, _peer=None):
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
