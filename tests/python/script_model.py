"""A scripted source and the tables that it must lead to, by a model that shares no code with the product.

    script_model.py generate FILE --seed 7 --operations 2000 --checkpoints 20
    script_model.py compare FILE --lake DIR --schema NAME

A script is lines of JSON: first the schema, then operations: ["u"|"p"|"d", table, row], ["t", table], ["c", pad]. The
connector in tests/src/script.rs plays it. `compare` prints one line of JSON: rows, lost, duplicated, changed.
"""

import argparse
import copy
import json
import os
import random
import sys

SCHEMA = [
    {"table": "keyed", "primary_key": ["id"]},
    {"table": "pairs", "primary_key": ["left", "right"]},
    {"table": "lines"},
]
# Longer than the statistics of a Parquet column keep.
LONG = "k" * 100


def generate(seed, operations, checkpoints):
    rng = random.Random(seed)
    yield SCHEMA
    marks = set(rng.sample(range(1, operations), checkpoints))
    for number in range(operations):
        yield operation(rng, number / operations)
        if number in marks:
            yield ["c", rng.choice([0, 0, 0, 10])]


def operation(rng, progress):
    table = rng.choices(["keyed", "pairs", "lines"], [6, 3, 2])[0]
    if table == "lines":
        # Few values: equal rows come again and again, in one window and in many.
        return ["u", "lines", {"a": rng.randrange(12), "b": rng.choice([None, "x", "", "ü"])}]
    kind = rng.choices("updt", [12, 6, 4, 0.15])[0]
    if kind == "t":
        return ["t", table]
    key = keyed(rng, progress) if table == "keyed" else pair(rng)
    if kind == "d":
        return ["d", table, key]
    columns = {"n": rng.randrange(1_000_000), "text": rng.choice([None, "", "v%d" % rng.randrange(99), "z" * 300])}
    if kind == "p":
        columns = dict(rng.sample(list(columns.items()), rng.choice([0, 1, 2])))
    return ["u" if kind == "u" else "p", table, {**key, **columns}]


def keyed(rng, progress):
    """The key's type widens on the way: INT, LONG, STRING."""
    number = rng.randrange(60)
    if progress > 0.66 and rng.random() < 0.3:
        return {"id": rng.choice(["", LONG + str(number), str(number), "\u00e4" * 40 + str(number)])}
    if progress > 0.33 and rng.random() < 0.3:
        return {"id": number + (1 << 40)}
    return {"id": number}


def pair(rng):
    return {"left": rng.choice([-1.5, 0.0, 2.0, 1e300]), "right": LONG + rng.choice(["", "\U0010ffff" * 3, "a", "b"])}


def model(script):
    """Table -> key -> row; a row that was deleted stays, marked. A truncation drops what its window held (C24)."""
    keys, tables, before = {}, {}, {}
    for line in script:
        if isinstance(line, list) and line and isinstance(line[0], dict):
            keys = {table["table"]: table.get("primary_key") for table in line}
            tables = {name: {} for name in keys}
            before = copy.deepcopy(tables)
            continue
        kind, *rest = line
        if kind == "c":
            before = copy.deepcopy(tables)
            continue
        if kind == "t":
            old = copy.deepcopy(before[rest[0]])
            tables[rest[0]] = {key: {**row, "_fivetran_deleted": True} for key, row in old.items()}
            continue
        rows = tables[rest[0]]
        key = identity(rest[1], keys[rest[0]])
        old = rows.get(key)
        if kind == "u":
            rows[key] = {**rest[1], "_fivetran_deleted": False}
        elif old and not old["_fivetran_deleted"]:
            old.update(rest[1] if kind == "p" else {"_fivetran_deleted": True})
    return keys, tables


def identity(row, key):
    return tuple(text(row.get(name)) for name in key or sorted(name for name in row if not name.startswith("_fivetran")))


def text(value):
    return None if value is None else repr(value) if isinstance(value, float) else str(value)


def compare(script, lake, schema):
    import deltalake

    keys, tables = model(script)
    result = {"rows": 0, "lost": 0, "duplicated": 0, "changed": 0, "examples": []}
    for table, wanted in tables.items():
        folder = os.path.join(lake, schema, table)
        if not wanted and not os.path.isdir(folder):
            continue
        seen = {}
        for row in deltalake.DeltaTable(folder).to_pyarrow_table().to_pylist():
            row = {name: value for name, value in row.items() if name not in ("_fivetran_synced", "_fivetran_id")}
            result["rows"] += 1
            key = identity(row, keys[table])
            if key in seen:
                note(result, "duplicated", [table, key])
            seen[key] = row
            want = wanted.get(key)
            if want is None:
                note(result, "changed", [table, key, "nobody emitted it"])
            elif any(text(want.get(name)) != text(row.get(name)) for name in {*want, *row}):
                note(result, "changed", [table, key, want, row])
        for key in wanted.keys() - seen.keys():
            note(result, "lost", [table, key])
    return result


def note(result, what, example):
    result[what] += 1
    if len(result["examples"]) < 5:
        result["examples"].append([what, repr(example)[:600]])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("command", choices=["generate", "compare"])
    parser.add_argument("file")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--operations", type=int, default=2000)
    parser.add_argument("--checkpoints", type=int, default=20)
    parser.add_argument("--lake")
    parser.add_argument("--schema", default="shop")
    arguments = parser.parse_args()
    if arguments.command == "generate":
        with open(arguments.file, "w", encoding="utf-8") as file:
            for line in generate(arguments.seed, arguments.operations, arguments.checkpoints):
                file.write(json.dumps(line) + "\n")
        return 0
    with open(arguments.file, encoding="utf-8") as file:
        result = compare((json.loads(line) for line in file), arguments.lake, arguments.schema)
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
