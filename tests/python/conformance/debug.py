"""Runs projects through `inshore debug`: the tables out of files/warehouse.db, the state out of files/state.json."""

import json
import re
import subprocess

import duckdb

from case import Found
from read_tables import canonical_column

RUN_SECONDS = 120
SCHEMA = "tester"


def run(stage, folder, project):
    """All syncs of a project. Returns (tables, state, code of the last sync's failure, its words)."""
    project.write(folder)
    code, words = None, ""
    for sync in range(1, project.syncs + 1):
        if code:
            raise AssertionError(f"sync {sync - 1} failed: {words[-2000:]}")
        (folder / "configuration.json").write_text(json.dumps(project.configuration(sync)))
        code, words = one(stage, folder, project.first)
    state = folder / "files/state.json"
    return read(folder / "files/warehouse.db"), json.loads(state.read_text()) if state.exists() else {}, code, words


def one(stage, folder, case):
    command = [stage / "usr/bin/inshore", "debug", folder, "--naming", case.naming]
    if case.inference != "compatible":
        command += ["--inference", case.inference]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=RUN_SECONDS, check=False)
    words = done.stderr.decode(errors="replace")
    if done.returncode == 0:
        return None, words
    found = re.search(r"\b[A-Z]{3}-\d{3}\b", words.rpartition("\n  tables:")[2])
    return found[0] if found else f"exit {done.returncode}", words


def read(warehouse):
    """"table" or "schema.table" → what is in it; the schema without the connection's own name."""
    found = {}
    if not warehouse.exists():
        return found
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        connection.execute("set timezone = 'UTC'")
        listed = connection.execute("select schema_name, table_name from duckdb_tables()").fetchall()
        for schema, table in listed:
            quoted = '.'.join('"' + name.replace('"', '""') + '"' for name in (schema, table))
            found[short(SCHEMA, schema, table)] = table_found(connection.execute(f"select * from {quoted}").to_arrow_table())
    return found


def short(own, schema, table):
    return table if schema == own else f"{schema.removeprefix(own + '_')}.{table}"


def table_found(table, marks=None):
    columns = [canonical_column(column.combine_chunks() if column.num_chunks else column) for column in table.columns]
    types = {name: str(kind).removeprefix("large_").removesuffix("_view") for name, kind in zip(table.column_names, table.schema.types)}
    return Found(types, [list(row) for row in zip(*columns)], marks)
