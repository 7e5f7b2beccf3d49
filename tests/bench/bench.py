#!/usr/bin/env python3
"""Inshore beside its targets: bench.py NAME --stage DIR [--rounds N] [--json FILE] [--smoke]

Starts the staged release on loopback in a temporary folder, measures, and prints one line per figure: ours, the limit
or the peer, `ok` or `missed`; lines without a target are there to be read. Exits 1 on a miss. What is compared runs
alternately in one go; a figure of several runs is their median, unless it says worst.
"""

import argparse
import contextlib
import json
import pathlib
import signal
import sys
from dataclasses import asdict, replace

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent / "python"))

import lake_figures  # noqa: E402
import machine  # noqa: E402
import main_figures  # noqa: E402
import sdk_figures  # noqa: E402
from stack import StackError  # noqa: E402

NAMES = {"lake": lake_figures, "main": main_figures, "sdk": sdk_figures}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--stage", type=pathlib.Path, required=True, help="the staged release, as ./dev build release leaves it")
    parser.add_argument("--rounds", type=int, help="syncs per case")
    parser.add_argument("--smoke", action="store_true", help="small sizes: says that the bench works, not how fast we are")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the machine, the table and every sample here")
    parser.add_argument("--peer", type=pathlib.Path, metavar="PYTHON", help="sdk: the interpreter with fivetran-connector-sdk 2.13.1")
    parser.add_argument("--binary", type=pathlib.Path, metavar="FILE", help="lake: the release build of the agent's unit tests")
    arguments = parser.parse_args()
    bench = NAMES[arguments.name]
    sizes = bench.SMOKE if arguments.smoke else bench.FULL
    if arguments.rounds:
        sizes = replace(sizes, rounds=arguments.rounds)
    if bench is sdk_figures and not arguments.peer:
        parser.error("sdk compares with fivetran-connector-sdk 2.13.1: name its interpreter with --peer")
    if bench is lake_figures and not arguments.binary:
        parser.error("lake runs the destination alone: name the release build of the agent's unit tests with --binary")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    described = machine.describe()
    try:
        report = bench.measure(arguments.stage.resolve(), sizes, arguments.binary or arguments.peer)
    except (StackError, lake_figures.BenchError) as error:
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
