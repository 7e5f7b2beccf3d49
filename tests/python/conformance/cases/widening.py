"""Columns that get a wider type: within one commit, over commits, and by another declaration in a later sync."""

from case import Case, Table

KEYED = "[{{'table': {0!r}, 'primary_key': ['id']}}]"
# What two undeclared values make of a column: expressions, the type, and both values in it.
JOINS = {
    "int_long": ("1", "2**40", "LONG", 1, 2**40),
    "int_double": ("1", "0.5", "DOUBLE", 1.0, 0.5),
    "int_big": ("1", "2**70", "DECIMAL(38,0)", 1, 2**70),
    "int_text": ("1", "'x'", "STRING", "1", "x"),
    "int_boolean": ("1", "True", "STRING", "1", "true"),
    "int_bytes": ("1", "b'ab'", "STRING", "1", "YWI="),
    "int_json": ("1", "{'a': 1}", "STRING", "1", '{"a": 1}'),
    "int_huge": ("1", "10**39", "STRING", "1", str(10**39)),
    "long_double_exact": ("2**53", "0.5", "DOUBLE", float(2**53), 0.5),
    "long_double_inexact": ("2**53 + 1", "0.5", "STRING", str(2**53 + 1), "0.5"),
    "long_big": ("2**40", "2**70", "DECIMAL(38,0)", 2**40, 2**70),
    "big_double": ("2**70", "0.5", "STRING", str(2**70), "0.5"),
    "double_text": ("0.1", "'x'", "STRING", "0.1", "x"),
    "whole_double_text": ("3.0", "'x'", "STRING", "3", "x"),
    "boolean_double": ("False", "1.5", "STRING", "false", "1.5"),
    "boolean_text": ("True", "'x'", "STRING", "true", "x"),
    "bytes_text": ("b'\\x00\\xff'", "'x'", "STRING", "AP8=", "x"),
    "json_text": ("{'a': [1, 2]}", "'x'", "STRING", '{"a": [1, 2]}', "x"),
    "json_boolean": ("[]", "True", "STRING", "[]", "true"),
    "bytes_json": ("b'a'", "[1]", "STRING", "YQ==", "[1]"),
}  # fmt: skip
# Two declarations, one per sync: types, a value of each, the type, and both values in it.
DECLARED = {
    "short_int": ("SHORT", "INT", "1", "2**20", "INT", 1, 2**20),
    "short_long": ("SHORT", "LONG", "1", "2**40", "LONG", 1, 2**40),
    "short_double": ("SHORT", "DOUBLE", "1", "0.5", "DOUBLE", 1.0, 0.5),
    "int_float": ("INT", "FLOAT", "16777217", "0.5", "DOUBLE", 16777217.0, 0.5),
    "float_double": ("FLOAT", "DOUBLE", "0.5", "1e300", "DOUBLE", 0.5, 1e300),
    "int_decimal": ("INT", (12, 2), "7", "'1.25'", "DECIMAL(12,2)", 7, "1.25"),
    "short_small_decimal": ("SHORT", (4, 2), "300", "'1.25'", "DECIMAL(7,2)", 300, "1.25"),
    "long_decimal": ("LONG", (12, 2), "2**62", "'1.25'", "DECIMAL(21,2)", 2**62, "1.25"),
    "long_decimal_too_wide": ("LONG", (38, 30), "12", "'1.5'", "STRING", "12", "1.5"),
    "decimal_decimal": ((10, 2), (10, 6), "'1.25'", "'1.000001'", "DECIMAL(14,6)", "1.25", "1.000001"),
    "decimal_decimal_too_wide": ((38, 0), (10, 6), "'1'", "'1.000001'", "STRING", "1", "1.000001"),
    "decimal_double": ((10, 2), "DOUBLE", "'1.25'", "0.1", "DOUBLE", 1.25, 0.1),
    "wide_decimal_double": ((16, 2), "DOUBLE", "'1.25'", "0.1", "STRING", "1.25", "0.1"),
    "date_datetime": ("NAIVE_DATE", "NAIVE_DATETIME", "'2024-01-02'", "'2024-01-02T03:04:05'", "NAIVE_DATETIME", "2024-01-02T00:00:00", "2024-01-02T03:04:05"),
    "date_utc": ("NAIVE_DATE", "UTC_DATETIME", "'2024-01-02'", "'2024-01-02T03:04:05Z'", "STRING", "2024-01-02", "2024-01-02T03:04:05Z"),
    "datetime_utc": ("NAIVE_DATETIME", "UTC_DATETIME", "'2024-01-02T03:04:05.5'", "'2024-01-02T03:04:05.123456Z'", "STRING", "2024-01-02T03:04:05.500", "2024-01-02T03:04:05.123456Z"),
    "utc_string": ("UTC_DATETIME", "STRING", "'2024-01-02T05:34:05.1+05:30'", "'x'", "STRING", "2024-01-02T00:04:05.100Z", "x"),
    "date_string": ("NAIVE_DATE", "STRING", "'0001-01-01'", "'x'", "STRING", "0001-01-01", "x"),
    "boolean_int": ("BOOLEAN", "INT", "True", "5", "STRING", "true", "5"),
    "xml_string": ("XML", "STRING", "'<a b=\"1\"/>'", "'x'", "STRING", '<a b="1"/>', "x"),
    "json_string": ("JSON", "STRING", "{'b': 1, 'a': 2}", "'x'", "STRING", '{"b": 1, "a": 2}', "x"),
    "xml_json": ("XML", "JSON", "'<a/>'", "[1]", "STRING", "<a/>", "[1]"),
    "binary_string": ("BINARY", "STRING", "b'\\xfb'", "'x'", "STRING", "+w==", "x"),
    "decimal_string": ((10, 3), "STRING", "'-1.50'", "'x'", "STRING", "-1.5", "x"),
    "float_string": ("FLOAT", "STRING", "0.1", "'x'", "STRING", "0.1", "x"),
}  # fmt: skip


def table(kind, first, second):
    return Table({"id": "INT", "v": kind}, [(1, first), (2, second)])


def joins():
    """Each pair both ways round, in one commit and over two."""
    for name, (first, second, kind, *held) in JOINS.items():
        forward, backward, apart = f"join_{name}", f"join_{name}_back", f"join_{name}_apart"
        one = f"op.upsert({{0!r}}, {{{{'id': 1, 'v': {escaped(first)}}}}})"
        two = f"op.upsert({{0!r}}, {{{{'id': 2, 'v': {escaped(second)}}}}})"
        for made, body in ((forward, f"{one}\n{two}"), (backward, f"{two}\n{one}"), (apart, f"{one}\nop.checkpoint({{{{}}}})\n{two}")):
            yield Case(made, body.format(made), KEYED.format(made), {made: table(kind, *held)})


def escaped(expression):
    return expression.replace("{", "{{").replace("}", "}}")


def declared(kind):
    return {"type": "DECIMAL", "precision": kind[0], "scale": kind[1]} if isinstance(kind, tuple) else kind


def declarations():
    for name, (before, after, first, second, kind, *held) in DECLARED.items():
        made = f"declared_join_{name}"
        types = f"{{1: {declared(before)!r}, 2: {declared(after)!r}}}[sync]"
        value = f"({first}) if sync == 1 else ({second})"
        yield Case(
            made, f"op.upsert({made!r}, {{'id': sync, 'v': {value}}})",
            f"[{{'table': {made!r}, 'primary_key': ['id'], 'columns': {{'v': {types}}}}}]",
            {made: table(kind, *held)}, syncs=2,
        )  # fmt: skip


CASES = [
    *joins(),
    *declarations(),
    Case(
        "never_narrowed",
        "for i, value in enumerate([42, 42.42, 'text', 42.43]):\n    op.upsert('story', {'id': i, 'v': value})",
        KEYED.format("story"),
        {"story": Table({"id": "INT", "v": "STRING"}, [(0, "42"), (1, "42.42"), (2, "text"), (3, "42.43")])},
    ),
    Case(
        "never_narrowed_over_syncs",
        "op.upsert('slow_story', {'id': sync, 'v': [42, 42.42, 'text', 42.43][sync - 1]})",
        KEYED.format("slow_story"),
        {"slow_story": Table({"id": "INT", "v": "STRING"}, [(1, "42"), (2, "42.42"), (3, "text"), (4, "42.43")])},
        syncs=4,
    ),
    Case(
        "a_key_widens_and_stays_one_key",
        "op.upsert('wide_key', {'id': 1, 'v': 'old'})\nop.checkpoint({})\nop.upsert('wide_key', {'id': 2**40, 'v': 'big'})\nop.upsert('wide_key', {'id': 1, 'v': 'new'})",
        KEYED.format("wide_key"),
        {"wide_key": Table({"id": "LONG", "v": "STRING"}, [(1, "new"), (2**40, "big")])},
    ),
    Case(
        "a_key_becomes_text_and_stays_one_key",
        "op.upsert('text_key', {'id': 1, 'v': 'old'})\nop.checkpoint({})\nop.upsert('text_key', {'id': 'x', 'v': 'text'})\nop.upsert('text_key', {'id': 1, 'v': 'new'})\nop.delete('text_key', {'id': 'x'})",
        KEYED.format("text_key"),
        {"text_key": Table({"id": "STRING", "v": "STRING"}, [("1", "new")], [("x", "text")])},
    ),
    Case(
        "a_truncated_column_keeps_its_type",
        "if sync == 1:\n    op.upsert('cut_type', {'id': 1, 'v': 'x'})\nelse:\n    op.truncate('cut_type')\n    op.upsert('cut_type', {'id': 2, 'v': 5})",
        KEYED.format("cut_type"),
        {"cut_type": Table({"id": "INT", "v": "STRING"}, [(2, "5")], [(1, "x")])},
        syncs=2,
    ),
    Case(
        "an_update_widens_too",
        "op.upsert('patched', {'id': 1, 'v': 1})\nop.upsert('patched', {'id': 2, 'v': 2})\nop.checkpoint({})\nop.update('patched', {'id': 1, 'v': 0.5})",
        KEYED.format("patched"),
        {"patched": Table({"id": "INT", "v": "DOUBLE"}, [(1, 0.5), (2, 2.0)])},
    ),
    Case(
        "a_long_that_was_exact_elsewhere_decides",
        "op.upsert('stats', {'id': 1, 'v': 2**53 + 1})\nop.checkpoint({})\nop.upsert('stats', {'id': 1, 'v': 5})\nop.checkpoint({})\nop.upsert('stats', {'id': 2, 'v': 0.5})",
        KEYED.format("stats"),
        {"stats": Table({"id": "INT", "v": "STRING"}, [(1, "5"), (2, "0.5")])},
    ),
]  # fmt: skip
