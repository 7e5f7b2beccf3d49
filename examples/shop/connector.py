"""The shop: reads a SQLite database incrementally, by one cursor per table that lives in the state.

Configuration: `database`, the path of the file that generate.py makes; optionally `checkpoint_rows`.
"""

import json
import sqlite3
from decimal import Decimal

import iso8601
from fivetran_connector_sdk import Connector
from fivetran_connector_sdk import Logging as log
from fivetran_connector_sdk import Operations as op

CHECKPOINT_ROWS = 18_000


def schema(configuration):
    return [
        {"table": "customers", "primary_key": ["id"], "columns": {"id": "LONG", "born": "NAIVE_DATE"}},
        {
            "table": "orders",
            "primary_key": ["id"],
            "columns": {
                "total": {"type": "DECIMAL", "precision": 12, "scale": 2},
                "ordered_on": "NAIVE_DATE",
                "shipped_on": "NAIVE_DATE",
            },
        },
        # No key: a line never changes once it is written.
        {"table": "order_lines", "columns": {"price": {"type": "DECIMAL", "precision": 10, "scale": 2}}},
        {"table": "events", "primary_key": ["id"], "columns": {"at": "UTC_DATETIME", "payload": "JSON"}},
    ]


def update(configuration, state):
    database = sqlite3.connect(f"file:{configuration['database']}?mode=ro", uri=True)
    database.row_factory = sqlite3.Row
    progress = Progress(state, int(configuration.get("checkpoint_rows", CHECKPOINT_ROWS)))
    for table, (cursor, emit) in TABLES.items():
        last = progress.cursors.get(table, 0)
        log.info(f"reading {table} after {last}")
        query = f"SELECT * FROM {table} WHERE {cursor} > ? ORDER BY {cursor}"
        for row in database.execute(query, (last,)):
            emit(row, progress)
            progress.passed(table, row[cursor])
    progress.checkpoint()
    database.close()


class Progress:
    """The state: per table the last change that was passed on, and the newest order."""

    def __init__(self, state, checkpoint_rows):
        self.cursors = dict(state.get("cursors", {}))
        self.newest_order = state.get("newest_order", 0)
        self.checkpoint_rows = checkpoint_rows
        self.rows = 0

    def passed(self, table, cursor):
        self.cursors[table] = cursor
        self.rows += 1
        if self.rows % self.checkpoint_rows == 0:
            self.checkpoint()

    def checkpoint(self):
        op.checkpoint({"cursors": self.cursors, "newest_order": self.newest_order})


def emit_customer(row, progress):
    if row["deleted"]:
        op.delete("customers", {"id": row["id"]})
        return
    data = {
        "id": row["id"],
        "name": row["name"],
        "email": row["email"],
        "city": row["city"],
        "vip": None if row["vip"] is None else bool(row["vip"]),
        "balance": float(row["balance"]),
        "born": row["born"],
    }
    if "loyalty_points" in row.keys():
        data["loyaltyPoints"] = row["loyalty_points"]
    op.upsert("customers", data)


def emit_order(row, progress):
    if row["deleted"]:
        op.delete("orders", {"id": row["id"]})
    elif row["id"] <= progress.newest_order:
        # Of an order that is already there only these two columns ever change.
        op.update("orders", {"id": row["id"], "status": row["status"], "quantity": row["quantity"]})
    else:
        progress.newest_order = row["id"]
        op.upsert("orders", order_columns(row))


def order_columns(row):
    return {
        "id": row["id"],
        "customer_id": row["customer_id"],
        "status": row["status"],
        "total": Decimal(row["total"]),
        "discount": row["discount"],
        "ordered_on": row["ordered_on"],
        "shipped_on": row["shipped_on"],
        "quantity": row["quantity"],
        "note": row["note"],
    }


def emit_order_line(row, progress):
    line = {name: row[name] for name in ("order_id", "line", "sku", "quantity", "price")}
    op.upsert("order_lines", line)


def emit_event(row, progress):
    if row["deleted"]:
        op.delete("events", {"id": row["id"]})
        return
    data = {
        "id": row["id"],
        "customer_id": row["customer_id"],
        "kind": row["kind"],
        "at": iso8601.parse_date(row["at"]),
        "payload": None if row["payload"] is None else json.loads(row["payload"]),
        "score": row["score"],
    }
    op.upsert("events", data)


# Per table: the column that orders its changes, and what a row becomes.
TABLES = {
    "customers": ("changed_at", emit_customer),
    "orders": ("changed_at", emit_order),
    "order_lines": ("seq", emit_order_line),
    "events": ("changed_at", emit_event),
}

connector = Connector(update=update, schema=schema)
