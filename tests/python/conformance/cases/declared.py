"""Columns with a declared type: which values it takes, what they become, and which are refused in the caller's thread."""

from case import Case, Table

IMPORTS = """
import math, uuid
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal

class numpy_bool:
    def __bool__(self):
        return True
numpy_bool.__module__, numpy_bool.__name__ = "numpy", "bool_"

class numpy_int:
    def __init__(self, number):
        self.number = number
    def __index__(self):
        return self.number
    def __str__(self):
        return str(self.number)

class numpy_float:
    def __float__(self):
        return 0.5

EAST = timezone(timedelta(hours=5, minutes=30))
"""


def accepts(name, declared, kind, values, widened=None):
    """Values of a column, one row each: expression → what the column holds; one that is refused leaves no row. `widened`
    is the type it ends with."""
    table = f"declared_{name}"
    one = "try:\n    op.upsert({!r}, {{'id': {}, 'v': {}}})\nexcept Exception:\n    pass"
    body = "\n".join(one.format(table, i, value) for i, value in enumerate(values))
    rows = [(i, expected) for i, expected in enumerate(values.values())]
    schema = f"[{{'table': {table!r}, 'primary_key': ['id'], 'columns': {{'v': {declared!r}}}}}]"
    return Case(table, body, schema, {table: Table({"id": "INT", "v": widened or kind}, rows)}, IMPORTS)


def refuses(name, declared, kind, values):
    """Every value raises TypeError or ValueError, and leaves nothing behind."""
    table = f"refused_{name}"
    lines = []
    for value in values:
        lines.append(f"try:\n    op.upsert({table!r}, {{'id': 0, 'v': {value}}})\n    op.upsert({table!r}, {{'id': {value!r}}})\nexcept (TypeError, ValueError):\n    pass")
    lines.append(f"op.upsert({table!r}, {{'id': 'end', 'v': None}})")
    schema = f"[{{'table': {table!r}, 'primary_key': ['id'], 'columns': {{'id': 'STRING', 'v': {declared!r}}}}}]"
    return Case(table, "\n".join(lines), schema, {table: Table({"id": "STRING", "v": kind}, [("end", None)])}, IMPORTS)


def decimal(precision, scale):
    return {"type": "DECIMAL", "precision": precision, "scale": scale}


CASES = [
    accepts("boolean", "BOOLEAN", "BOOLEAN", {"True": True, "0": False, "2": True, "1.0": True, "0.0": False, "'1'": True, "'0'": False, "numpy_bool()": True, "None": None}),
    refuses("boolean", "BOOLEAN", "BOOLEAN", ["'true'", "'yes'", "b'1'", "[]", "{}", "datetime(2024, 1, 1)", "Decimal('1')"]),
    accepts("boolean_lower_case", "boolean", "BOOLEAN", {"True": True}),
    accepts("short", "SHORT", "SHORT", {"1": 1, "-2**15": -(2**15), "True": 1, "'7'": 7, "3.0": 3, "numpy_int(9)": 9, "None": None}),
    accepts("short_out_of_range_widens", "SHORT", "INT", {"1": 1, "2**15": 2**15}),
    accepts("short_far_out_widens", "SHORT", "LONG", {"1": 1, "2**40": 2**40}),
    accepts("int", "INT", "INT", {"2**31 - 1": 2**31 - 1, "False": 0, "'-12'": -12, "1e3": 1000, "numpy_int(9)": 9}),
    accepts("int_out_of_range_widens", "INT", "LONG", {"1": 1, "2**31": 2**31}),
    accepts("int_text_out_of_range_widens", "INT", "LONG", {"'5000000000'": 5_000_000_000}),
    accepts("long", "LONG", "LONG", {"1": 1, "2**63 - 1": 2**63 - 1, "-2**63": -(2**63), "'12'": 12, "2.0**53": 2**53}),
    accepts("long_out_of_range_is_decimal", "LONG", "DECIMAL(38,0)", {"1": 1, "2**63": 2**63}),
    accepts("long_of_39_digits_is_text", "LONG", "STRING", {"1": "1", "10**38": str(10**38)}),
    refuses("int", "INT", "INT", ["'x'", "'1.5'", "1.5", "float('nan')", "float('inf')", "b'1'", "[1]", "{}", "''", "datetime(2024, 1, 1)", "date(2024, 1, 1)", "Decimal('5')", "numpy_float()", "numpy_bool()"]),
    refuses("long", "LONG", "LONG", ["'0x10'", "'1e3x'", "0.1", "b''", "(1,)"]),
    accepts("decimal", decimal(10, 2), "DECIMAL(10,2)", {"'1.10'": "1.10", "'-0.05'": "-0.05", "5": "5", "Decimal('2.5')": "2.5", "0.25": "0.25", "'1e2'": "100", "Decimal('1E+2')": "100", "' 7 '": "7", "None": None}),
    accepts("decimal_with_more_digits_widens", decimal(5, 2), "DECIMAL(8,3)", {"'123.45'": "123.45", "'12345.678'": "12345.678"}),
    accepts("decimal_float_by_repr", decimal(10, 2), "DECIMAL(25,17)", {"0.1": "0.1", "0.1 + 0.2": "0.30000000000000004"}),
    accepts("decimal_text_that_is_no_number", decimal(10, 2), "STRING", {"'1.10'": "1.1", "'n/a'": "n/a", "'2.50'": "2.5"}, "STRING"),
    accepts("decimal_of_39_digits_is_text", decimal(38, 0), "STRING", {"10**38": str(10**38), "1": "1"}),
    accepts("decimal_28_digits", decimal(30, 10), "DECIMAL(30,10)", {"'12345678901234567890.1234567890'": "12345678901234567890.1234567890"}),
    refuses("decimal", decimal(10, 2), "DECIMAL(10,2)", ["True", "numpy_bool()", "b'1'", "[]", "float('nan')", "float('inf')", "datetime(2024, 1, 1)"]),
    accepts("float", "FLOAT", "FLOAT", {"0.5": 0.5, "0.1": 0.1, "3": 3.0, "True": 1.0, "'1.5'": 1.5, "Decimal('2.5')": 2.5, "float('nan')": float("nan"), "float('inf')": float("inf"), "numpy_float()": 0.5, "None": None}),
    accepts("float_overflow_widens", "FLOAT", "DOUBLE", {"0.5": 0.5, "1e300": 1e300}),
    accepts("double", "DOUBLE", "DOUBLE", {"0.1": 0.1, "1": 1.0, "'1e5'": 1e5, "1e300": 1e300, "Decimal('0.1')": 0.1, "2**70": float(2**70), "float('-inf')": float("-inf")}),
    refuses("double", "DOUBLE", "DOUBLE", ["'x'", "''", "b'1'", "[1.0]", "{}", "datetime(2024, 1, 1)", "object()"]),
    accepts("binary", "BINARY", "BINARY", {"b'ab'": b"ab", "bytearray(b'cd')": b"cd", "b''": b"", "None": None}),
    refuses("binary", "BINARY", "BINARY", ["'ab'", "1", "[1, 2]", "memoryview(b'ab')"]),
    accepts("xml", "XML", "XML", {"'<a/>'": "<a/>", "b'<b/>'": "<b/>", "'not xml'": "not xml", "None": None}),
    refuses("xml", "XML", "XML", ["1", "b'\\xff'", "{}", "None or 1.5"]),
    accepts("string", "STRING", "STRING", {
        "'x'": "x", "1": "1", "True": "True", "1.5": "1.5", "2**70": str(2**70), "b'x'": "b'x'", "Decimal('1.50')": "1.50",
        "datetime(2024, 1, 2)": "2024-01-02 00:00:00", "{'a': 1}": "{'a': 1}", "[1, 'b']": "[1, 'b']", "None": None,
        "1e16": "1e+16", "float('nan')": "nan", "uuid.UUID(int=2)": "00000000-0000-0000-0000-000000000002",
    }),
    accepts("json", "JSON", "JSON", {
        "{'a': 1}": '{"a": 1}', "[1]": "[1]", "'{\"a\": 1}'": '"{\\"a\\": 1}"', "'x'": '"x"', "5": "5", "1.5": "1.5",
        "True": "true", "float('nan')": "NaN", "(1, 2)": "[1, 2]", "'ü'": '"\\u00fc"', "None": None,
    }),
    refuses("json", "JSON", "JSON", ["b'x'", "{1, 2}", "object()", "Decimal('1')", "datetime(2024, 1, 1)", "{(1, 2): 3}"]),
    accepts("naive_date", "NAIVE_DATE", "NAIVE_DATE", {
        "'2024-02-29'": "2024-02-29", "date(1, 1, 1)": "0001-01-01", "date(9999, 12, 31)": "9999-12-31",
        "datetime(2024, 1, 2, 23, 59)": "2024-01-02", "datetime(2024, 1, 2, 23, 59, tzinfo=EAST)": "2024-01-02", "None": None,
    }),
    refuses("naive_date", "NAIVE_DATE", "NAIVE_DATE", ["'2024-02-30'", "'2023-02-29'", "'24-01-01'", "'2024-01-01T00:00:00'", "'01/02/2024'", "0", "1.0", "''", "'0000-01-01'", "'10000-01-01'", "time(1, 2)", "b'2024-01-01'"]),
    accepts("naive_datetime", "NAIVE_DATETIME", "NAIVE_DATETIME", {
        "'2024-01-02T03:04:05'": "2024-01-02T03:04:05", "'2024-01-02 03:04:05.123456'": "2024-01-02T03:04:05.123456",
        "'2024-01-02T03:04:05.1'": "2024-01-02T03:04:05.100000", "datetime(2024, 1, 2, 3, 4, 5, 6)": "2024-01-02T03:04:05.000006",
        "datetime(2024, 1, 2, 3, 0, tzinfo=EAST)": "2024-01-01T21:30:00", "date(2024, 1, 2)": "2024-01-02T00:00:00",
        "datetime(1, 1, 1)": "0001-01-01T00:00:00", "datetime(9999, 12, 31, 23, 59, 59, 999999)": "9999-12-31T23:59:59.999999", "None": None,
    }),
    refuses("naive_datetime", "NAIVE_DATETIME", "NAIVE_DATETIME", ["'2024-01-02'", "'2024-01-02T03:04:05Z'", "'2024-01-02T03:04:05+01:00'", "'2024-01-02T03:04:05.123456789'", "'2024-01-02T25:00:00'", "1704164645", "1.5", "'x'", "time(1)"]),
    accepts("utc_datetime", "UTC_DATETIME", "UTC_DATETIME", {
        "'2024-01-02T03:04:05Z'": "2024-01-02T03:04:05", "'2024-01-02T03:04:05+05:30'": "2024-01-01T21:34:05",
        "'2024-01-02T03:04:05-0530'": "2024-01-02T08:34:05", "'2024-01-02 03:04:05.123456Z'": "2024-01-02T03:04:05.123456",
        "'2024-01-02 03:04:05.5+00:00'": "2024-01-02T03:04:05.500000", "datetime(2024, 1, 2, 3)": "2024-01-02T03:00:00",
        "datetime(2024, 1, 2, 3, tzinfo=EAST)": "2024-01-01T21:30:00", "date(2024, 1, 2)": "2024-01-02T00:00:00", "None": None,
    }),
    refuses("utc_datetime", "UTC_DATETIME", "UTC_DATETIME", ["'2024-01-02T03:04:05'", "'2024-01-02'", "'2024-01-02T03:04:05.123456789Z'", "'2024-13-02T03:04:05Z'", "1704164645", "1704164645.0", "'now'", "b''"]),
    Case(
        "declared_types_match_the_raw_name",
        "op.upsert('raw_names', {'id': 1, 'userAge': '5', 'otherAge': '6'})",
        "[{'table': 'raw_names', 'primary_key': ['id'], 'columns': {'userAge': 'INT', 'other_age': 'INT'}}]",
        {"raw_names": Table({"id": "INT", "user_age": "INT", "other_age": "STRING"}, [(1, 5, "6")])},
    ),
    Case(
        "declared_refusal_ends_the_sync_when_nobody_catches_it",
        "op.upsert('uncaught', {'id': 1, 'at': 'canary-value'})",
        "[{'table': 'uncaught', 'primary_key': ['id'], 'columns': {'at': 'UTC_DATETIME'}}]",
        {}, fails="SDK-008", words=("at", "UTC_DATETIME"),
    ),
    Case(
        "declared_refusal_names_no_value",
        "try:\n    op.upsert('quiet', {'id': 1, 'at': 'canary-value'})\nexcept ValueError as error:\n    assert 'canary' not in str(error), error\n    assert 'at' in str(error)\nop.upsert('quiet', {'id': 2})",
        "[{'table': 'quiet', 'primary_key': ['id'], 'columns': {'at': 'UTC_DATETIME'}}]",
        {"quiet": Table({"id": "INT", "at": "UTC_DATETIME"}, [(2, None)])},
    ),
    Case(
        "declared_type_of_a_key",
        "op.upsert('typed_key', {'id': '2024-01-02', 'v': 1})\nop.upsert('typed_key', {'id': '2024-01-02', 'v': 2})",
        "[{'table': 'typed_key', 'primary_key': ['id'], 'columns': {'id': 'NAIVE_DATE'}}]",
        {"typed_key": Table({"id": "NAIVE_DATE", "v": "INT"}, [("2024-01-02", 2)])},
    ),
]  # fmt: skip
