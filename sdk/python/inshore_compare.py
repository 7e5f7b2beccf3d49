"""Compares the tables of two DuckDB files, which differ in nothing but what they are: rows count as equal when all columns
are that both have, `_fivetran_synced` left out.

Reads one JSON object from stdin: {"here": path, "there": path, "result": path}, and writes into the result a list of
{"table", "missing": "here"|"there"|null, "columns": [[name, type here or null, type there or null]], "only_here", "only_there"}.
Nothing is written to either file.
"""

import json
import os
import sys

import duckdb

SYSTEM = {"information_schema", "pg_catalog"}
# Differs in every run by its meaning.
LEFT_OUT = {"_fivetran_synced"}


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def tables(connection, database):
    """Columns with their types, by (schema, table)."""
    query = (
        "SELECT schema_name, table_name, column_name, data_type FROM duckdb_columns() "
        "WHERE database_name = ? AND NOT internal ORDER BY 1, 2, column_index"
    )
    found = {}
    for schema, table, column, kind in connection.execute(query, [database]).fetchall():
        if schema not in SYSTEM:
            found.setdefault((schema, table), {})[column] = kind
    return found


def compared(connection, name, here, there):
    table = ".".join(name)
    if here is None or there is None:
        missing = "here" if here is None else "there"
        return {"table": table, "missing": missing, "columns": [], "only_here": 0, "only_there": 0}
    columns = [
        [column, here.get(column), there.get(column)]
        for column in {**here, **there}
        if here.get(column) != there.get(column)
    ]
    common = ", ".join(f"CAST({quoted(column)} AS VARCHAR)" for column in here if column in there and column not in LEFT_OUT)
    only_here = only_there = 0
    if common:
        where = ".".join(quoted(part) for part in name)
        one, other = (f"SELECT {common} FROM {side}.{where}" for side in ("here", "there"))
        count = "SELECT count(*) FROM ({} EXCEPT ALL {})"
        only_here = connection.execute(count.format(one, other)).fetchone()[0]
        only_there = connection.execute(count.format(other, one)).fetchone()[0]
    return {"table": table, "missing": None, "columns": columns, "only_here": only_here, "only_there": only_there}


def main():
    request = json.load(sys.stdin)
    with duckdb.connect() as connection:
        for side in ("here", "there"):
            path = request[side].replace("'", "''")
            connection.execute(f"ATTACH '{path}' AS {side} (READ_ONLY)")
        here, there = tables(connection, "here"), tables(connection, "there")
        result = [compared(connection, name, here.get(name), there.get(name)) for name in sorted({**here, **there})]
    with open(request["result"] + ".new", "w", encoding="utf-8") as file:
        json.dump(result, file)
    os.replace(request["result"] + ".new", request["result"])


if __name__ == "__main__":
    try:
        main()
    except (duckdb.Error, OSError) as error:
        sys.exit(" ".join(str(error).split()))
