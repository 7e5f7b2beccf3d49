"""A first connector: a small shop that takes some orders at every run. It needs no network and no account.

    inshore debug                                  run it once more: it goes on from its state
    inshore inspect                                the tables and what the last run changed
    inshore sql "select * from tester.orders"      look at the rows
"""

import random
from datetime import datetime, timedelta, timezone

from fivetran_connector_sdk import Connector
from fivetran_connector_sdk import Logging as log
from fivetran_connector_sdk import Operations as op

CUSTOMERS = ["Ada", "Bjarne", "Chidi", "Dolores", "Émile", "Fatima", "Grace", "小林"]
PRODUCTS = {"tea": "3.20", "bread": "4.75", "honey": "8.40", "olives": "6.10"}
OPENING = datetime(2024, 1, 1, 9, tzinfo=timezone.utc)
CHECKPOINT_ROWS = 1_000


def schema(configuration):
    """The tables with their keys. Columns that are not named here get their type from the values."""
    return [
        {"table": "customers", "primary_key": ["id"]},
        {
            "table": "orders",
            "primary_key": ["id"],
            "columns": {"price": {"type": "DECIMAL", "precision": 10, "scale": 2}, "ordered_at": "UTC_DATETIME"},
        },
    ]


def update(configuration, state):
    """Called once per sync. `configuration` holds texts, `state` is what the last checkpoint kept."""
    first = state.get("next_order", 1)
    count = int(configuration.get("orders_per_run", "25"))
    if first == 1:
        for number, name in enumerate(CUSTOMERS, start=1):
            op.upsert("customers", {"id": number, "name": name, "tags": {"vip": number % 3 == 0}})
    log.info(f"taking orders {first} to {first + count - 1}")
    for number in range(first, first + count):
        op.upsert("orders", order(number))
        # A checkpoint makes all rows before it durable, together with the state that the next run starts from.
        if number % CHECKPOINT_ROWS == 0:
            op.checkpoint({"next_order": number + 1})
    op.checkpoint({"next_order": first + count})


def order(number):
    """The same number gives the same order, whenever it is asked for."""
    chance = random.Random(number)
    product = chance.choice(sorted(PRODUCTS))
    return {
        "id": number,
        "customer_id": chance.randint(1, len(CUSTOMERS)),
        "product": product,
        "price": PRODUCTS[product],
        "quantity": chance.randint(1, 9),
        "ordered_at": (OPENING + timedelta(minutes=17 * number)).isoformat(),
    }


connector = Connector(update=update, schema=schema)
