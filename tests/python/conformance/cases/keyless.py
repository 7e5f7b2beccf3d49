"""Tables without a key: `_fivetran_id` is a hash of the row, computed here by code of our own."""

from case import Case, Table


def keyless(name, body, columns, rows, deleted=(), **more):
    return Case(f"keyless_{name}", f"T = 'keyless_{name}'\n{body}", None, {f"keyless_{name}": Table(columns, rows, deleted, keyless=True)}, **more)


CASES = [
    keyless("one_row", "op.upsert(T, {'b': 1, 'a': 'x'})", {"b": "INT", "a": "STRING"}, [(1, "x")]),
    keyless("equal_rows_collapse", "for _ in range(3):\n    op.upsert(T, {'a': 'x', 'b': 1})\nop.upsert(T, {'b': 1, 'a': 'x'})", {"a": "STRING", "b": "INT"}, [("x", 1)]),
    keyless("changed_row_is_a_new_row", "op.upsert(T, {'a': 'x', 'b': 1})\nop.checkpoint({})\nop.upsert(T, {'a': 'x', 'b': 2})", {"a": "STRING", "b": "INT"}, [("x", 1), ("x", 2)]),
    keyless("equal_rows_over_commits_collapse", "op.upsert(T, {'a': 'x'})\nop.checkpoint({})\nop.upsert(T, {'a': 'x'})", {"a": "STRING"}, [("x",)]),
    keyless("null_is_left_out_of_the_hash", "op.upsert(T, {'a': 'x', 'b': None})\nop.checkpoint({})\nop.upsert(T, {'a': 'x', 'b': 1})\nop.upsert(T, {'a': 'x'})", {"a": "STRING", "b": "INT"}, [("x", None), ("x", 1)]),
    keyless("names_are_hashed_in_byte_order", "op.upsert(T, {'zeta': 1, 'alpha': 2, '_under': 3, 'a1': 4})", {"zeta": "INT", "alpha": "INT", "_under": "INT", "a_1": "INT"}, [(1, 2, 3, 4)]),
    keyless("types", "op.upsert(T, {'t': True, 'f': 0.1, 'w': 3.0, 'l': 2**40, 'big': 2**70, 's': 'ü', 'x': b'\\x01\\xff', 'j': {'b': [1, 'é'], 'a': None}})",
            {"t": "BOOLEAN", "f": "DOUBLE", "w": "DOUBLE", "l": "LONG", "big": "DECIMAL(38,0)", "s": "STRING", "x": "BINARY", "j": "JSON"},
            [(True, 0.1, 3.0, 2**40, 2**70, "ü", b"\x01\xff", '{"b": [1, "\\u00e9"], "a": null}')], check=None, alone=True),
    keyless("json_is_hashed_with_sorted_keys", "op.upsert(T, {'j': {'b': 1, 'a': 2}})\nop.upsert(T, {'j': {'a': 2, 'b': 1}})", {"j": "JSON"}, [('{"a": 2, "b": 1}',)]),
    keyless("id_survives_a_wider_type", "op.upsert(T, {'v': 1})\nop.checkpoint({})\nop.upsert(T, {'v': 2**40})\nop.upsert(T, {'v': 1})", {"v": "LONG"}, [(1,), (2**40,)]),
    keyless("whole_float_is_hashed_as_integer", "op.upsert(T, {'v': 1})\nop.checkpoint({})\nop.upsert(T, {'v': 1.0})\nop.upsert(T, {'v': 0.5})", {"v": "DOUBLE"}, [(1.0,), (0.5,)]),
    keyless("id_survives_a_new_column", "op.upsert(T, {'a': 1})\nop.checkpoint({})\nop.upsert(T, {'a': 2, 'b': 1})\nop.upsert(T, {'a': 1})", {"a": "INT", "b": "INT"}, [(1, None), (2, 1)]),
    keyless("delete_of_a_whole_row", "op.upsert(T, {'a': 1, 'b': 'x'})\nop.upsert(T, {'a': 2, 'b': 'x'})\nop.checkpoint({})\nop.delete(T, {'b': 'x', 'a': 1})", {"a": "INT", "b": "STRING"}, [(2, "x")], [(1, "x")]),
    keyless("delete_of_a_part_matches_nothing", "op.upsert(T, {'a': 1, 'b': 'x'})\nop.checkpoint({})\nop.delete(T, {'a': 1})", {"a": "INT", "b": "STRING"}, [(1, "x")]),
    keyless("truncate", "op.upsert(T, {'a': 1})\nop.checkpoint({})\nop.truncate(T)\nop.upsert(T, {'a': 2})", {"a": "INT"}, [(2,)], [(1,)]),
    Case(
        "keyless_declared",
        "op.upsert('keyless_declared', {'n': '1.50', 'd': '2024-01-02', 'at': '2024-01-02T03:04:05.5Z', 'm': '2024-01-02T03:04:05'})",
        "[{'table': 'keyless_declared', 'columns': {'n': {'type': 'DECIMAL', 'precision': 10, 'scale': 2}, 'd': 'NAIVE_DATE', 'at': 'UTC_DATETIME', 'm': 'NAIVE_DATETIME'}}]",
        {"keyless_declared": Table({"n": "DECIMAL(10,2)", "d": "NAIVE_DATE", "at": "UTC_DATETIME", "m": "NAIVE_DATETIME"}, [("1.5", "2024-01-02", "2024-01-02T03:04:05.500", "2024-01-02T03:04:05")], keyless=True)},
    ),
    Case("keyless_update_fails", "op.update('keyless_update', {'a': 1})", None, {}, fails="SDK-011"),
    Case("keyless_empty_primary_key", "op.upsert('keyless_empty_list', {'a': 1})", "[{'table': 'keyless_empty_list', 'primary_key': []}]",
         {"keyless_empty_list": Table({"a": "INT"}, [(1,)], keyless=True)}),
    Case("keyless_input_of_the_id_is_dropped", "op.upsert('keyless_own_id', {'a': 1, '_fivetran_id': 'mine'})", None,
         {"keyless_own_id": Table({"a": "INT"}, [(1,)], keyless=True)}, words=("_fivetran_id",)),
    Case("keyless_becomes_keyed_fails", "op.upsert('rekeyed', {'a': sync})", "[{'table': 'rekeyed', **({} if sync == 1 else {'primary_key': ['a']})}]",
         {"rekeyed": Table({"a": "INT"}, [(1,)], keyless=True)}, syncs=2, fails="SDK-010"),
]  # fmt: skip
