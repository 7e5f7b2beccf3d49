"""The measured connector: upserts `rows` rows with a checkpoint every `checkpoint_rows`, and writes down when and how
much of its own process it used. Column types are declared when `declared` is "true"."""

import time

IMPORTED_NS = time.monotonic_ns()  # before anything else: the connector's first line

import json
import os

from fivetran_connector_sdk import Connector
from fivetran_connector_sdk import Operations as op

from rows import COLUMN_TYPES, PRIMARY_KEY, rows


def schema(configuration):
    table = {"table": "orders", "primary_key": PRIMARY_KEY}
    if configuration["declared"] == "true":
        table["columns"] = COLUMN_TYPES
    return [table]


def update(configuration, state):
    started, started_ns = time.process_time(), time.monotonic_ns()
    every = int(configuration["checkpoint_rows"])
    for row in rows(int(configuration["rows"])):
        op.upsert(table="orders", data=row)
        if (row["id"] + 1) % every == 0:
            op.checkpoint(state={"id": row["id"]})
    # Returns when everything is durable, so the threads that send the rows have done all their work.
    op.checkpoint(state={"done": True})
    figures = {"imported_ns": IMPORTED_NS, "update_ns": started_ns, "update_cpu_s": time.process_time() - started}
    with open(configuration["figures"] + ".part", "w") as file:
        json.dump(figures, file)
    os.rename(configuration["figures"] + ".part", configuration["figures"])


connector = Connector(update=update, schema=schema)
