"""Connector projects out of cases: one of its own for a case that needs it, else one for all cases of a theme.

In a shared project each case is a module of its own with a state of its own, and all of them run one after the other.
"""

import dataclasses
import json

SHARED = '''
import importlib

from fivetran_connector_sdk import Connector, Operations as op

NAMES = {names}
PARTS = {{name: importlib.import_module("case_" + name) for name in NAMES}}


def schema(configuration):
    parts = (part for part in PARTS.values() if hasattr(part, "schema"))
    return [table for part in parts for table in part.schema(configuration)]


def update(configuration, state):
    for part in PARTS.values():
        for _ in part.update(configuration, {{}}) or ():
            pass


connector = Connector(update=update, schema=schema)
'''


@dataclasses.dataclass(frozen=True)
class Project:
    """Cases that run as one connector, through the same number of syncs."""

    name: str
    cases: tuple
    syncs: int

    @property
    def first(self):
        return self.cases[0]

    def files(self):
        """Path → text, as a developer's folder holds them."""
        if len(self.cases) == 1:
            return {"connector.py": self.first.module(), **self.first.files}
        files = {f"case_{case.name}.py": case.module() for case in self.cases}
        files |= self.first.files
        files["connector.py"] = SHARED.format(names=json.dumps([case.name for case in self.cases]))
        return files

    def configuration(self, sync):
        return {**self.first.configuration, "sync": str(sync)}

    def write(self, folder):
        for name, text in self.files().items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def projects(theme, cases):
    """The projects of a theme: shared ones by number of syncs, then those of single cases."""
    shared = {}
    for case in cases:
        if case.together:
            # Of one kind: the same settings, the same packages.
            kind = (case.syncs, case.inference, tuple(case.files.items()))
            shared.setdefault(kind, []).append(case)
    made = [Project(f"{theme}_{kind[0]}_{kind[1]}", tuple(group), kind[0]) for kind, group in shared.items()]
    return made + [single(case) for case in cases if not case.together]


def single(case):
    return Project(case.name, (case,), case.syncs)
