"""What operations do to a table: fold rules within one commit, the same over commits, deletes, truncates, keys."""

from case import Case, Table

KEYED = "[{{'table': {0!r}, 'primary_key': ['id']}}]"
COLUMNS = {"id": "INT", "a": "STRING", "b": "STRING"}
OPS = {
    "upsert": "op.upsert({0!r}, {{'id': 1, 'a': 'u{1}'}})",
    "update": "op.update({0!r}, {{'id': 1, 'b': 'p{1}'}})",
    "delete": "op.delete({0!r}, {{'id': 1}})",
}


def pairs():
    """Each pair of operations on a key that the destination holds, in one commit and over two."""
    expected = {
        ("upsert", "upsert"): ([("u2", None)], []),
        ("upsert", "update"): ([("u1", "p2")], []),
        ("upsert", "delete"): ([], [("u1", None)]),
        ("update", "upsert"): ([("u2", None)], []),
        ("update", "update"): ([("old", "p2")], []),
        ("update", "delete"): ([], [("old", "p1")]),
        ("delete", "upsert"): ([("u2", None)], []),
        ("delete", "update"): ([], [("old", "was")]),
        ("delete", "delete"): ([], [("old", "was")]),
    }
    for (first, second), (rows, deleted) in expected.items():
        for between, what in (("", "in_one_commit"), ("op.checkpoint({})\n", "over_two")):
            table = f"{first}_{second}_{what}"
            start = f"op.upsert({table!r}, {{'id': 1, 'a': 'old', 'b': 'was'}})\nop.checkpoint({{}})\n"
            body = start + OPS[first].format(table, 1) + "\n" + between + OPS[second].format(table, 2)
            live = [(1, *row) for row in rows]
            gone = [(1, *row) for row in deleted]
            yield Case(f"fold_{table}", body, KEYED.format(table), {table: Table(COLUMNS, live, gone)})


def fold(name, body, rows, deleted=(), columns=None, **more):
    """Operations on a table `name` with the key `id`; the body calls it T."""
    return Case(
        f"table_{name}", f"T = {name!r}\n{body}",
        KEYED.format(name), {name: Table(columns or COLUMNS, rows, deleted)}, **more,
    )


def instants(found, name):
    table = found[name]
    index = list(table.columns).index("id")
    return {row[index]: synced for row, synced in zip(table.rows, table.column("_fivetran_synced"))}


def synced_moves(found):
    """Row 1 is of the first commit, row 2 was upserted again, row 3 deleted, row 4 truncated (and comes first)."""
    of = instants(found, "synced")
    first, again, deleted = of["i:1"], of["i:2"], of["i:3"]
    problems = [] if first < again == deleted else [f"synced: {first}, {again}, {deleted} are not of the two commits"]
    truncated = instants(found, "truncated_sync")
    if not truncated["i:1"] < truncated["i:2"]:
        problems.append(f"a truncate moved _fivetran_synced: {truncated}")
    return problems


def one_instant(found):
    of = set(instants(found, "one_window").values())
    return [] if len(of) == 1 else [f"one commit has the instants {of}"]


CASES = [
    *pairs(),
    fold("update_on_nothing_is_ignored", "op.upsert(T, {'id': 2, 'a': 'x', 'b': 'y'})\nop.update(T, {'id': 1, 'a': 'p'})", [(2, "x", "y")]),
    fold("delete_of_nothing_is_ignored", "op.upsert(T, {'id': 2, 'a': 'x', 'b': 'y'})\nop.delete(T, {'id': 1})", [(2, "x", "y")]),
    fold("upsert_makes_absent_columns_null", "op.upsert(T, {'id': 1, 'a': 'x', 'b': 'y'})\nop.checkpoint({})\nop.upsert(T, {'id': 1, 'a': 'z'})", [(1, "z", None)]),
    fold("update_leaves_other_columns", "op.upsert(T, {'id': 1, 'a': 'x', 'b': 'y'})\nop.checkpoint({})\nop.update(T, {'id': 1, 'a': 'z'})", [(1, "z", "y")]),
    fold("update_with_none_sets_null", "op.upsert(T, {'id': 1, 'a': 'x', 'b': 'y'})\nop.checkpoint({})\nop.update(T, {'id': 1, 'a': None})", [(1, None, "y")]),
    fold("update_with_none_in_one_commit", "op.upsert(T, {'id': 1, 'a': 'x', 'b': 'y'})\nop.update(T, {'id': 1, 'a': None})", [(1, None, "y")]),
    fold("updates_merge", "op.upsert(T, {'id': 1, 'a': 'x', 'b': 'y'})\nop.checkpoint({})\nop.update(T, {'id': 1, 'a': 'p'})\nop.update(T, {'id': 1, 'b': 'q'})", [(1, "p", "q")]),
    fold("update_of_only_the_key_changes_nothing", "op.upsert(T, {'id': 1, 'a': 'x', 'b': 'y'})\nop.checkpoint({})\nop.update(T, {'id': 1})", [(1, "x", "y")]),
    fold("update_adds_a_column", "op.upsert(T, {'id': 1, 'a': 'x'})\nop.upsert(T, {'id': 2, 'a': 'y'})\nop.checkpoint({})\nop.update(T, {'id': 1, 'b': 'new'})", [(1, "x", "new"), (2, "y", None)]),
    fold("delete_keeps_the_values", "op.upsert(T, {'id': 1, 'a': 'x', 'b': 'y'})\nop.checkpoint({})\nop.delete(T, {'id': 1})", [], [(1, "x", "y")]),
    fold("delete_with_other_columns_uses_the_key", "op.upsert(T, {'id': 1, 'a': 'x', 'b': 'y'})\nop.checkpoint({})\nop.delete(T, {'id': 1, 'a': 'other', 'c': 'no column'})", [], [(1, "x", "y")]),
    fold("upsert_revives", "op.upsert(T, {'id': 1, 'a': 'x', 'b': 'y'})\nop.checkpoint({})\nop.delete(T, {'id': 1})\nop.checkpoint({})\nop.upsert(T, {'id': 1, 'a': 'back'})", [(1, "back", None)]),
    fold("update_does_not_revive", "op.upsert(T, {'id': 1, 'a': 'x', 'b': 'y'})\nop.checkpoint({})\nop.delete(T, {'id': 1})\nop.checkpoint({})\nop.update(T, {'id': 1, 'a': 'no'})", [], [(1, "x", "y")]),
    fold("new_column_is_null_in_old_rows", "op.upsert(T, {'id': 1, 'a': 'x'})\nop.checkpoint({})\nop.upsert(T, {'id': 2, 'a': 'y', 'b': 'z'})", [(1, "x", None), (2, "y", "z")]),
    fold("columns_are_never_dropped", "op.upsert(T, {'id': 1, 'a': 'x', 'b': 'y'})\nop.checkpoint({})\nop.upsert(T, {'id': 1, 'a': 'x'})", [(1, "x", None)]),
    fold("truncate_marks_earlier_rows", "op.upsert(T, {'id': 1, 'a': 'x', 'b': 'y'})\nop.checkpoint({})\nop.truncate(T)\nop.upsert(T, {'id': 2, 'a': 'z'})", [(2, "z", None)], [(1, "x", "y")]),
    fold("truncate_drops_pending_rows", "op.upsert(T, {'id': 1, 'a': 'x', 'b': 'y'})\nop.truncate(T)\nop.upsert(T, {'id': 2, 'a': 'z'})", [(2, "z", None)], [], {"id": "INT", "a": "STRING", "b": "STRING"}),
    fold("truncate_then_same_key_revives", "op.upsert(T, {'id': 1, 'a': 'x', 'b': 'y'})\nop.checkpoint({})\nop.truncate(T)\nop.upsert(T, {'id': 1, 'a': 'new'})", [(1, "new", None)]),
    fold("truncate_then_update_matches_nothing", "op.upsert(T, {'id': 1, 'a': 'x', 'b': 'y'})\nop.checkpoint({})\nop.truncate(T)\nop.update(T, {'id': 1, 'a': 'no'})", [], [(1, "x", "y")]),
    fold("truncate_twice", "op.upsert(T, {'id': 1, 'a': 'x', 'b': 'y'})\nop.checkpoint({})\nop.truncate(T)\nop.upsert(T, {'id': 2, 'a': 'gone'})\nop.truncate(T)\nop.upsert(T, {'id': 3, 'a': 'z'})", [(3, "z", None)], [(1, "x", "y")]),
    fold("truncate_over_commits", "op.upsert(T, {'id': 1, 'a': 'x', 'b': 'y'})\nop.checkpoint({})\nop.upsert(T, {'id': 2, 'a': 'w'})\nop.checkpoint({})\nop.truncate(T)\nop.checkpoint({})\nop.upsert(T, {'id': 2, 'a': 'back'})", [(2, "back", None)], [(1, "x", "y")]),
    Case(
        "truncate_of_an_unknown_table_is_nothing",
        "op.truncate('never_seen')\nop.upsert('beside', {'id': 1})",
        KEYED.format("beside"),
        {"beside": Table({"id": "INT"}, [(1,)])},
    ),
    Case(
        "truncate_touches_its_table_only",
        "op.upsert('cut', {'id': 1})\nop.upsert('kept', {'id': 1})\nop.checkpoint({})\nop.truncate('cut')",
        "[{'table': 'cut', 'primary_key': ['id']}, {'table': 'kept', 'primary_key': ['id']}]",
        {"cut": Table({"id": "INT"}, [], [(1,)]), "kept": Table({"id": "INT"}, [(1,)])},
    ),
    Case(
        "truncate_in_a_later_sync",
        "if sync == 1:\n    op.upsert('resync', {'id': 1})\n    op.upsert('resync', {'id': 2})\nelse:\n    op.truncate('resync')\n    op.upsert('resync', {'id': 2})",
        KEYED.format("resync"),
        {"resync": Table({"id": "INT"}, [(2,)], [(1,)])},
        syncs=2,
    ),
    Case(
        "synced_moves_with_upsert_and_delete_not_with_truncate",
        """
        for i in (1, 2, 3):
            op.upsert("synced", {"id": i})
        op.upsert("truncated_sync", {"id": 1})
        op.checkpoint({})
        op.upsert("synced", {"id": 2})
        op.delete("synced", {"id": 3})
        op.truncate("truncated_sync")
        op.upsert("truncated_sync", {"id": 2})
        """,
        "[{'table': 'synced', 'primary_key': ['id']}, {'table': 'truncated_sync', 'primary_key': ['id']}]",
        {"synced": Table({"id": "INT"}, [(1,), (2,)], [(3,)]), "truncated_sync": Table({"id": "INT"}, [(2,)], [(1,)])},
        check=synced_moves,
    ),
    Case(
        "synced_is_one_instant_per_commit",
        "for i in range(50):\n    op.upsert('one_window', {'id': i})",
        KEYED.format("one_window"),
        {"one_window": Table({"id": "INT"}, [(i,) for i in range(50)])},
        check=one_instant,
    ),
    Case(
        "composite_keys_are_whole",
        """
        op.upsert("two_keys", {"a": 1, "b": "x", "v": 1})
        op.upsert("two_keys", {"a": 1, "b": "y", "v": 2})
        op.checkpoint({})
        op.update("two_keys", {"b": "x", "a": 1, "v": 3})
        op.delete("two_keys", {"a": 1, "b": "y"})
        """,
        "[{'table': 'two_keys', 'primary_key': ['a', 'b']}]",
        {"two_keys": Table({"a": "INT", "b": "STRING", "v": "INT"}, [(1, "x", 3)], [(1, "y", 2)])},
    ),
    Case(
        "many_rows_of_one_key_are_one_row",
        "for i in range(5000):\n    op.upsert('hot', {'id': i % 3, 'v': i})",
        KEYED.format("hot"),
        {"hot": Table({"id": "INT", "v": "INT"}, [(0, 4998), (1, 4999), (2, 4997)])},
    ),
    Case(
        "declared_table_without_rows_exists",
        schema="[{'table': 'declared_empty', 'primary_key': ['id'], 'columns': {'id': 'LONG', 'at': 'UTC_DATETIME', 'n': {'type': 'DECIMAL', 'precision': 10, 'scale': 2}}}]",
        tables={"declared_empty": Table({"id": "LONG", "at": "UTC_DATETIME", "n": "DECIMAL(10,2)"}, ordered=True)},
    ),
    Case(
        "declared_column_that_is_always_null_exists",
        "op.upsert('all_null', {'id': 1, 'never': None, 'undeclared': None})",
        "[{'table': 'all_null', 'primary_key': ['id'], 'columns': {'never': 'DOUBLE'}}]",
        {"all_null": Table({"id": "INT", "never": "DOUBLE"}, [(1, None)])},
    ),
    Case(
        "key_null_fails",
        "op.upsert('key_null', {'id': 1})\nop.checkpoint({'at': 1})\nop.upsert('key_null', {'id': None})",
        KEYED.format("key_null"), {"key_null": Table({"id": "INT"}, [(1,)])}, fails="SDK-007", state={"at": 1},
        words=("id", "key_null"),
    ),
    Case("key_absent_in_upsert_fails", "op.upsert('key_absent', {'v': 1})", KEYED.format("key_absent"), {}, fails="SDK-007"),
    Case("update_with_a_partial_key_fails", "op.update('partial', {'a': 1, 'v': 1})", "[{'table': 'partial', 'primary_key': ['a', 'b']}]", {}, fails="SDK-014"),
    Case("delete_with_a_partial_key_fails", "op.delete('partial', {'a': 1})", "[{'table': 'partial', 'primary_key': ['a', 'b']}]", {}, fails="SDK-014"),
    Case(
        "key_change_of_a_table_with_rows_fails",
        "op.upsert('key_change', {'a': 1, 'b': 2})",
        "[{'table': 'key_change', 'primary_key': ['a'] if sync == 1 else ['a', 'b']}]",
        {"key_change": Table({"a": "INT", "b": "INT"}, [(1, 2)])}, syncs=2, fails="SDK-010",
    ),
    Case(
        "key_order_is_no_key_change",
        "op.upsert('key_order', {'a': 1, 'b': sync})",
        "[{'table': 'key_order', 'primary_key': ['a', 'b'] if sync == 1 else ['b', 'a']}]",
        {"key_order": Table({"a": "INT", "b": "INT"}, [(1, 1), (1, 2)])}, syncs=2,
    ),
]  # fmt: skip
