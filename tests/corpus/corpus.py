#!/usr/bin/env python3
"""Runs public connector projects and compares what they leave behind: ./dev corpus FOLDER [NAME …]

Every recipe of FOLDER (see recipes.py) is run, sync after sync, through `inshore debug`, or with --agent through a
control plane, an agent and a lake, where it needs no servers; its tables are compared by the
corpus's own comparer, its outcomes and states with those that are expected. One line per recipe says equal, differs or
failed; the exit code is 0 when all are equal. CORPUS_SRC names the folder with the projects' repositories, CORPUS_RUN
where runs and servers may write, CORPUS_VENVS where the corpus's own bootstrap put its tools.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

from recipes import CACHE, REQUIREMENTS, SCRATCH, Corpus, CorpusError, environment_of_tools, last_line
from tables import warehouse_tables
from through_agent import Failed, ThroughAgent

PREPARE_SECONDS = 1200
PROBLEMS_SHOWN = 8
TRIVIAL = """from fivetran_connector_sdk import Connector, Operations as op


def update(configuration, state):
    op.checkpoint(state)


connector = Connector(update=update)
"""


class Debug:
    """Runs a recipe through `inshore debug` in a folder of its own."""

    def __init__(self, stage, corpus):
        self.program = stage / "usr/bin/inshore"
        self.folder = corpus.scratch / "inshore"
        self._environment = environment_of_tools()
        self._prepared = set()

    def run(self, recipe):
        """Returns the tables and the outcome of every sync."""
        home = self.folder / recipe.name
        project = recipe.copy(home / "project")
        self._prepare(recipe, project, home / "prepare")
        recipe.start()
        outcomes = []
        for number in range(1, recipe.syncs + 1):
            recipe.before(number)
            outcomes.append(self._sync(recipe, number, home, project))
        warehouse = project / "files" / "warehouse.db"
        if not warehouse.exists():
            raise Failed(f"no warehouse.db: {last_line((home / f'sync{recipe.syncs}.log').read_text())}")
        return warehouse_tables(warehouse), outcomes

    def _prepare(self, recipe, project, folder):
        """Builds the environment with a trivial connector, so that an intercepting proxy of the recipe sees no installer."""
        texts = [(project / name).read_text("utf-8-sig") for name in REQUIREMENTS if (project / name).exists()]
        key = (recipe.python, *texts)
        if key in self._prepared:
            return
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(project, folder, ignore=shutil.ignore_patterns("*.py", "files"))
        (folder / "connector.py").write_text(TRIVIAL, encoding="utf-8")
        configuration = folder / "no-configuration.json"
        configuration.write_text("{}", encoding="utf-8")
        log = folder.with_suffix(".log")
        code = self._debug(recipe, folder, configuration, self._environment, log, PREPARE_SECONDS)
        if code:
            raise Failed(f"its environment: {reason(log)}")
        self._prepared.add(key)

    def _sync(self, recipe, number, home, project):
        configuration, log = home / "configuration.json", home / f"sync{number}.log"
        configuration.write_text(json.dumps(recipe.configuration(number)), encoding="utf-8")
        more = []
        if number == 1 and recipe.initial_state is not None:
            state = home / "state.json"
            state.write_text(json.dumps(recipe.initial_state), encoding="utf-8")
            more = ["--state", state]
        environment = {**self._environment, **recipe.own_variables()}
        code = self._debug(recipe, project, configuration, environment, log, recipe.seconds, more)
        state = project / "files" / "state.json"
        return code == 0, json.loads(state.read_text(encoding="utf-8")) if state.exists() else {}

    def _debug(self, recipe, project, configuration, environment, log, seconds, more=()):
        command = [self.program, "debug", project, "--configuration", configuration, "--progress", "none", *more]
        if recipe.python:
            command += ["--python-version", recipe.python]
        with open(log, "wb") as opened:
            try:
                done = subprocess.run(
                    [str(word) for word in command], env=environment, stdin=subprocess.DEVNULL, stdout=opened,
                    stderr=opened, timeout=seconds, check=False, cwd=log.parent,
                )
            except subprocess.TimeoutExpired:
                return 124
        return done.returncode


def reason(log):
    """The words of a failed run: from the line that names a code on."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    start = next((at for at, line in enumerate(lines) if re.search(r"\b(PKG|SDK|AGT)-\d{3}\b", line)), len(lines) - 1)
    return " | ".join(line.strip() for line in lines[start:][:4])[:400] if lines else "it failed without a word"


def run_one(runner, recipe, folder):
    """The verdict on one recipe, and what is wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{recipe.name}.tables.json"
    try:
        tables, outcomes = runner.run(recipe)
        file.write_text(json.dumps(tables, ensure_ascii=False), encoding="utf-8")
        problems = recipe.judge(outcomes) + recipe.corpus.compare(recipe.name, file)
    except (Failed, CorpusError, subprocess.TimeoutExpired, OSError) as error:
        return "failed", [str(error)]
    return ("differs", problems) if problems else ("equal", [])


def run_all(runner, corpus, names, out=sys.stdout):
    verdicts = {}
    width = max((len(name) for name in names), default=0)
    folder = corpus.scratch / "tables"
    try:
        for name in names:
            began = time.monotonic()
            verdict, problems = run_one(runner, corpus.recipe(name), folder)
            verdicts[name] = verdict
            print(f"{verdict:8} {name:{width}} {time.monotonic() - began:6.1f} s", file=out)
            for problem in problems[:PROBLEMS_SHOWN]:
                print(f"         {problem}", file=out)
            out.flush()
    finally:
        corpus.stop_servers()
    counts = {kind: list(verdicts.values()).count(kind) for kind in ("equal", "differs", "failed")}
    print(", ".join(f"{count} {kind}" for kind, count in counts.items()), f"of {len(names)} recipes", file=out)
    return counts["equal"] == len(names)


def main():
    parser = argparse.ArgumentParser(prog="./dev corpus", description="Run public connector projects and compare.")
    parser.add_argument("folder", help="the corpus")
    parser.add_argument("names", nargs="*", metavar="NAME", help="recipes; all without one")
    parser.add_argument("--stage", required=True, type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--list", action="store_true", help="print the names and end")
    parser.add_argument("--agent", action="store_true", help="run through control plane, agent and lake instead")
    parser.add_argument("--no-servers", action="store_true", help="only recipes that need no local server")
    arguments = parser.parse_intermixed_args()
    run = os.environ.get("CORPUS_RUN") or SCRATCH
    tools = os.environ.get("CORPUS_VENVS") or CACHE / "venv"
    try:
        corpus = Corpus(arguments.folder, os.environ.get("CORPUS_SRC") or pathlib.Path(arguments.folder, "src"), run, tools)
        names = arguments.names or corpus.names()
        if arguments.no_servers or (arguments.agent and not arguments.names):
            names = [name for name in names if corpus.recipe(name).needs_nothing_else]
        if arguments.list:
            print("\n".join(names))
            return 0
        for name in names:
            corpus.recipe(name)
        corpus.make_fixtures()
        stage = arguments.stage.resolve()
        with ThroughAgent(stage, corpus) if arguments.agent else contextlib.nullcontext(Debug(stage, corpus)) as runner:
            return 0 if run_all(runner, corpus, names) else 1
    except CorpusError as error:
        print(f"corpus: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
