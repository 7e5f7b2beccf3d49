"""`bench.py sdk`: rows from `op.upsert` into the lake, beside fivetran-connector-sdk 2.13.1 and the loop that only builds
them, alternating in one run."""

import subprocess
import tempfile
from dataclasses import dataclass
from statistics import median

import machine
from installation import FOLDER, Bench, measure_connector, sync_once
from report import Report, say
from stack import Stack, StackError

PEER_RATIO_MIN = 15
CONNECTOR_MEMORY_MIB_MAX = 150
JOB_MEMORY_MIB_MAX = 256
PEER_SECONDS = 600


@dataclass(frozen=True)
class Sizes:
    rows: int
    checkpoint_rows: int
    many_rows: int
    rounds: int
    pairs: int


FULL = Sizes(rows=1_000_000, checkpoint_rows=100_000, many_rows=10_000_000, rounds=5, pairs=9)
SMOKE = Sizes(rows=20_000, checkpoint_rows=5_000, many_rows=40_000, rounds=1, pairs=1)


def peer_seconds(peer, sizes, declared):
    command = [peer, FOLDER / "sdk_2131" / "drain.py", str(sizes.rows), str(sizes.checkpoint_rows), str(declared).lower()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PEER_SECONDS)
    if done.returncode:
        raise StackError(f"2.13.1 did not deliver its rows: {done.stderr.strip()[-500:]}")
    return float(done.stdout)


def one_round(bench, peer, declared, forward):
    """Ours and the peer; every second round in the opposite order."""
    sizes, sample = bench.sizes, {}
    cases = [
        lambda: sample.update(sync_once(bench, sizes.rows, None, declared)),
        lambda: sample.update(peer_cpu_s=peer_seconds(peer, sizes, declared)),
    ]
    for case in cases if forward else reversed(cases):
        case()
    return sample


def measure_schema(bench, peer, label, declared):
    rows, rounds, samples = bench.sizes.rows, bench.sizes.rounds, []
    for number in range(rounds):
        samples.append(one_round(bench, peer, declared, number % 2 == 0))
        bench.report.sample(label, **samples[-1])
        say(f"{label} {number + 1}/{rounds}: " + ", ".join(f"{name} {value:.3g}" for name, value in samples[-1].items()))

    def rate(seconds):
        return median(rows / 1000 / seconds(sample) for sample in samples)

    ours = rate(lambda sample: sample["update_cpu_s"])
    both = rate(lambda sample: sample["update_cpu_s"] + sample["job_cpu_s"])
    report = bench.report
    report.tell(f"{rows:,} rows, 10 columns, {label}: wall of the whole sync", f"{median(s['wall_s'] for s in samples):.1f} s")
    report.tell("    CPU of the connector for its rows, of the job", " s, ".join(
        f"{median(sample[name] for sample in samples):.2f}" for name in ("update_cpu_s", "job_cpu_s")) + " s")
    report.tell("    thousand rows per CPU second of the connector, with the job beside it", f"{ours:,.0f}")
    peer_rate = rate(lambda sample: sample["peer_cpu_s"])
    report.at_least("    … of connector and job together, into the lake", both, peer_rate, PEER_RATIO_MIN, "2.13.1 producing")
    memory(report, samples)


def memory(report, samples):
    worst = max(sample["connector_mib"] for sample in samples)
    report.at_most("    connector process: peak memory (worst)", worst, CONNECTOR_MEMORY_MIB_MAX, "MiB", 0)
    worst = max(sample["job_mib"] for sample in samples)
    report.at_most("    job process: peak memory (worst)", worst, JOB_MEMORY_MIB_MAX, "MiB", 0)


def measure_many(bench, label, declared):
    rows = bench.sizes.many_rows
    sample = sync_once(bench, rows, None, declared)
    bench.report.sample(f"{label}, many", **sample)
    say(f"{rows:,} rows, {label}: " + ", ".join(f"{name} {value:.3g}" for name, value in sample.items()))
    both = rows / 1000 / (sample["update_cpu_s"] + sample["job_cpu_s"])
    bench.report.tell(f"{rows:,} rows, {label}: wall of the whole sync", f"{sample['wall_s']:.1f} s")
    bench.report.tell("    thousand rows per CPU second of connector and job together", f"{both:,.0f}")
    memory(bench.report, [sample])


def measure(stage, sizes, peer):
    report = Report()
    with tempfile.TemporaryDirectory(prefix="inshore-bench-") as folder, Stack(stage, folder) as stack:
        bench = Bench(stack, sizes, report)
        bench.set_up()
        bench.start_agent()
        say(f"load {machine.load()}")
        for label, declared in (("types inferred", False), ("types declared", True)):
            measure_connector(bench, stage, label, declared)
        for label, declared in (("types inferred", False), ("types declared", True)):
            measure_schema(bench, peer, label, declared)
        for label, declared in (("types inferred", False), ("types declared", True)):
            measure_many(bench, label, declared)
    return report
