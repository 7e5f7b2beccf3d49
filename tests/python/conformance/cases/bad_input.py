"""Extreme and hostile input: every one ends in a typed failure or in correct rows, and the next sync works."""

from case import Case, Table, own_table

KEYED = "[{'table': 'seen', 'primary_key': ['id']}]"


def seen(columns, *rows):
    return {"seen": Table({"id": "INT", **columns}, list(rows))}


def changed_rows(found):
    """The rows around the racing ones are there, and the racing one is whole or not there at all."""
    changing = found["changing"]
    keys = sorted(changing.column("id"))
    ok = found["seen"].column("id") == ["i:1"] and keys in (["i:2"], ["i:1", "i:2"])
    return [] if ok else [f"seen {found['seen'].rows}, changing has the keys {keys}"]


CASES = [
    Case(
        "bad_deep_json_is_refused_and_the_next_row_works",
        """
        deep = []
        for _ in range(100_000):
            deep = [deep]
        try:
            op.upsert("seen", {"id": 1, "v": deep})
            op.upsert("seen", {"id": 9})
        except (ValueError, RecursionError):
            op.upsert("seen", {"id": 2, "v": [[1]]})
        """,
        KEYED, seen({"v": "JSON"}, (2, "[[1]]")), alone=True,
    ),
    Case(
        "bad_json_of_200_levels_is_a_row",
        "deep = []\nfor _ in range(200):\n    deep = [deep]\nop.upsert('seen', {'id': 1, 'v': deep})",
        KEYED, seen({"v": "JSON"}, (1, "[" * 201 + "]" * 201)), alone=True,
    ),
    Case(
        "bad_json_circle",
        "circle = {}\ncircle['me'] = circle\ntry:\n    op.upsert('seen', {'id': 1, 'v': circle})\nexcept ValueError:\n    op.upsert('seen', {'id': 2})",
        KEYED, seen({}, (2,)), alone=True,
    ),
    Case(
        "bad_lone_surrogate_in_a_text",
        "try:\n    op.upsert('seen', {'id': 1, 'v': '\\ud800'})\nexcept UnicodeEncodeError:\n    op.upsert('seen', {'id': 2, 'v': 'fine'})",
        KEYED, seen({"v": "STRING"}, (2, "fine")), alone=True,
    ),
    Case(
        "bad_lone_surrogate_in_json_is_escaped",
        "op.upsert('seen', {'id': 1, 'v': ['\\ud800']})", KEYED, seen({"v": "JSON"}, (1, '["\\ud800"]')), alone=True,
    ),
    Case(
        "bad_lone_surrogate_uncaught_fails", "op.upsert('seen', {'id': 1, 'v': '\\ud800'})", KEYED, {}, fails="SDK-001", words=("UnicodeEncodeError",),
    ),
    Case(
        "bad_columns_10_000",
        "for row in range(3):\n    op.upsert('seen', {'id': row, **{f'c{i}': i for i in range(10_000)}})",
        KEYED, seen({f"c_{i}": "INT" for i in range(10_000)}, *[(row, *range(10_000)) for row in range(3)]), alone=True,
    ),
    Case(
        "bad_text_of_36_mib",
        "op.upsert('seen', {'id': 1, 'n': 'x'})\nop.upsert('seen', {'id': 2, 'n': 'é' * (18 << 20)})\nop.checkpoint({'at': 1})",
        KEYED, seen({"n": "STRING"}, (1, "x"), (2, "é" * (18 << 20))), state={"at": 1},
    ),
    Case(
        "bad_text_of_1_gib_is_refused_and_the_next_row_works",
        "try:\n    op.upsert('seen', {'id': 1, 'n': 'x' * (1 << 30)})\nexcept ValueError:\n    op.upsert('seen', {'id': 2, 'n': 'small'})",
        KEYED, seen({"n": "STRING"}, (2, "small")), alone=True,
    ),
    Case("bad_text_of_1_gib_uncaught_fails", "op.upsert('seen', {'id': 1, 'n': 'x' * (1 << 30)})", KEYED, {}, fails="SDK-008", words=("column n passes",)),
    Case(
        "bad_json_of_200_mib_is_refused",
        "try:\n    op.upsert('seen', {'id': 1, 'n': ['x' * (200 << 20)]})\nexcept ValueError:\n    op.upsert('seen', {'id': 2, 'n': []})",
        KEYED, seen({"n": "JSON"}, (2, "[]")), alone=True,
    ),
    Case(
        "bad_bytes_of_200_mib_are_refused",
        "try:\n    op.upsert('seen', {'id': 1, 'n': bytes(200 << 20)})\nexcept ValueError:\n    op.upsert('seen', {'id': 2, 'n': b'x'})",
        KEYED, seen({"n": "BINARY"}, (2, b"x")), alone=True,
    ),
    Case(
        "bad_row_of_60_mib_is_refused",
        "half = 'x' * (30 << 20)\ntry:\n    op.upsert('seen', {'id': 1, 'n': half, 'm': half})\nexcept ValueError:\n    op.upsert('seen', {'id': 2, 'n': 'x'})",
        KEYED, seen({"n": "STRING"}, (2, "x")), alone=True,
    ),
    Case(
        "bad_key_of_10_kb",
        "op.upsert('seen', {'id': 1, **{'k' * 10_000: 'x'}})", KEYED, seen({"k" * 10_000: "STRING"}, (1, "x")), alone=True,
    ),
    Case(
        "bad_key_value_of_10_kb",
        "for i in range(3):\n    op.upsert('long_key', {'id': 'k' * 10_000 + str(i % 2), 'v': i})",
        "[{'table': 'long_key', 'primary_key': ['id']}]",
        {"long_key": Table({"id": "STRING", "v": "INT"}, [("k" * 10_000 + "0", 2), ("k" * 10_000 + "1", 1)])},
    ),
    Case(
        "bad_first_and_last_days",
        "op.upsert('seen', {'id': 1, 'd': '0001-01-01', 'n': '0001-01-01T00:00:00', 'u': '0001-01-01T00:00:00Z'})\n"
        "op.upsert('seen', {'id': 2, 'd': '9999-12-31', 'n': '9999-12-31T23:59:59.999999', 'u': '9999-12-31T23:59:59.999999Z'})",
        "[{'table': 'seen', 'primary_key': ['id'], 'columns': {'d': 'NAIVE_DATE', 'n': 'NAIVE_DATETIME', 'u': 'UTC_DATETIME'}}]",
        seen({"d": "NAIVE_DATE", "n": "NAIVE_DATETIME", "u": "UTC_DATETIME"},
             (1, "0001-01-01", "0001-01-01T00:00:00", "0001-01-01T00:00:00"),
             (2, "9999-12-31", "9999-12-31T23:59:59.999999", "9999-12-31T23:59:59.999999")), alone=True,
    ),
    Case(
        "bad_days_beyond_the_calendar",
        """
        bad = [("d", "0000-01-01"), ("d", "10000-01-01"), ("n", "0000-12-31T00:00:00"), ("n", "12024-01-01T00:00:00"), ("u", "0000-01-01T00:00:00Z"),
               ("u", "9999-12-31T23:59:59-01:00"), ("u", "0001-01-01T00:00:00+01:00"), ("d", "-001-01-01")]
        for number, (column, text) in enumerate(bad):
            try:
                op.upsert("seen", {"id": number, column: text})
            except ValueError:
                pass
        op.upsert("seen", {"id": 99})
        """,
        "[{'table': 'seen', 'primary_key': ['id'], 'columns': {'d': 'NAIVE_DATE', 'n': 'NAIVE_DATETIME', 'u': 'UTC_DATETIME'}}]",
        seen({"d": "NAIVE_DATE", "n": "NAIVE_DATETIME", "u": "UTC_DATETIME"}, (99, None, None, None)), alone=True,
    ),
    Case(
        "bad_aware_datetime_beyond_the_calendar",
        """
        from datetime import datetime, timedelta, timezone
        try:
            op.upsert("seen", {"id": 1, "u": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1)))})
        except ValueError:
            op.upsert("seen", {"id": 2})
        """,
        "[{'table': 'seen', 'primary_key': ['id'], 'columns': {'u': 'UTC_DATETIME'}}]", seen({"u": "UTC_DATETIME"}, (2, None)), alone=True,
    ),
    Case(
        "bad_integers_of_5_000_digits",
        "import sys\nop.upsert('seen', {'id': 1, 'v': 10**4000})\n"
        "try:\n    op.upsert('seen', {'id': 2, 'v': 10**5000})\nexcept ValueError:\n    op.upsert('seen', {'id': 3, 'v': 5})",
        KEYED, seen({"v": "STRING"}, (1, str(10**4000)), (3, "5")), alone=True,
    ),
    Case(
        "bad_dict_changed_while_it_is_encoded",
        """
        import threading
        row = {"id": 1, **{f"c{i}": i for i in range(50)}, "deep": {"a": [1] * 50}}
        stop = threading.Event()
        def change():
            number = 0
            while not stop.is_set():
                row["c1"], row["deep"] = number, {"a": [number] * 50, "b": {}}
                row[f"new{number % 7}"] = number
                row.pop(f"new{(number + 3) % 7}", None)
                number += 1
        thread = threading.Thread(target=change)
        thread.start()
        for _ in range(5000):
            try:
                op.upsert("changing", row)
            except RuntimeError:
                pass
        stop.set()
        thread.join()
        op.upsert("seen", {"id": 1})
        op.delete("changing", {"id": 1})
        op.upsert("changing", {"id": 2})
        """,
        "[{'table': 'seen', 'primary_key': ['id']}, {'table': 'changing', 'primary_key': ['id']}]",
        None, check=changed_rows, alone=True,
    ),
    Case(
        "bad_value_whose_str_raises",
        "class Bad:\n    def __str__(self):\n        raise RuntimeError('no text')\n"
        "try:\n    op.upsert('seen', {'id': 1, 'v': Bad()})\nexcept RuntimeError:\n    op.upsert('seen', {'id': 2})",
        KEYED, seen({}, (2,)), alone=True,
    ),
    Case(
        "bad_value_whose_str_emits",
        "class Busy:\n    def __str__(self):\n        op.upsert('seen', {'id': 7})\n        op.checkpoint({'inner': 1})\n        return 'busy'\n"
        "op.upsert('seen', {'id': 1, 'v': Busy()})",
        KEYED, seen({"v": "STRING"}, (1, "busy"), (7, None)), state={"inner": 1},
    ),
    Case(
        "bad_tables_1_000",
        "for i in range(1000):\n    op.upsert(f'many_{i}', {'id': i})\nraise ValueError('enough')", None, {}, fails="SDK-001",
    ),
    Case(
        "bad_nan_key_is_one_key",
        "for value in (float('nan'), float('nan'), 0.0, -0.0):\n    op.upsert('nan_key', {'id': value, 'v': 1})",
        "[{'table': 'nan_key', 'primary_key': ['id']}]",
        {"nan_key": Table({"id": "DOUBLE", "v": "INT"}, [(float("nan"), 1), (0.0, 1)])},
    ),
    Case(
        "bad_lines_100_000_are_bounded",
        "for i in range(100_000):\n    print('a line of the connector')\nop.upsert('seen', {'id': 1})", KEYED, seen({}, (1,)), alone=True,
    ),
    Case(
        "bad_closed_descriptors",
        "import os\nop.upsert('seen', {'id': 1})\nos.closerange(3, 64)\nop.upsert('seen', {'id': 2})\nop.checkpoint({'at': 1})", KEYED, {}, fails="SDK-003", state={},
    ),
]  # fmt: skip

CASES = [own_table(case) for case in CASES]
