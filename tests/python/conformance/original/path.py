"""The column of the suite that runs the original runtime: what it sends, taken up by destination.py, against what the
cases expect of this product. Each difference must be the one that differences.json notes.
"""

import json
import pathlib
import subprocess

from case import UNCHECKED, DELETED, ID, SYNCED, arrow_type, expected_rows, sort_key

from .destination import Destination

HERE = pathlib.Path(__file__).resolve().parent
NOTED = HERE / "differences.json"
RUN_SECONDS = 180
# Sentences per case and table.
SHOWN = 12


class Original:
    """Runs projects under the interpreter that has the original package."""

    def __init__(self, interpreter, folder):
        self._interpreter, self._folder = interpreter, folder

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def run(self, project):
        """(tables, state, how the last sync failed or None, what was said), as the other paths."""
        folder = self._folder / project.name
        folder.mkdir(exist_ok=True)
        project.write(folder)
        destination, succeeded, said = Destination(project.first.naming), True, {}
        for sync in range(1, project.syncs + 1):
            if not succeeded:
                break
            asked = {"configuration": project.configuration(sync), "state": destination.state}
            done = subprocess.run(
                [self._interpreter, HERE / "drain.py", folder], input=json.dumps(asked), capture_output=True, text=True,
                timeout=RUN_SECONDS, check=False,
            )  # fmt: skip
            if done.returncode:
                raise AssertionError(f"the drain failed: {done.stderr[-2000:]}")
            said = json.loads(done.stdout)
            succeeded = destination.sync(said)
        return destination.found(), destination.state, None if succeeded else said["ended"], said.get("details", "")

    def orphans(self):
        return []


def applies(case):
    """The mode `rich` and what only one of our own ways does have no counterpart."""
    return case.only is None and case.inference != "rich"


def told(case, outcome):
    """How the original differs from what the case expects here: short sentences that are the same in every run."""
    tables, state, code, _ = outcome
    problems = []
    if bool(code) != bool(case.fails):
        problems.append(f"the sync {'fails' if code else 'succeeds'}, here it {'ends with ' + case.fails if case.fails else 'succeeds'}")
    if code == "UNAVAILABLE" and case.fails:
        return problems  # what a dying process still sent depends on the moment
    if case.state is not UNCHECKED and state != case.state:
        problems.append(f"the state is {short(json.dumps(state, sort_keys=True))}")
    if case.tables is None:
        return problems + [f"checked: {len(case.check(tables))} differ"] if case.check(tables) else problems
    problems += [f"there is a table {name}" for name in some(tables.keys() - case.tables.keys())]
    problems += [f"there is no table {name}" for name in some(case.tables.keys() - tables.keys())]
    for name in sorted(case.tables.keys() & tables.keys()):
        problems += [f"{name}: {problem}" for problem in table_told(case.tables[name], tables[name])]
    if not problems and case.check:
        problems += [short(problem) for problem in case.check(tables)]
    return problems


def table_told(table, found):
    wanted = {name: arrow_type(kind) for name, kind in table.columns.items()} | {DELETED: "bool"} | ({ID: "string"} if table.keyless else {})
    there = {name: kind for name, kind in found.columns.items() if name != SYNCED}
    problems = [f"{name} is {kind}" for name, kind in sorted(there.items()) if kind != wanted.get(name)]
    problems += [f"there is no column {name}" for name in sorted(wanted.keys() - there.keys())]
    names = [name for name in wanted if name != ID]
    shown = list(found.columns)
    ours = [dict(zip(wanted, row)) for row in expected_rows(table)]
    theirs = [dict(zip(shown, row)) for row in found.rows]
    here = sorted(([row.get(name) for name in names] for row in ours), key=sort_key)
    originals = sorted(([row.get(name) for name in names] for row in theirs), key=sort_key)
    for row in originals:
        if row in here:
            here.remove(row)
        else:
            problems.append(f"a row is {spelled(names, row)}")
    problems += [f"there is no row {spelled(names, row)}" for row in here]
    return problems[:SHOWN]


def some(names):
    """So many that a person reads them."""
    return sorted(names)[:SHOWN]


def spelled(names, row):
    return short(", ".join(f"{name} {cell}" for name, cell in zip(names, row) if cell is not None and (name, cell) != (DELETED, "b:false")))


def short(text):
    return text if len(text) <= 200 else f"{text[:160]}… of {len(text)} characters"


def noted():
    return json.loads(NOTED.read_text(encoding="utf-8")) if NOTED.exists() else {}


def note(differences):
    text = json.dumps(dict(sorted(differences.items())), indent=1, ensure_ascii=False)
    NOTED.write_text(text + "\n", encoding="utf-8")
