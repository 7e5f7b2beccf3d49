"""The measured connector: upserts `rows` rows with a checkpoint every `checkpoint_rows`. Column types are declared when
`declared` is "true". When `figures` is "true", one row of the table `figures` then says when the first line here ran,
and how much CPU time of this process the rows took."""

import time

IMPORTED_NS = time.monotonic_ns()  # before anything else: the connector's first line

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
    count, every = int(configuration["rows"]), int(configuration["checkpoint_rows"])
    for first in range(0, count, every):
        for row in rows(first, min(first + every, count)):
            op.upsert(table="orders", data=row)
        op.checkpoint(state={"id": row["id"]})
    # Returns when everything is durable, so the threads that send the rows have done all their work.
    op.checkpoint(state={"done": True})
    used = time.process_time() - started
    if configuration["figures"] == "true":
        op.upsert(table="figures", data={"imported_ns": IMPORTED_NS, "update_ns": started_ns, "update_cpu_s": used})


connector = Connector(update=update, schema=schema)
