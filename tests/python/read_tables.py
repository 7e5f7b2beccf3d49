#!/usr/bin/env python3
"""Reads Delta and Iceberg tables with independent readers and prints their rows in one canonical form.

    read_tables.py ROOT [--table SCHEMA/TABLE]... [--reader NAME]... [--expected FILE]

Without --expected: prints {reader: {"schema/table": {"columns": [...], "types": [...], "rows": [[...], ...]}}} as JSON.
With --expected (a JSON object {"schema/table": [[...], ...]}): compares every reader with it, prints what differs, and
exits 1 if anything does. A value is null or text with its kind in front: b: boolean, i: integer, d: decimal, f: float,
D: date, N: timestamp without zone, T: timestamp in UTC, x: bytes in hex, s: text. Rows are sorted by their columns.
A table is read by the readers of the formats that it has: `_delta_log`, `_iceberg`.
Nothing here shares code with the product.
"""

import argparse
import datetime
import decimal
import json
import math
import os
import pathlib
import sys


def read_deltalake(path):
    import deltalake
    import pyarrow

    builder = deltalake.QueryBuilder().register("t", deltalake.DeltaTable(path))
    return pyarrow.table(builder.execute("select * from t").read_all())


def read_pyarrow(path):
    import deltalake

    return deltalake.DeltaTable(path).to_pyarrow_dataset().to_table()


def read_polars(path):
    import polars

    return polars.read_delta(path).to_arrow()


def read_duckdb(path):
    import duckdb
    from duckdb_extensions import import_extension

    connection = duckdb.connect()
    import_extension("delta", con=connection)
    connection.execute("set timezone = 'UTC'")
    return connection.execute("select * from delta_scan(?)", [path]).to_arrow_table()


def newest_metadata(path):
    """The highest version, whatever the hint says: other than DuckDB, these readers ask a catalog for it."""
    versions = pathlib.Path(path, "_iceberg", "metadata").glob("v*.metadata.json")
    return str(max(versions, key=lambda file: int(file.name[1:].partition(".")[0])))


def read_pyiceberg(path):
    from pyiceberg.table import StaticTable

    return StaticTable.from_metadata(newest_metadata(path)).scan().to_arrow()


def read_polars_iceberg(path):
    os.environ["POLARS_ICEBERG_PLANNER"] = "pyiceberg"
    import polars

    return polars.scan_iceberg(newest_metadata(path)).collect().to_arrow()


def read_duckdb_iceberg(path):
    import duckdb
    from duckdb_extensions import import_extension

    connection = duckdb.connect()
    import_extension("avro", con=connection)
    import_extension("iceberg", con=connection)
    connection.execute("set timezone = 'UTC'")
    return connection.execute("select * from iceberg_scan(?)", [f"{path}/_iceberg"]).to_arrow_table()


DELTA_READERS = {"deltalake": read_deltalake, "pyarrow": read_pyarrow, "polars": read_polars, "duckdb": read_duckdb}
ICEBERG_READERS = {
    "pyiceberg": read_pyiceberg,
    "polars_iceberg": read_polars_iceberg,
    "duckdb_iceberg": read_duckdb_iceberg,
}


def count_polars(path, column, value):
    import polars

    return polars.scan_delta(path).filter(polars.col(column) >= value).select(polars.len()).collect().item()


def count_pyiceberg(path, column, value):
    from pyiceberg.expressions import GreaterThanOrEqual
    from pyiceberg.table import StaticTable

    table = StaticTable.from_metadata(newest_metadata(path))
    return table.scan(row_filter=GreaterThanOrEqual(column, value)).to_arrow().num_rows


def count_duckdb_iceberg(path, column, value):
    import duckdb
    from duckdb_extensions import import_extension

    connection = duckdb.connect()
    import_extension("avro", con=connection)
    import_extension("iceberg", con=connection)
    query = f'select count(*) from (select * from iceberg_scan(?) where "{column}" >= ?)'
    return connection.execute(query, [f"{path}/_iceberg", value]).fetchone()[0]


# Readers that leave files alone by their bounds: these must hold.
COUNTERS = {"polars": count_polars, "pyiceberg": count_pyiceberg, "duckdb_iceberg": count_duckdb_iceberg}
READERS = {**DELTA_READERS, **ICEBERG_READERS}
EPOCH = datetime.datetime(1970, 1, 1)


def timestamp(micros, zone):
    text = (EPOCH + datetime.timedelta(microseconds=micros)).isoformat(timespec="microseconds")
    return f"T:{text}Z" if zone else f"N:{text}"


def canonical_column(column):
    """The column's values as canonical text."""
    import pyarrow

    kind = column.type
    if pyarrow.types.is_timestamp(kind):
        if kind.unit != "us":
            raise SystemExit(f"a timestamp in {kind.unit} where microseconds were written")
        return [None if v is None else timestamp(v, kind.tz) for v in column.cast(pyarrow.int64()).to_pylist()]
    return [canonical(value) for value in column.to_pylist()]


def canonical(value):
    if value is None:
        return None
    if isinstance(value, bool):
        return "b:true" if value else "b:false"
    if isinstance(value, int):
        return f"i:{value}"
    if isinstance(value, float):
        return "f:nan" if math.isnan(value) else f"f:{value!r}"
    if isinstance(value, decimal.Decimal):
        return f"d:{value:f}"
    if isinstance(value, datetime.date):
        return f"D:{value.isoformat()}"
    if isinstance(value, (bytes, memoryview)):
        return f"x:{bytes(value).hex()}"
    return f"s:{value}"


def sort_key(row):
    """Integers by value, everything else by text; null first."""
    def part(cell):
        if cell is None:
            return (0, 0, "")
        return (1, int(cell[2:]), "") if cell.startswith("i:") else (2, 0, cell)

    return [part(cell) for cell in row]


def rows_of(table):
    columns = [canonical_column(column.combine_chunks() if column.num_chunks else column) for column in table.columns]
    rows = sorted((list(row) for row in zip(*columns)), key=sort_key)
    return {"columns": table.column_names, "types": [str(t) for t in table.schema.types], "rows": rows}


def tables_below(root):
    tables = {log.parent for name in ("_delta_log", "_iceberg") for log in pathlib.Path(root).glob(f"*/*/{name}")}
    return sorted(f"{table.parent.name}/{table.name}" for table in tables if table.parent.name != "_inshore")


def can_read(reader, path):
    """Whether the table has the format that the reader reads."""
    return pathlib.Path(path, "_delta_log" if reader in DELTA_READERS else "_iceberg").is_dir()


def compare(found, expected):
    """What differs, as sentences."""
    problems = []
    for reader, tables in found.items():
        for table, want in expected.items():
            got = tables.get(table, {}).get("rows")
            if got is None:
                if not any(table in other for other in found.values()):
                    problems.append(f"{reader}: {table} was not read")
                continue
            if len(got) != len(want):
                problems.append(f"{reader}: {table} has {len(got)} rows, expected {len(want)}")
            for number, (row, wanted) in enumerate(zip(got, want)):
                for name, cell, wanted_cell in zip(tables[table]["columns"], row, wanted):
                    if cell != wanted_cell:
                        problems.append(f"{reader}: {table} row {number} {name}: {cell!r}, expected {wanted_cell!r}")
                if len(row) != len(wanted):
                    problems.append(f"{reader}: {table} row {number} has {len(row)} columns, expected {len(wanted)}")
    return problems


def miscounts(found, root):
    """Where a reader that is asked for a part of a table finds another part."""
    for reader, tables in found.items():
        for table, content in tables.items() if reader in COUNTERS else ():
            for place, column in enumerate(content["columns"]):
                values = [row[place] for row in content["rows"] if row[place] and row[place][:2] in ("i:", "s:")]
                if not values:
                    continue
                integers = values[0].startswith("i:")
                values = sorted(int(value[2:]) if integers else value[2:] for value in values)
                middle = values[len(values) // 2]
                want = sum(value >= middle for value in values)
                got = COUNTERS[reader](str(pathlib.Path(root, table)), column, middle)
                if got != want:
                    yield f"{reader}: {table} has {got} rows whose {column} is {middle!r} or more, expected {want}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root")
    parser.add_argument("--table", action="append", default=[])
    parser.add_argument("--reader", action="append", default=[], choices=sorted(READERS))
    parser.add_argument("--expected")
    arguments = parser.parse_args()
    found = {}
    for reader in arguments.reader or READERS:
        found[reader] = {
            table: rows_of(READERS[reader](str(pathlib.Path(arguments.root, table))))
            for table in arguments.table or tables_below(arguments.root)
            if arguments.reader or can_read(reader, pathlib.Path(arguments.root, table))
        }
    if not arguments.expected:
        json.dump(found, sys.stdout, ensure_ascii=False)
        print()
        return
    expected = json.loads(pathlib.Path(arguments.expected).read_text(encoding="utf-8"))
    problems = compare(found, expected) + list(miscounts(found, arguments.root))
    for problem in problems:
        print(problem)
    rows = sum(len(rows) for rows in expected.values())
    print(f"{len(found)} readers, {len(expected)} tables, {rows} rows: {len(problems)} differences")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
