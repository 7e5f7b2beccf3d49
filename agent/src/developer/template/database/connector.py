"""Copies tables of a database: a full read first, then what changed, in the order of (updated_at, id).

It runs against a sample in SQLite as it is. For another database change `connect` (psycopg, pymysql, oracledb, … in
requirements.txt) and the placeholder in `changed_rows`: `?` here, `%s` for most others.
"""

import sqlite3

from fivetran_connector_sdk import Connector
from fivetran_connector_sdk import Logging as log
from fivetran_connector_sdk import Operations as op

# Table -> its key. Each needs a column `updated_at` that every change moves forward, and an index on (updated_at, id).
TABLES = {"customers": "id", "invoices": "id"}
ROWS_PER_READ = 1_000
BEGINNING = ["", 0]

SAMPLE = """
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT, updated_at TEXT);
CREATE TABLE invoices (id INTEGER PRIMARY KEY, customer_id INTEGER, cents INTEGER, paid INTEGER, updated_at TEXT);
INSERT INTO customers VALUES (1, 'Ada', '2024-05-01 10:00:00'), (2, 'Émile', '2024-05-02 09:30:00'), (3, NULL, '2024-05-02 09:30:00');
INSERT INTO invoices VALUES (1, 1, 1250, 1, '2024-05-01 10:05:00'), (2, 1, 990, 0, '2024-05-03 08:00:00'), (3, 2, 40000, 0, '2024-05-03 08:00:00');
"""


def schema(configuration):
    return [
        {"table": table, "primary_key": [key], "columns": {"updated_at": "NAIVE_DATETIME"}}
        for table, key in TABLES.items()
    ]


def update(configuration, state):
    database = connect(configuration)
    cursors = dict(state.get("cursors", {}))
    for table, key in TABLES.items():
        cursor = cursors.get(table, BEGINNING)
        log.info(f"reading {table} after {cursor}")
        while rows := changed_rows(database, table, key, cursor):
            for row in rows:
                op.upsert(table, row)
            cursor = cursors[table] = [rows[-1]["updated_at"], rows[-1][key]]
            op.checkpoint({"cursors": cursors})
    op.checkpoint({"cursors": cursors})
    database.close()


def connect(configuration):
    if path := configuration.get("database"):
        database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    else:
        database = sqlite3.connect(":memory:")
        database.executescript(SAMPLE)
    database.row_factory = sqlite3.Row
    return database


def changed_rows(database, table, key, cursor):
    """The next rows after the cursor, as dicts. Never reads a table as a whole: memory stays flat."""
    query = f"SELECT * FROM {table} WHERE (updated_at, {key}) > (?, ?) ORDER BY updated_at, {key} LIMIT {ROWS_PER_READ}"
    return [dict(row) for row in database.execute(query, cursor)]


connector = Connector(update=update, schema=schema)
