"""The shop, read by eight threads: each has the even or the odd rows of one table, and checkpoints for all of them.

A state never names a row that was not emitted: a thread publishes its place after the row. Threads that checkpoint at the
same time may save an older state last; then the next sync emits those rows again, and the result is the same.
"""

import copy
import sqlite3
import threading

import shop
from fivetran_connector_sdk import Connector
from fivetran_connector_sdk import Logging as log
from fivetran_connector_sdk import Operations as op

PARTS = [(table, part) for table in shop.TABLES for part in (0, 1)]


def update(configuration, state):
    places = Places(state)
    failed = []
    threads = [
        threading.Thread(target=guarded, args=(failed, read, configuration, table, part, places), name=f"{table}.{part}")
        for table, part in PARTS
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    op.checkpoint(places.snapshot())


class Places:
    """Per thread the last change that it passed on, and the newest order that it saw."""

    def __init__(self, state):
        self._places = dict(state.get("places", {}))
        self._lock = threading.Lock()

    def of(self, name):
        return self._places.get(name, {"cursor": 0, "newest_order": 0})

    def passed(self, name, cursor, newest_order):
        with self._lock:
            self._places[name] = {"cursor": cursor, "newest_order": newest_order}

    def snapshot(self):
        with self._lock:
            return {"places": copy.deepcopy(self._places)}


class Part:
    """What the shop's functions know of the rows before."""

    def __init__(self, newest_order):
        self.newest_order = newest_order


def guarded(failed, work, *arguments):
    """An error of a thread is the sync's."""
    try:
        work(*arguments)
    except BaseException as error:
        failed.append(error)


def read(configuration, table, part, places):
    cursor, emit = shop.TABLES[table]
    name, every = f"{table}.{part}", int(configuration["checkpoint_rows"])
    place = places.of(name)
    progress, rows = Part(place["newest_order"]), 0
    database = sqlite3.connect(f"file:{configuration['database']}?mode=ro", uri=True)
    database.row_factory = sqlite3.Row
    query = f"SELECT * FROM {table} WHERE {cursor} > ? AND rowid % 2 = ? ORDER BY {cursor}"
    for row in database.execute(query, (place["cursor"], part)):
        emit(row, progress)
        places.passed(name, row[cursor], progress.newest_order)
        rows += 1
        if rows % every == 0:
            op.checkpoint(places.snapshot())
            log.info(f"{name} has checkpointed")
    database.close()


connector = Connector(update=update, schema=shop.schema)
