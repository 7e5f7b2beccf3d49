#!/usr/bin/env python3
"""The shop at the destination, compared with the shop's own database: row by row, values and types.

    oracle.py --lake DIR --connection-schema shop --source shop.db [--before old.db] [--reader NAME|all] [--json]

Reads every table with independent engines (deltalake, DuckDB, Polars, pyarrow) and knows the source only as SQLite, so
a fault of the product or of the connector cannot hide here: this file shares no code with either.

lost        a row of the source that the destination does not hold
duplicated  a second copy of a row
changed     a row with another value, another type, the wrong deletion mark, or a key that the source does not know;
            a wrong column counts for every row of its table

Rows that the source deleted must be marked `_fivetran_deleted`. What values they had when they were last delivered is
known only from an earlier copy of the database: with --before they are compared with it and must be there; without,
only the columns that never change are compared, and a deleted row may be absent, as it may never have been delivered.
Ends with `rows N, lost L, duplicated D, changed C`; exit 1 unless the last three are 0.
"""

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import sqlite3
import sys
import urllib.parse
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

from read_tables import DELTA_READERS, ICEBERG_READERS, READERS, can_read

FAULTS_SHOWN = 5
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
BOOLEAN, INT, LONG, DOUBLE, TEXT, DATE = "bool", "int32", "int64", "double", "string", "date32[day]"
INSTANT = "timestamp[us, tz=UTC]"
JSON = "json"


# ---- what the source holds ------------------------------------------------------------------------------------------


def same(value):
    return value


def instant(text):
    """Microseconds since 1970."""
    return (datetime.fromisoformat(text.replace("Z", "+00:00")) - EPOCH) // timedelta(microseconds=1)


@dataclass(frozen=True)
class Column:
    """A column at the destination, and how its value follows from the source's."""

    name: str
    type: str
    read: object = same
    declared: bool = False  # a column that is not declared appears with its first value
    changes: bool = False  # the source may change it after the row is first written


@dataclass(frozen=True)
class Table:
    name: str
    key: tuple
    columns: tuple
    keyless: bool = False  # then `key` only tells the source's rows apart; the destination has `_fivetran_id`


def decimal(precision, scale):
    return f"decimal128({precision}, {scale})"


def shop(versions):
    """The shop's tables. Quantities are whole until the source first holds a fraction in a row that it delivers."""
    points = any("loyalty_points" in column_names(db, "customers") for db in versions)
    quantity = DOUBLE if any(fractions(db, "deleted = 0") for db in versions) else INT
    return (
        Table("customers", ("id",), (
            Column("id", LONG, declared=True),
            Column("name", TEXT),
            Column("email", TEXT),
            Column("city", TEXT),
            Column("vip", BOOLEAN, bool),
            Column("balance", DOUBLE, float, changes=True),
            Column("born", DATE, date.fromisoformat, declared=True),
            *([Column("loyalty_points", INT, changes=True)] if points else []),
        )),
        Table("orders", ("id",), (
            Column("id", INT),
            Column("customer_id", INT),
            Column("status", TEXT, changes=True),
            Column("total", decimal(12, 2), Decimal, declared=True),
            Column("discount", DOUBLE, float),
            Column("ordered_on", DATE, date.fromisoformat, declared=True),
            Column("shipped_on", DATE, date.fromisoformat, declared=True),
            Column("quantity", quantity, float if quantity == DOUBLE else int, changes=True),
            Column("note", TEXT),
        )),
        Table("order_lines", ("order_id", "line"), (
            Column("order_id", INT),
            Column("line", INT),
            Column("sku", TEXT),
            Column("quantity", INT),
            Column("price", decimal(10, 2), Decimal, declared=True),
        ), keyless=True),
        Table("events", ("id",), (
            Column("id", TEXT),
            Column("customer_id", INT),
            Column("kind", TEXT),
            Column("at", INSTANT, instant, declared=True),
            Column("payload", JSON, declared=True),
            Column("score", DOUBLE, float, changes=True),
        )),
    )


def column_names(db, table):
    return [row[1] for row in db.execute(f"PRAGMA table_info({table})")]


def fractions(db, where):
    return db.execute(f"SELECT EXISTS (SELECT 1 FROM orders WHERE typeof(quantity) = 'real' AND {where})").fetchone()[0]


def source_rows(db, table):
    """Two dictionaries, key to row: the rows that are there, and those that are deleted. A row is a tuple, in the
    order of the table's columns."""
    names = column_names(db, table.name)
    picked = ", ".join(column.name if column.name in names else "NULL" for column in table.columns)
    deleted = "deleted" if "deleted" in names else "0"
    reads = [None if column.read is same else column.read for column in table.columns]
    key_of = key_picker(table)
    present, gone = {}, {}
    for *values, is_deleted in db.execute(f"SELECT {picked}, {deleted} FROM {table.name}"):
        row = tuple(v if v is None or read is None else read(v) for v, read in zip(values, reads))
        rows = gone if is_deleted else present
        key = key_of(row)
        if key in rows:
            raise ValueError(f"the source has {table.name} {key} twice: it cannot tell duplicates")
        rows[key] = row
    return present, gone


def key_picker(table):
    places = [[c.name for c in table.columns].index(name) for name in table.key]
    if len(places) == 1:
        (place,) = places
        return lambda row: row[place]
    return lambda row: tuple(row[place] for place in places)


def row_id(columns, row):
    """`_fivetran_id` as the documentation defines it, computed here a second time."""
    digest = hashlib.sha256()
    for name, value in sorted((column.name.encode(), value) for column, value in zip(columns, row) if value is not None):
        text = (format(value.normalize(), "f") if isinstance(value, Decimal) else str(value)).encode()
        digest.update(len(name).to_bytes(4, "little") + name + len(text).to_bytes(4, "little") + text)
    return digest.hexdigest()


# ---- what the destination holds -------------------------------------------------------------------------------------


def destination_rows(arrow, columns):
    """Tuples in the order of `columns`; a column that is absent reads as null, its absence is told elsewhere."""
    import pyarrow

    lists = []
    for name in columns:
        if name not in arrow.column_names:
            lists.append([None] * arrow.num_rows)
            continue
        values = arrow.column(name)
        # Python's datetime is slow, and needs a zone database for the zone.
        lists.append((values.cast(pyarrow.int64()) if pyarrow.types.is_timestamp(values.type) else values).to_pylist())
    return list(zip(*lists)) if lists else []


def type_name(arrow_type):
    """Engines differ in how they hold text in memory; it is one type in the table."""
    text = str(arrow_type)
    return TEXT if text in ("string_view", "large_string") else text


# ---- the comparison -------------------------------------------------------------------------------------------------


@dataclass
class TableResult:
    table: str
    reader: str
    source_rows: int = 0
    rows: int = 0
    deleted: int = 0
    lost: int = 0
    duplicated: int = 0
    changed: int = 0
    faults: list = field(default_factory=list)

    @property
    def ok(self):
        return not (self.lost or self.duplicated or self.changed)

    def fault(self, text):
        """Remembers the first few; the counts hold them all."""
        if len(self.faults) < FAULTS_SHOWN:
            self.faults.append(text)


@dataclass
class Result:
    tables: list

    def _worst(self, name):
        """Readers look at the same rows: a table's figure is the worst that any of them saw."""
        worst = {}
        for table in self.tables:
            worst[table.table] = max(worst.get(table.table, 0), getattr(table, name))
        return sum(worst.values())

    rows = property(lambda self: self._worst("rows"))
    lost = property(lambda self: self._worst("lost"))
    duplicated = property(lambda self: self._worst("duplicated"))
    changed = property(lambda self: self._worst("changed"))
    ok = property(lambda self: all(table.ok for table in self.tables))

    def summary(self):
        return f"rows {self.rows}, lost {self.lost}, duplicated {self.duplicated}, changed {self.changed}"

    def lines(self):
        """One line per table, and below it the first faults; readers that saw the same share a line."""
        views = {}
        for t in self.tables:
            figures = f"lost {t.lost}, duplicated {t.duplicated}, changed {t.changed}"
            line = f"{t.table:<12} {t.rows:>9,} rows, {t.deleted:,} marked deleted; {figures}"
            views.setdefault((t.table, line, *t.faults), []).append(t.reader)
        for (_, line, *faults), readers in views.items():
            yield f"{line} ({', '.join(readers)})"
            yield from (f"    {fault}" for fault in faults)

    def to_json(self):
        totals = {name: getattr(self, name) for name in ("rows", "lost", "duplicated", "changed", "ok")}
        return {**totals, "tables": [asdict(table) for table in self.tables]}


GROUPS = {"all": sorted(READERS), "delta": sorted(DELTA_READERS), "iceberg": sorted(ICEBERG_READERS)}


def compare(lake_dir, schema, source_db, reader="deltalake", before=None):
    """Compares the shop at the destination with its source. `reader`: a name of READERS or GROUPS, or several of READERS."""
    readers = GROUPS.get(reader, [reader]) if isinstance(reader, str) else reader
    root = pathlib.Path(lake_path(lake_dir), schema)
    results = []
    with contextlib.ExitStack() as stack:
        versions = [stack.enter_context(open_source(path)) for path in (source_db, before) if path]
        for table in shop(versions):
            expected = Expected(table, *versions)
            results.extend(compare_table(expected, root / table.name, name) for name in readers)
    return Result(results)


def lake_path(lake):
    text = os.fspath(lake)
    return urllib.parse.unquote(urllib.parse.urlsplit(text).path) if text.startswith("file:") else text


def open_source(path):
    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f"there is no source database {path}")
    uri = pathlib.Path(path).absolute().as_uri()
    return contextlib.closing(sqlite3.connect(f"{uri}?mode=ro", uri=True))


class Expected:
    """What the destination must hold of one table."""

    def __init__(self, table, db, before=None):
        self.table = table
        self.present, self.gone = source_rows(db, table)
        self.source_rows = len(self.present) + len(self.gone)
        # The rows that were deleted after they had been delivered, with the values they had then.
        self.delivered = {}
        if before is not None:
            was_present, _ = source_rows(before, table)
            self.delivered = {key: was_present[key] for key in self.gone if key in was_present}
        self.columns = list(table.columns)
        if table.keyless:
            self.columns.append(Column("_fivetran_id", TEXT, declared=True))
            self.present = {key: (*row, row_id(table.columns, row)) for key, row in self.present.items()}
        self.fixed = [place for place, column in enumerate(self.columns) if not column.changes]

    def may_be_absent(self, place):
        """An undeclared column appears with its first value: no value, no column."""
        if self.columns[place].declared:
            return False
        return all(row[place] is None for rows in (self.present, self.delivered) for row in rows.values())


def compare_table(expected, path, reader):
    result = TableResult(expected.table.name, reader, expected.source_rows)
    if not can_read(reader, path):
        result.lost = len(expected.present) + len(expected.delivered)
        result.changed = 0 if result.lost else 1
        result.fault(f"there is no table at {path}")
        return result
    try:
        arrow = READERS[reader](str(path))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # Whatever an engine raises, a panic too: a table it cannot read is lost for its user.
        result.lost = max(1, len(expected.present))
        result.fault(f"{reader} cannot read {path}: {error!r}")
        return result
    result.rows = arrow.num_rows
    compare_rows(expected, arrow, result)
    if compare_columns(expected, arrow, result):
        result.changed = max(1, result.rows)
    return result


def compare_columns(expected, arrow, result):
    """Whether any column is missing, of another type, or not known to the source."""
    import pyarrow.compute

    wanted = {column.name: TEXT if column.type == JSON else column.type for column in expected.columns}
    wanted |= {"_fivetran_deleted": BOOLEAN, "_fivetran_synced": INSTANT}
    found = {name: type_name(kind) for name, kind in zip(arrow.column_names, arrow.schema.types)}
    optional = {column.name for place, column in enumerate(expected.columns) if expected.may_be_absent(place)}
    faults = [f"column {name} is missing" for name in wanted if name not in found and name not in optional]
    faults += [f"column {name} is not of the source" for name in found if name not in wanted]
    faults += [
        f"column {name} is {found[name]}, expected {kind}"
        for name, kind in wanted.items()
        if name in found and found[name] != kind
    ]
    if found.get("_fivetran_synced") == INSTANT:
        synced = arrow.column("_fivetran_synced")
        micros = synced.cast(pyarrow.int64()).drop_null()
        if synced.null_count:
            faults.append(f"_fivetran_synced is null in {synced.null_count} rows")
        if any(value % 1000 for value in micros.unique().to_pylist()):
            faults.append("_fivetran_synced is finer than milliseconds")
    for fault in faults:
        result.fault(fault)
    return bool(faults)


def compare_rows(expected, arrow, result):
    names = [column.name for column in expected.columns]
    rows = destination_rows(arrow, [*names, "_fivetran_deleted"])
    key_of = key_picker(expected.table)
    table = expected.table.name
    copies = Counter()
    for *values, deleted in rows:
        row = tuple(values)
        key = key_of(row)
        copies[key] += 1
        result.deleted += deleted is True
        if copies[key] > 1:
            result.duplicated += 1
            result.fault(f"{table} {key!r} is there {copies[key]} times")
        problem = row_problem(expected, key, row, deleted)
        if problem:
            result.changed += 1
            result.fault(f"{table} {key!r}: {problem}")
    for key in [*expected.present, *expected.delivered]:
        if key not in copies:
            result.lost += 1
            result.fault(f"{table} {key!r} is lost")


def row_problem(expected, key, row, deleted):
    """What is wrong with a row, or None."""
    if key in expected.present:
        wanted, places, mark = expected.present[key], range(len(row)), False
    elif key in expected.delivered:
        wanted, places, mark = expected.delivered[key], range(len(row)), True
    elif key in expected.gone:
        wanted, places, mark = expected.gone[key], expected.fixed, True
    else:
        return "the source has no such row"
    if deleted is not mark:
        state = "deleted" if mark else "not deleted"
        return f"_fivetran_deleted is {deleted}, but the source's row is {state}"
    if row == wanted:
        return None
    for place in places:
        column = expected.columns[place]
        if not equal(column.type, row[place], wanted[place]):
            return f"{column.name} is {row[place]!r}, expected {wanted[place]!r}"
    return None


def equal(kind, found, wanted):
    if found is None or wanted is None:
        return found is wanted
    if kind == JSON:
        return found == wanted or canonical_json(found) == canonical_json(wanted)
    if kind == DOUBLE and found != found:
        return wanted != wanted
    return type(found) is type(wanted) and found == wanted


def canonical_json(text):
    """Equal for equal documents: order of keys and white space aside, but 1 is not 1.0 and not true."""
    try:
        return json.dumps(json.loads(text), sort_keys=True)
    except (TypeError, ValueError):
        return ("not JSON", text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lake", required=True, help="the destination's folder, or its file:// URI")
    parser.add_argument("--connection-schema", default="shop")
    parser.add_argument("--source", required=True, help="the shop's database as it is now")
    parser.add_argument("--before", help="the shop's database as it was when an earlier sync ended")
    parser.add_argument("--reader", default="deltalake", choices=[*sorted(READERS), *GROUPS])
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    arguments = parser.parse_args()
    try:
        result = compare(
            arguments.lake, arguments.connection_schema, arguments.source, arguments.reader, arguments.before
        )
    except (OSError, sqlite3.Error) as error:
        sys.exit(f"oracle: {error}")
    if arguments.json:
        print(json.dumps(result.to_json(), indent=1, ensure_ascii=False, default=str))
    else:
        print("\n".join(result.lines()))
        print(result.summary())
    sys.exit(0 if result.ok else 1)


if __name__ == "__main__":
    main()
