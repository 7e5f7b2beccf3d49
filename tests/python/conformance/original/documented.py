"""docs/compatibility.md as a list: each row of its tables names the cases that show its difference.

A plain name is a case that the original runtime fails, as differences.json notes; a name in parentheses shows what
happens here, where the other half is the platform's or a later version's and cannot be run.
"""

import pathlib
import re

from .path import noted

PAGE = pathlib.Path(__file__).resolve().parents[4] / "docs/compatibility.md"
LAST_COLUMN = "cases"


def rows():
    """What a row is about → the names in its last column, as (name, shown by the original)."""
    listed, inside = {}, False
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not cells:
            inside = False
        elif cells[-1] == LAST_COLUMN:
            inside = True
        elif inside and not set(line) <= set("|- "):
            listed[f"{cells[0]}: {cells[1]}"] = [(name, not before) for before, name in re.findall(r"(\()?`(\w+)`", cells[-1])]
    return listed


def problems(existing):
    """What is wrong between the page, the notes and the suite, as sentences. `existing`: the names of all cases."""
    listed, different = rows(), noted()
    named = {name for names in listed.values() for name, _ in names}
    shown = {name for names in listed.values() for name, original in names if original}
    found = [f"{PAGE.name}: no case for {what!r}" for what, names in listed.items() if not names]
    found += [f"{PAGE.name}: there is no case {name}" for name in sorted(named - set(existing))]
    found += [f"{PAGE.name}: {name} does not differ from the original" for name in sorted(shown - different.keys())]
    found += [f"{PAGE.name}: the difference in {name} is not listed" for name in sorted(different.keys() - shown)]
    return found if listed else [f"{PAGE.name}: there is no table with a column {LAST_COLUMN!r}"]
