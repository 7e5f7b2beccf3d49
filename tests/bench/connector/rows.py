"""The rows of the measured connector: ten mixed columns, cheap to build, so that the cost measured is the carrier's."""

POOL = 1_024
SHORT_TEXTS = [f"status-{i % 37}" for i in range(POOL)]
LONG_TEXTS = [f"{i:05d} the order was confirmed by the warehouse and handed to the carrier for delivery" for i in range(POOL)]
TIMES = [f"2025-{i % 12 + 1:02d}-{i % 28 + 1:02d}T{i % 24:02d}:{i % 60:02d}:{i * 7 % 60:02d}.123456+00:00" for i in range(POOL)]
AMOUNTS = [f"{i * 7_919}.{i % 100:02d}" for i in range(POOL)]

PRIMARY_KEY = ["id"]
COLUMN_TYPES = {
    "id": "LONG", "big": "LONG", "ratio": "DOUBLE", "active": "BOOLEAN", "status": "STRING", "note": "STRING",
    "changed_at": "UTC_DATETIME", "detail": "JSON", "missing": "STRING",
    "amount": {"type": "DECIMAL", "precision": 15, "scale": 2},
}


def rows(first, last):
    """Rows with the keys from `first` up to, without, `last`."""
    for i in range(first, last):
        slot = i & (POOL - 1)
        yield {
            "id": i, "big": i * 1_000_003, "ratio": i * 0.25, "active": i & 1 == 0, "status": SHORT_TEXTS[slot],
            "note": LONG_TEXTS[slot], "changed_at": TIMES[slot], "detail": {"line": i, "tags": ["a", "b"]},
            "missing": None, "amount": AMOUNTS[slot],
        }
