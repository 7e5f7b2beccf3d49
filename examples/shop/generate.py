"""Makes the shop's database, the source of the example: customers, orders, order lines and events.

    python generate.py shop.db [--rows 200000] [--seed 7]     a new database
    python generate.py shop.db --change [--seed 7]            the same shop some weeks later

The same arguments give the same rows, byte for byte. `--change` inserts, updates and deletes rows, adds a column to
customers, and makes order quantities fractional, which widens their type.
"""

import argparse
import json
import os
import random
import sqlite3
from datetime import datetime, timedelta

FIRST_DAY = datetime(2024, 1, 1)
NAMES = ["Ada", "Björn", "Chloé", "Dmitri", "Ελένη", "Farah", "Guðrún", "Hiro", "李娜", "Zoë 🚲"]
CITIES = ["Lisboa", "Kraków", "Aarhus", "São Paulo", "東京", "New York", ""]
STATUSES = ["new", "paid", "sent", "returned"]
KINDS = ["view", "cart", "search", "purchase"]
NOTES = [None, None, "", "leave at the door", 'says "ring twice"', "línea\nnueva"]

SCHEMA = """
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT, email TEXT, city TEXT, vip INTEGER, balance TEXT,
                        born TEXT, changed_at INTEGER, deleted INTEGER DEFAULT 0);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER, status TEXT, total TEXT, discount REAL,
                     ordered_on TEXT, shipped_on TEXT, quantity NUMERIC, note TEXT, changed_at INTEGER,
                     deleted INTEGER DEFAULT 0);
CREATE TABLE order_lines (seq INTEGER PRIMARY KEY, order_id INTEGER, line INTEGER, sku TEXT, quantity INTEGER,
                          price TEXT);
CREATE TABLE events (id TEXT PRIMARY KEY, customer_id INTEGER, kind TEXT, at TEXT, payload TEXT, score REAL,
                     changed_at INTEGER, deleted INTEGER DEFAULT 0);
CREATE INDEX customers_changed ON customers (changed_at);
CREATE INDEX orders_changed ON orders (changed_at);
CREATE INDEX events_changed ON events (changed_at);
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("database")
    parser.add_argument("--rows", type=int, default=200_000, help="rows of all tables together")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--change", action="store_true", help="change an existing database")
    arguments = parser.parse_args()
    if arguments.change:
        change(arguments.database, arguments.seed)
    else:
        create(arguments.database, arguments.rows, arguments.seed)


def create(path, rows, seed):
    if os.path.exists(path):
        os.remove(path)
    rng = random.Random(seed)
    customers, orders, lines = rows // 10, rows // 5, rows * 2 // 5
    events = rows - customers - orders - lines
    with sqlite3.connect(path) as db:
        db.executescript(SCHEMA)
        clock = Clock(0)
        insert(db, "customers", (customer(rng, number, clock) for number in range(1, customers + 1)))
        insert(db, "orders", (order(rng, number, customers, clock) for number in range(1, orders + 1)))
        insert(db, "order_lines", (order_line(rng, number, orders) for number in range(1, lines + 1)))
        insert(db, "events", (event(rng, number, customers, clock) for number in range(1, events + 1)))
    db.close()


def change(path, seed):
    """A second version of the source: about one row in twenty is touched."""
    rng = random.Random(seed + 1)
    db = sqlite3.connect(path)
    with db:
        if "loyalty_points" not in columns(db, "customers"):
            db.execute("ALTER TABLE customers ADD COLUMN loyalty_points INTEGER")
        counts = {table: count(db, table) for table in ("customers", "orders", "order_lines", "events")}
        clock = Clock(db.execute(newest_change()).fetchone()[0])
        change_customers(db, rng, counts["customers"], clock)
        change_orders(db, rng, counts["orders"], counts["customers"], clock)
        change_events(db, rng, counts["events"], counts["customers"], clock)
        first = counts["order_lines"] + 1
        added = range(first, first + counts["order_lines"] // 20)
        insert(db, "order_lines", (order_line(rng, number, counts["orders"]) for number in added))
    db.close()


def change_customers(db, rng, known, clock):
    for number in sample(rng, known):
        change = (rng.randint(0, 5000), money(rng, 2000), clock.tick(), number)
        db.execute("UPDATE customers SET loyalty_points = ?, balance = ?, changed_at = ? WHERE id = ?", change)
    delete(db, "customers", sample(rng, known, 50), clock)
    added = range(known + 1, known + 1 + known // 20)
    insert(db, "customers", ((*customer(rng, number, clock), rng.randint(0, 5000)) for number in added))


def change_orders(db, rng, known, customers, clock):
    for number in sample(rng, known):
        change = (rng.choice(STATUSES), round(rng.uniform(0.25, 9.75), 2), clock.tick(), number)
        db.execute("UPDATE orders SET status = ?, quantity = ?, changed_at = ? WHERE id = ?", change)
    delete(db, "orders", sample(rng, known, 50), clock)
    added = range(known + 1, known + 1 + known // 20)
    insert(db, "orders", (order(rng, number, customers, clock) for number in added))


def change_events(db, rng, known, customers, clock):
    for number in sample(rng, known):
        change = (round(rng.random(), 6), clock.tick(), event_id(number))
        db.execute("UPDATE events SET score = ?, changed_at = ? WHERE id = ?", change)
    delete(db, "events", [event_id(number) for number in sample(rng, known, 50)], clock)
    added = range(known + 1, known + 1 + known // 20)
    insert(db, "events", (event(rng, number, customers, clock) for number in added))


def customer(rng, number, clock):
    name = rng.choice(NAMES)
    born = None if rng.random() < 0.1 else day(rng.randint(-25_000, -7_000))
    email = None if rng.random() < 0.05 else f"{number}@example.com"
    vip = rng.choice([0, 1, None])
    return number, f"{name} {number}", email, rng.choice(CITIES), vip, money(rng, 2000), born, clock.tick(), 0


def order(rng, number, customers, clock):
    ordered = rng.randint(0, 700)
    shipped = None if rng.random() < 0.3 else day(ordered + rng.randint(0, 20))
    discount = None if rng.random() < 0.6 else round(rng.random() / 3, 4)
    buyer = rng.randint(1, customers)
    status, total, note = rng.choice(STATUSES), money(rng, 10_000), rng.choice(NOTES)
    return number, buyer, status, total, discount, day(ordered), shipped, rng.randint(1, 12), note, clock.tick(), 0


def order_line(rng, number, orders):
    """The line number counts through the whole shop: it makes every row different from every other."""
    return number, 1 + (number - 1) % orders, number, sku(rng), rng.randint(1, 9), money(rng, 900)


def event(rng, number, customers, clock):
    at = FIRST_DAY + timedelta(seconds=number * 37, microseconds=rng.randint(0, 999_999))
    payload = None if rng.random() < 0.1 else json.dumps(payload_of(rng), ensure_ascii=False)
    visitor = None if rng.random() < 0.2 else rng.randint(1, customers)
    score = None if rng.random() < 0.2 else round(rng.random(), 6)
    return event_id(number), visitor, rng.choice(KINDS), at.isoformat() + "Z", payload, score, clock.tick(), 0


def payload_of(rng):
    items = [{"sku": sku(rng), "count": rng.randint(1, 3)} for _ in range(rng.randint(0, 3))]
    return {"page": f"/p/{rng.randint(1, 500)}", "items": items, "referrer": None, "term": rng.choice(CITIES)}


class Clock:
    """Every change has its own number, so a cursor never stands between two equal ones."""

    def __init__(self, last):
        self.last = last

    def tick(self):
        self.last += 1
        return self.last


def insert(db, table, rows):
    for row in rows:
        db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)


def delete(db, table, keys, clock):
    for key in keys:
        db.execute(f"UPDATE {table} SET deleted = 1, changed_at = ? WHERE id = ?", (clock.tick(), key))


def sample(rng, known, share=20):
    return sorted(rng.sample(range(1, known + 1), max(1, known // share)))


def columns(db, table):
    return [row[1] for row in db.execute(f"PRAGMA table_info({table})")]


def count(db, table):
    return db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def newest_change():
    tables = ("customers", "orders", "events")
    return "SELECT max(newest) FROM (" + " UNION ALL ".join(
        f"SELECT max(changed_at) AS newest FROM {table}" for table in tables
    ) + ")"


def event_id(number):
    return f"evt-{number:09d}"


def sku(rng):
    return f"SKU-{rng.randint(1, 4000):04d}"


def money(rng, most):
    return f"{rng.randint(0, most * 100) / 100:.2f}"


def day(offset):
    return (FIRST_DAY + timedelta(days=offset)).date().isoformat()


if __name__ == "__main__":
    main()
