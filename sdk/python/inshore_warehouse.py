"""Writes the tables of a local run into a DuckDB file: one table each, in the destination's schemas.

Reads one JSON object from stdin: {"warehouse": path, "root": folder, "overview": path, "synced_before_ms": number,
"tables": [{"schema", "table", "key", "columns": [[name, type]], "files": [path below root]}]}. The overview notes how
many rows each table has, and what the overview said before. The new file replaces the old one when it is complete, so that
whoever looks at it never sees half of it, and nothing stays locked.
"""

import json
import os
import sys

import duckdb

# Every DuckDB since 0.10 opens files of this version.
STORAGE = "v0.10.2"
TYPES = {
    "BOOLEAN": "BOOLEAN", "SHORT": "SMALLINT", "INT": "INTEGER", "LONG": "BIGINT", "FLOAT": "FLOAT", "DOUBLE": "DOUBLE",
    "NAIVE_DATE": "DATE", "NAIVE_DATETIME": "TIMESTAMP", "UTC_DATETIME": "TIMESTAMP WITH TIME ZONE", "NAIVE_TIME": "TIME",
    "BINARY": "BLOB", "XML": "VARCHAR", "STRING": "VARCHAR", "JSON": "VARCHAR",
}  # fmt: skip


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def duckdb_type(name):
    return name if name.startswith("DECIMAL(") else TYPES[name]


def write_table(connection, root, table):
    name = f"{quoted(table['schema'])}.{quoted(table['table'])}"
    columns = ", ".join(f"{quoted(column)} {duckdb_type(kind)}" for column, kind in table["columns"])
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(table['schema'])}")
    connection.execute(f"CREATE TABLE {name} ({columns})")
    files = [os.path.join(root, file) for file in table["files"]]
    if files:
        connection.execute(f"INSERT INTO {name} BY NAME SELECT * FROM read_parquet(?, union_by_name = true)", [files])


def described(connection, table, synced_before_ms):
    """The table with its rows: all, those marked deleted, those written since."""
    counted = "count(*), count(*) FILTER (_fivetran_deleted), count(*) FILTER (epoch_ms(_fivetran_synced) > ?)"
    name = f"{quoted(table['schema'])}.{quoted(table['table'])}"
    rows, deleted, written = connection.execute(f"SELECT {counted} FROM {name}", [synced_before_ms]).fetchone()
    kept = {part: table[part] for part in ("schema", "table", "key", "columns")}
    return {**kept, "rows": rows, "deleted": deleted, "written": written}


def note(path, tables):
    """The overview: `tables`, and what the tables were at the end of the run before."""
    try:
        with open(path, encoding="utf-8") as file:
            before = json.load(file)["tables"]
    except (OSError, ValueError, KeyError):
        before = []
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump({"tables": tables, "before": before}, file, ensure_ascii=False)
    os.replace(path + ".new", path)


def main():
    request = json.load(sys.stdin)
    new = request["warehouse"] + ".new"
    for leftover in (new, new + ".wal"):
        if os.path.exists(leftover):
            os.remove(leftover)
    with duckdb.connect(new, config={"storage_compatibility_version": STORAGE}) as connection:
        for table in request["tables"]:
            write_table(connection, request["root"], table)
        connection.execute("CHECKPOINT")
        overview = [described(connection, table, request["synced_before_ms"]) for table in request["tables"]]
    os.replace(new, request["warehouse"])
    note(request["overview"], overview)


if __name__ == "__main__":
    try:
        main()
    except (duckdb.Error, OSError) as error:
        sys.exit(" ".join(str(error).split()))
