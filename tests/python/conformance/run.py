#!/usr/bin/env python3
"""Runs the conformance suite: every case through `inshore debug`, and through control plane, agent and lake.

    run.py --stage DIR [--path debug|agent|both] [NAME …]
    run.py --original PYTHON [--note] [NAME …]

NAME is a case or a theme (a file of cases/). Prints what differs, ends with one line per path, exits 1 on a difference.
With --original the cases run under the original runtime, which that interpreter has: how it differs must be what
original/differences.json notes, and docs/compatibility.md must list each of them. --note writes the notes anew.
"""

import argparse
import concurrent.futures
import contextlib
import importlib
import os
import pathlib
import shutil
import sys
import tempfile
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import debug  # noqa: E402
from case import UNCHECKED, differences  # noqa: E402
from cases.surprises import SURPRISES  # noqa: E402
from original import documented, path as originals  # noqa: E402
from project import projects, single  # noqa: E402

PARALLEL = 2


def load(wanted, path):
    """Theme → cases."""
    themes, every = {}, []
    for file in sorted((HERE / "cases").glob("*.py")):
        cases = importlib.import_module(f"cases.{file.stem}").CASES
        every += [case.name for case in cases]
        chosen = [case for case in cases if not wanted or file.stem in wanted or case.name in wanted]
        counts = originals.applies if path == "original" else (lambda case: case.only in (None, path))
        themes[file.stem] = [case for case in chosen if counts(case)]
    twice = {name for name in every if every.count(name) > 1}
    missing = {name for named in SURPRISES.values() for name in named} - set(every)
    if twice or missing:
        sys.exit(f"conformance: two cases are named {sorted(twice)}, no case is named {sorted(missing)}")
    return themes, every


def verdicts(project, outcome, judge):
    """Case → what is wrong with it."""
    tables, *rest = outcome
    owners = {table: case for case in project.cases for table in case.tables or ()}
    result = {}
    for case in project.cases:
        mine = {name: found for name, found in tables.items() if owners.get(name, project.cases[-1]) is case}
        result[case] = judge(case, (mine, *rest))
    return result


def wrong_with(case, outcome):
    """How an outcome differs from what the case expects."""
    tables, state, code, words = outcome
    problems = []
    if code != case.fails:
        problems.append(f"ended with {code}, expected {case.fails}: {words[-1500:]}")
    if case.state is not UNCHECKED and state != case.state:
        problems.append(f"state {str(state)[:300]}, expected {case.state}")
    problems += [f"{text!r} is not said in {words[-1500:]}" for text in case.words if text not in words]
    problems += [f"{text!r} is said" for text in case.unsaid if text in words]
    return problems + differences(case, tables)


class Debug:
    """The path through `inshore debug`."""

    def __init__(self, stage, folder, _):
        self._stage, self._folder = stage, folder

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def run(self, project):
        folder = self._folder / project.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return debug.run(self._stage, folder, project)

    def orphans(self):
        return []


def opened(path, stage, folder, made):
    if path == "debug":
        return Debug(stage, folder, made)
    from agent import Lake

    # A shared project that fails is taken apart: each of its cases may need a package of its own.
    alone = [single(case) for project in made if len(project.cases) > 1 for case in project.cases]
    return Lake(stage, folder, made + alone)


def judged(runner, project, judge=wrong_with):
    """The verdicts of a project; when the whole of a shared one failed, those of its cases one by one."""
    try:
        outcome = runner.run(project)
    except Exception:  # a broken case is a finding, not the end of the suite
        outcome = None
        if len(project.cases) == 1:
            return {project.first: [traceback.format_exc(limit=-2)]}
    if len(project.cases) > 1 and (outcome is None or outcome[2]):
        return {case: problems for part in project.cases for case, problems in judged(runner, single(part), judge).items()}
    return verdicts(project, outcome, judge)


def suite(path, stage, wanted):
    """Number of cases and of those that differ."""
    themes, _ = load(wanted, path)
    made = [project for theme, cases in themes.items() for project in projects(theme, cases)]
    folder = pathlib.Path(tempfile.mkdtemp(prefix="conformance-", dir=os.environ.get("CONFORMANCE_DIR")))
    started, total, wrong = time.monotonic(), 0, 0
    with contextlib.ExitStack() as cleanup:
        runner = cleanup.enter_context(opened(path, stage, folder, made))
        pool = cleanup.enter_context(concurrent.futures.ThreadPoolExecutor(PARALLEL))
        for result in pool.map(lambda project: judged(runner, project), made):
            for case, problems in result.items():
                total += 1
                wrong += bool(problems)
                if problems:
                    print(f"{path}: {case.name}", *problems, sep="\n    ", flush=True)
        orphans = runner.orphans()
    if orphans:
        wrong += 1
        print(f"{path}: files that nobody needs:", *orphans[:5], sep="\n    ")
    took = time.monotonic() - started
    print(f"conformance, {path}: {total} cases in {len(made)} connectors, {wrong} differ, {took:.0f} s", flush=True)
    if wrong:
        print(f"    {folder} is left for you to look at")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return total, wrong


def original(interpreter, wanted, write):
    """The same for the original runtime; wrong is a case whose difference is not the noted one."""
    themes, _ = load(wanted, "original")
    made = [project for theme, cases in themes.items() for project in projects(theme, cases)]
    found = {}
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder, concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
        runner = originals.Original(interpreter, pathlib.Path(folder))
        for result in pool.map(lambda project: judged(runner, project, originals.told), made):
            found |= {case.name: problems for case, problems in result.items()}
    if write:
        originals.note({name: problems for name, problems in {**originals.noted(), **found}.items() if problems})
    noted = originals.noted()
    wrong = {name: problems for name, problems in found.items() if problems != noted.get(name, [])}
    if not wanted:
        wrong |= {name: [] for name in noted.keys() - found.keys()}
    for name, problems in wrong.items():
        print(f"original: {name}", *(f"+ {line}" for line in problems), *(f"- {line}" for line in noted.get(name, [])), sep="\n    ")
    differ = sum(bool(problems) for problems in found.values())
    print(f"conformance, original: {len(found)} cases, {differ} differ from here, {len(wrong)} otherwise than noted", flush=True)
    return len(found), len(wrong)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", type=pathlib.Path)
    parser.add_argument("--original", type=pathlib.Path, metavar="PYTHON")
    parser.add_argument("--note", action="store_true", help="write down how the original differs")
    parser.add_argument("--path", choices=("debug", "agent", "both"), default="both")
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    if not arguments.original and not arguments.stage:
        parser.error("one of --stage and --original is needed")
    if arguments.original:
        total, wrong = original(arguments.original.absolute(), set(arguments.names), arguments.note)
        sys.exit(1 if wrong or not total or unlisted() else 0)
    paths = ("debug", "agent") if arguments.path == "both" else (arguments.path,)
    ended = [suite(path, arguments.stage.resolve(), set(arguments.names)) for path in paths]
    sys.exit(1 if unlisted() or any(wrong or not total for total, wrong in ended) else 0)


def unlisted():
    """Whether docs/compatibility.md, the notes and the cases contradict each other."""
    problems = documented.problems(load(set(), "original")[1])
    for problem in problems:
        print(f"conformance: {problem}")
    return bool(problems)


if __name__ == "__main__":
    main()
