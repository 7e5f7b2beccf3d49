"""The oracle must be able to fail: each kind of fault is planted in a small table, and must be found and counted."""

import contextlib
import io
import json
import pathlib
import shutil
import sqlite3
import sys
import tempfile
import unittest
from datetime import date, datetime, timezone
from decimal import Decimal
from unittest import mock

import pyarrow as pa
from deltalake import write_deltalake

import oracle

SYNCED = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=timezone.utc)
INSTANT = pa.timestamp("us", "UTC")

SOURCE = """
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT, email TEXT, city TEXT, vip INTEGER, balance TEXT, born TEXT,
                        changed_at INTEGER, deleted INTEGER DEFAULT 0);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER, status TEXT, total TEXT, discount REAL,
                     ordered_on TEXT, shipped_on TEXT, quantity NUMERIC, note TEXT, changed_at INTEGER,
                     deleted INTEGER DEFAULT 0);
CREATE TABLE order_lines (seq INTEGER PRIMARY KEY, order_id INTEGER, line INTEGER, sku TEXT, quantity INTEGER,
                          price TEXT);
CREATE TABLE events (id TEXT PRIMARY KEY, customer_id INTEGER, kind TEXT, at TEXT, payload TEXT, score REAL,
                     changed_at INTEGER, deleted INTEGER DEFAULT 0);
INSERT INTO customers VALUES (1, 'Zoë 🚲', NULL, '', 1, '12.50', '1990-02-28', 1, 0),
                             (2, 'Ada', 'a@example.com', '東京', NULL, '0.10', NULL, 2, 0),
                             (3, 'Hiro', 'h@example.com', 'Lisboa', 0, '3.00', '2001-01-01', 3, 0);
INSERT INTO orders VALUES (1, 1, 'new', '10.05', NULL, '2024-01-01', NULL, 2, '', 4, 0),
                          (2, 2, 'paid', '0.00', 0.25, '2024-01-02', '2024-01-03', 1, NULL, 5, 0),
                          (3, 1, 'sent', '9.99', NULL, '2024-01-02', NULL, 4, 'x', 6, 0);
INSERT INTO order_lines VALUES (1, 1, 1, 'SKU-1', 1, '1.00'), (2, 2, 1, 'SKU-2', 2, '2.50'), (3, 1, 2, 'SKU-3', 3, '0.00');
INSERT INTO events VALUES ('e1', 1, 'view', '2024-01-01T00:00:37.000001Z', '{"a": [1, {"b": null}], "é": 1.5}', 0.5, 7, 0),
                          ('e2', NULL, 'cart', '2024-01-01T00:01:14Z', NULL, NULL, 8, 0);
"""

CHANGE = """
ALTER TABLE customers ADD COLUMN loyalty_points INTEGER;
UPDATE customers SET balance = '99.00', loyalty_points = 7, deleted = 1 WHERE id = 3;
UPDATE customers SET loyalty_points = 5 WHERE id = 1;
INSERT INTO customers VALUES (4, 'Never delivered', NULL, '', 1, '1.00', NULL, 20, 1, 3);
UPDATE orders SET quantity = 2.5, status = 'sent' WHERE id = 1;
UPDATE events SET deleted = 1 WHERE id = 'e2';
"""


def customers(points=False, last_deleted=False):
    columns = {
        "id": pa.array([1, 2, 3], pa.int64()),
        "name": pa.array(["Zoë 🚲", "Ada", "Hiro"]),
        "email": pa.array([None, "a@example.com", "h@example.com"]),
        "city": pa.array(["", "東京", "Lisboa"]),
        "vip": pa.array([True, None, False]),
        "balance": pa.array([12.5, 0.1, 3.0]),
        "born": pa.array([date(1990, 2, 28), None, date(2001, 1, 1)]),
    }
    if points:
        columns["loyalty_points"] = pa.array([5, None, None], pa.int32())
    return system(columns, [False, False, last_deleted])


def orders(quantities=(2, 1, 4), kind=pa.int32(), status="new"):
    return system({
        "id": pa.array([1, 2, 3], pa.int32()),
        "customer_id": pa.array([1, 2, 1], pa.int32()),
        "status": pa.array([status, "paid", "sent"]),
        "total": pa.array([Decimal("10.05"), Decimal("0.00"), Decimal("9.99")], pa.decimal128(12, 2)),
        "discount": pa.array([None, 0.25, None]),
        "ordered_on": pa.array([date(2024, 1, 1), date(2024, 1, 2), date(2024, 1, 2)]),
        "shipped_on": pa.array([None, date(2024, 1, 3), None]),
        "quantity": pa.array(quantities, kind),
        "note": pa.array(["", None, "x"]),
    }, [False] * 3)


def order_lines():
    return system({
        "_fivetran_id": pa.array([
            "71f8510fe9d0f6e2d620841d8e4fde8d8f23da0302c0aaabbaef063e007c9b55",
            "e93f5830d68e2a9ddd0a54ab5ffc06a277bf96e0e94655df66812628846320f1",
            "0197e981031063771c9151ec5040e5ceda9f9bb48f0e96ace14b858d285cef63",
        ]),
        "order_id": pa.array([1, 2, 1], pa.int32()),
        "line": pa.array([1, 1, 2], pa.int32()),
        "sku": pa.array(["SKU-1", "SKU-2", "SKU-3"]),
        "quantity": pa.array([1, 2, 3], pa.int32()),
        "price": pa.array([Decimal("1.00"), Decimal("2.50"), Decimal("0.00")], pa.decimal128(10, 2)),
    }, [False] * 3)


def events(last_deleted=False):
    return system({
        "id": pa.array(["e1", "e2"]),
        "customer_id": pa.array([1, None], pa.int32()),
        "kind": pa.array(["view", "cart"]),
        "at": pa.array([1704067237000001, 1704067274000000], INSTANT),
        "payload": pa.array(['{"é":1.5,"a":[1,{"b":null}]}', None]),
        "score": pa.array([0.5, None]),
    }, [False, last_deleted])


def system(columns, deleted):
    synced = pa.array([SYNCED] * len(deleted), INSTANT)
    return pa.table({**columns, "_fivetran_deleted": pa.array(deleted), "_fivetran_synced": synced})


def good():
    return {"customers": customers(), "orders": orders(), "order_lines": order_lines(), "events": events()}


def good_after_change():
    return {
        "customers": customers(points=True, last_deleted=True),
        "orders": orders((2.5, 1.0, 4.0), pa.float64(), "sent"),
        "order_lines": order_lines(),
        "events": events(last_deleted=True),
    }


def replace(table, column, row, value):
    """The table with one value replaced."""
    values = table.column(column).to_pylist()
    values[row] = value
    return retype(table, column, pa.array(values, table.schema.field(column).type))


def retype(table, column, array):
    return table.set_column(table.column_names.index(column), column, array)


class OracleTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.lake = self.folder / "lake"
        self.written = {}
        self.before = self.database("before.db")
        self.source = self.database("source.db", CHANGE)

    def database(self, name, *changes):
        path = self.folder / name
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.executescript("".join([SOURCE, *changes]))
        return path

    def write(self, tables):
        for name, table in tables.items():
            if name in self.written and self.written[name].equals(table, check_metadata=True):
                continue
            self.written[name] = table
            write_deltalake(str(self.lake / "shop" / name), table, mode="overwrite", schema_mode="overwrite")

    def check(self, tables, lost=0, duplicated=0, changed=0, fault="", changes=False, before=True, reader="deltalake"):
        """The same tables as `tables` give these counts, and the first fault holds this text."""
        self.write(tables)
        for name in self.written.keys() - tables.keys():
            shutil.rmtree(self.lake / "shop" / name)
            del self.written[name]
        versions = (self.source, self.before if before else None) if changes else (self.before, None)
        result = oracle.compare(self.lake, "shop", versions[0], reader, versions[1])
        faults = [text for table in result.tables for text in table.faults]
        self.assertEqual((lost, duplicated, changed), (result.lost, result.duplicated, result.changed), faults)
        self.assertEqual(result.ok, not (lost or duplicated or changed))
        if fault:
            self.assertIn(fault, "\n".join(faults))
        return result

    # ---- what is right passes

    def test_every_reader_finds_a_good_copy_equal(self):
        result = self.check(good(), reader="delta")
        self.assertEqual(len(result.tables), 4 * 4)
        self.assertEqual(result.rows, 11)

    def test_every_reader_finds_the_changed_shop_equal(self):
        result = self.check(good_after_change(), changes=True, reader="delta")
        self.assertEqual(sum(table.deleted for table in result.tables), 2 * 4)

    def test_without_an_earlier_copy_deleted_rows_may_be_absent_or_old(self):
        self.check(good_after_change(), changes=True, before=False)
        tables = good_after_change()
        tables["customers"] = tables["customers"].slice(0, 2)
        self.check(tables, changes=True, before=False)

    def test_an_undeclared_column_without_values_may_be_absent(self):
        with contextlib.closing(sqlite3.connect(self.before)) as db, db:
            db.execute("UPDATE orders SET discount = NULL")
        tables = good()
        self.check({**tables, "orders": tables["orders"].drop_columns(["discount"])})
        self.check({**tables, "orders": replace(tables["orders"], "discount", 1, None)})

    # ---- rows

    def test_a_lost_row_is_found(self):
        for table, key in [("customers", "3"), ("orders", "3"), ("order_lines", "(1, 2)"), ("events", "'e2'")]:
            with self.subTest(table):
                tables = good()
                tables[table] = tables[table].slice(0, tables[table].num_rows - 1)
                self.check(tables, lost=1, fault=f"{table} {key} is lost")

    def test_a_lost_deleted_row_is_found_with_an_earlier_copy(self):
        tables = good_after_change()
        tables["events"] = tables["events"].slice(0, 1)
        self.check(tables, changes=True, lost=1, fault="events 'e2' is lost")

    def test_a_duplicated_row_is_found(self):
        for table in good():
            with self.subTest(table):
                tables = good()
                tables[table] = pa.concat_tables([tables[table], tables[table].slice(0, 1)])
                self.check(tables, duplicated=1, fault="is there 2 times")

    def test_two_versions_of_a_row_are_a_duplicate_and_a_change(self):
        tables = good()
        old = replace(tables["customers"].slice(0, 1), "balance", 0, 1.0)
        tables["customers"] = pa.concat_tables([old, tables["customers"]])
        self.check(tables, duplicated=1, changed=1, fault="balance is 1.0, expected 12.5")

    def test_a_row_that_the_source_does_not_know_is_found(self):
        tables = good()
        tables["orders"] = replace(tables["orders"], "id", 2, 77)
        self.check(tables, lost=1, changed=1, fault="orders 77: the source has no such row")

    def test_a_missing_table_loses_all_its_rows(self):
        tables = good()
        del tables["order_lines"]
        self.check(tables, lost=3, fault="there is no table at")

    def test_an_unreadable_table_loses_all_its_rows(self):
        self.write(good())
        for file in (self.lake / "shop" / "customers").glob("*.parquet"):
            file.unlink()
        for reader in oracle.GROUPS["delta"]:
            with self.subTest(reader):
                result = oracle.compare(self.lake, "shop", self.before, reader)
                self.assertEqual((result.lost, result.ok), (3, False))

    def test_a_table_without_the_format_of_a_reader_loses_all_its_rows(self):
        self.write(good())
        for reader in oracle.GROUPS["iceberg"]:
            with self.subTest(reader):
                result = oracle.compare(self.lake, "shop", self.before, reader)
                self.assertEqual((result.lost, result.ok), (11, False))

    # ---- deletion marks

    def test_a_missing_deletion_mark_is_found(self):
        tables = good_after_change()
        for before in (True, False):
            with self.subTest(before=before):
                marked = replace(tables["events"], "_fivetran_deleted", 1, False)
                self.check({**tables, "events": marked}, changed=1, changes=True, before=before, fault="is deleted")

    def test_a_row_marked_deleted_by_mistake_is_found(self):
        for mark in (True, None):
            with self.subTest(mark=mark):
                tables = good()
                tables["orders"] = replace(tables["orders"], "_fivetran_deleted", 0, mark)
                self.check(tables, changed=1, fault="the source's row is not deleted")

    def test_a_deleted_row_keeps_its_last_delivered_values(self):
        tables = good_after_change()
        tables["customers"] = replace(tables["customers"], "balance", 2, 99.0)
        self.check(tables, changed=1, changes=True, fault="balance is 99.0, expected 3.0")
        tables["customers"] = replace(tables["customers"], "name", 2, "")
        self.check(tables, changed=1, changes=True, before=False, fault="name is '', expected 'Hiro'")

    # ---- values

    def test_every_changed_value_is_found(self):
        moment = datetime(2024, 1, 1, 0, 0, 37, 2, tzinfo=timezone.utc)
        for table, column, row, value in [
            ("customers", "email", 0, ""),
            ("customers", "city", 0, None),
            ("customers", "name", 0, "Zoe\u0308 🚲"),
            ("customers", "vip", 1, False),
            ("customers", "balance", 1, 0.1 + 1e-17 + 2e-17),
            ("customers", "balance", 1, float("nan")),
            ("customers", "born", 0, date(1990, 3, 1)),
            ("orders", "total", 0, Decimal("10.06")),
            ("orders", "discount", 0, 0.0),
            ("orders", "note", 0, None),
            ("orders", "quantity", 0, 3),
            ("orders", "status", 1, "new"),
            ("order_lines", "price", 2, Decimal("0.01")),
            ("order_lines", "_fivetran_id", 0, None),
            ("order_lines", "_fivetran_id", 1, "0" * 64),
            ("events", "at", 0, moment),
            ("events", "payload", 0, '{"é":1.5,"a":[1,{"b":0}]}'),
            ("events", "payload", 0, '{"é":1.5,"a":[1.0,{"b":null}]}'),
            ("events", "payload", 0, '{"é":1.5,"a":[true,{"b":null}]}'),
            ("events", "payload", 0, '"{}"'),
            ("events", "payload", 0, "{"),
            ("events", "payload", 1, "null"),
        ]:
            with self.subTest(table=table, column=column, value=value):
                tables = good()
                tables[table] = replace(tables[table], column, row, value)
                self.check(tables, changed=1, fault=f"{column} is ")

    # ---- columns and types

    def test_a_wrong_column_counts_for_every_row(self):
        tables = good()
        cast = lambda table, column, kind: retype(tables[table], column, tables[table].column(column).cast(kind))  # noqa: E731
        for table, wrong, fault in [
            ("customers", cast("customers", "id", pa.int32()), "column id is int32, expected int64"),
            ("orders", cast("orders", "quantity", pa.float64()), "column quantity is double, expected int32"),
            ("orders", cast("orders", "total", pa.decimal128(14, 2)), "column total is decimal128(14, 2)"),
            ("orders", cast("orders", "ordered_on", pa.string()), "column ordered_on is string"),
            ("events", cast("events", "at", pa.timestamp("us")), "column at is timestamp[us], expected"),
            ("events", tables["events"].drop_columns(["score"]), "column score is missing"),
            ("events", tables["events"].append_column("old", pa.array([1, 2])), "column old is not of the source"),
            ("orders", tables["orders"].drop_columns(["_fivetran_synced"]), "column _fivetran_synced is missing"),
            ("order_lines", tables["order_lines"].drop_columns(["_fivetran_id"]), "column _fivetran_id is missing"),
        ]:
            with self.subTest(fault):
                self.check({**tables, table: wrong}, changed=tables[table].num_rows, fault=fault)

    def test_the_added_column_must_arrive_and_the_widened_type_too(self):
        tables = good_after_change()
        without = tables["customers"].drop_columns(["loyalty_points"])
        self.check({**tables, "customers": without}, changed=3, changes=True, fault="loyalty_points is missing")
        self.check({**tables, "orders": orders((2, 1, 4), status="sent")}, changed=3, changes=True, fault="is int32")

    def test_the_time_of_the_sync_has_milliseconds_and_is_never_null(self):
        tables = good()
        finer = SYNCED.replace(microsecond=1)
        for value, fault in [(None, "is null in 1 rows"), (finer, "finer than milliseconds")]:
            with self.subTest(fault):
                wrong = replace(tables["events"], "_fivetran_synced", 0, value)
                self.check({**tables, "events": wrong}, changed=2, fault=fault)

    # ---- the command

    def command(self, *arguments):
        output = io.StringIO()
        line = ["oracle.py", "--lake", self.lake.absolute().as_uri(), "--source", str(self.before), *arguments]
        with mock.patch.object(sys, "argv", line), contextlib.redirect_stdout(output):
            with self.assertRaises(SystemExit) as ended:
                oracle.main()
        return ended.exception.code, output.getvalue()

    def test_the_command_says_what_it_found_and_exits_accordingly(self):
        self.write(good())
        code, output = self.command("--reader", "delta")
        self.assertEqual((code, output.splitlines()[-1]), (0, "rows 11, lost 0, duplicated 0, changed 0"))
        self.write({"orders": orders().slice(0, 2)})
        code, output = self.command()
        self.assertEqual((code, output.splitlines()[-1]), (1, "rows 10, lost 1, duplicated 0, changed 0"))
        self.assertIn("orders 3 is lost", output)
        code, output = self.command("--json")
        self.assertEqual((code, json.loads(output)["lost"]), (1, 1))

    def test_the_lake_may_be_given_as_a_uri(self):
        self.assertEqual(oracle.lake_path("file:///srv/my%20lake"), "/srv/my lake")
        self.assertEqual(oracle.lake_path(pathlib.Path("/srv/lake")), "/srv/lake")

    def test_a_missing_source_is_an_error_and_no_empty_comparison(self):
        with self.assertRaises(FileNotFoundError):
            oracle.compare(self.lake, "shop", self.folder / "none.db")


if __name__ == "__main__":
    unittest.main()
