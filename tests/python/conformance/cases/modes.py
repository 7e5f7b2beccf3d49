"""The other two inference modes: `strict` is the original runtime's own, `rich` gives more values a type of their own."""

from case import Case, Table

KEYED = "[{{'table': {0!r}, 'primary_key': ['id']}}]"
TOP = """
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
import uuid

def numpy_scalar(name, value, text):
    def item(self):
        return value
    kind = type(name, (), {"item": item, "ndim": 0, "__str__": lambda self: text, "__float__": lambda self: float(value)})
    kind.__module__ = "numpy"
    return kind()

class NaT(datetime):
    def __eq__(self, other):
        return False
    def __ne__(self, other):
        return True
    __hash__ = datetime.__hash__

EAST = timezone(timedelta(hours=5, minutes=30))
"""


def mode(inference, name, values, kinds, expected):
    """Every value in a column of its own."""
    table = f"{inference}_{name}"
    columns = {f"c_{letter(i)}": kind for i, kind in enumerate(kinds)}
    row = ", ".join(f"'c_{letter(i)}': {value}" for i, value in enumerate(values))
    return Case(
        f"mode_{table}", f"op.upsert({table!r}, {{'id': 1, {row}}})", KEYED.format(table),
        {table: Table({"id": "INT", **columns}, [(1, *expected)])}, TOP, inference=inference,
    )  # fmt: skip


def letter(number):
    return "abcdefghijklmnopqrstuvwxyz"[number]


CASES = [
    mode("strict", "floats_have_32_bits", ["0.1", "3.0", "1e300", "float('nan')", "-float('inf')"], ["FLOAT"] * 5,
         [0.1, 3.0, float("inf"), float("nan"), float("-inf")]),
    mode("strict", "integers", ["5", "2**31", "2**63 - 1", "-2**63", "2**63", "10**38"], ["INT", "LONG", "LONG", "FLOAT", "FLOAT", "FLOAT"],
         [5, 2**31, 2**63 - 1, -(2.0**63), 2.0**63, 1e38]),
    mode("strict", "everything_else_as_ever", ["True", "'42'", "b'x'", "[1.5]", "Decimal('1.10')", "date(2024, 1, 2)", "(1, 2)"],
         ["BOOLEAN", "STRING", "BINARY", "JSON", "STRING", "STRING", "STRING"], [True, "42", b"x", "[1.5]", "1.10", "2024-01-02", "(1, 2)"]),
    Case(
        "mode_strict_widened_columns_keep_32_bits",
        "op.upsert('strict_wide', {'id': 1, 'v': 1})\nop.upsert('strict_wide', {'id': 2, 'v': 0.1})\nop.upsert('strict_wide', {'id': 3, 'v': 0.2})",
        KEYED.format("strict_wide"),
        {"strict_wide": Table({"id": "INT", "v": "DOUBLE"}, [(1, 1.0), (2, 0.10000000149011612), (3, 0.20000000298023224)])}, inference="strict",
    ),
    Case(
        "mode_strict_leaves_declared_columns_alone", "op.upsert('strict_declared', {'id': 1, 'v': 0.1})",
        "[{'table': 'strict_declared', 'primary_key': ['id'], 'columns': {'v': 'DOUBLE'}}]",
        {"strict_declared": Table({"id": "INT", "v": "DOUBLE"}, [(1, 0.1)])}, inference="strict",
    ),
    Case(
        "mode_strict_refuses_integers_that_no_float_holds",
        "try:\n    op.upsert('strict_huge', {'id': 1, 'v': 10**400})\nexcept ValueError:\n    op.upsert('strict_huge', {'id': 2})",
        KEYED.format("strict_huge"), {"strict_huge": Table({"id": "INT"}, [(2,)])}, inference="strict",
    ),
    mode("rich", "decimals", ["Decimal('1.10')", "Decimal('-12345678901234567890.5')", "Decimal('1E+5')", "Decimal('NaN')", "Decimal('1E+50')"],
         ["DECIMAL(2,1)", "DECIMAL(21,1)", "DECIMAL(6,0)", "STRING", "STRING"], ["1.1", "-12345678901234567890.5", "100000", "NaN", "1" + "0" * 50]),
    mode("rich", "moments", ["datetime(2024, 1, 2, 3, 4, 5, 6)", "datetime(2024, 1, 2, 3, tzinfo=EAST)", "date(2024, 1, 2)", "time(3, 4)", "timedelta(hours=1)"],
         ["NAIVE_DATETIME", "UTC_DATETIME", "NAIVE_DATE", "STRING", "STRING"],
         ["2024-01-02T03:04:05.000006", "2024-01-01T21:30:00", "2024-01-02", "03:04:00", "1:00:00"]),
    mode("rich", "numpy_scalars",
         ["numpy_scalar('int64', 5, '5')", "numpy_scalar('float32', 0.5, '0.5')", "numpy_scalar('bool_', True, 'True')", "numpy_scalar('str_', 'x', 'x')", "numpy_scalar('datetime64', 17, '2024-01-01')"],
         ["INT", "DOUBLE", "BOOLEAN", "STRING", "STRING"], [5, 0.5, True, "x", "2024-01-01"]),
    mode("rich", "everything_else_as_ever", ["0.1", "2**63", "'42'", "{'a': 1}", "(1, 2)", "uuid.UUID(int=1)", "True"],
         ["DOUBLE", "DECIMAL(38,0)", "STRING", "JSON", "STRING", "STRING", "BOOLEAN"],
         [0.1, 2**63, "42", '{"a": 1}', "(1, 2)", "00000000-0000-0000-0000-000000000001", True]),
    Case(
        "mode_rich_widens",
        "op.upsert('rich_wide', {'id': 1, 'n': Decimal('1.5'), 'd': date(2024, 1, 2), 't': date(2024, 1, 2)})\n"
        "op.upsert('rich_wide', {'id': 2, 'n': Decimal('100.25'), 'd': datetime(2024, 1, 2, 3), 't': datetime(2024, 1, 2, tzinfo=EAST)})",
        KEYED.format("rich_wide"),
        {"rich_wide": Table({"id": "INT", "n": "DECIMAL(5,2)", "d": "NAIVE_DATETIME", "t": "STRING"},
                            [(1, "1.5", "2024-01-02T00:00:00", "2024-01-02"), (2, "100.25", "2024-01-02T03:00:00", "2024-01-01T18:30:00Z")])}, TOP, inference="rich",
    ),
    Case(
        "mode_rich_missing_moment_is_null", "op.upsert('rich_nat', {'id': 1, 'at': NaT(1, 1, 1)})\nop.upsert('rich_nat', {'id': 2, 'at': datetime(2024, 1, 2)})",
        KEYED.format("rich_nat"), {"rich_nat": Table({"id": "INT", "at": "NAIVE_DATETIME"}, [(1, None), (2, "2024-01-02T00:00:00")])}, TOP, inference="rich",
    ),
    Case(
        "mode_rich_refuses_moments_beyond_the_calendar",
        "try:\n    op.upsert('rich_far', {'id': 1, 'at': datetime(1, 1, 1, tzinfo=EAST)})\nexcept ValueError:\n    op.upsert('rich_far', {'id': 2})",
        KEYED.format("rich_far"), {"rich_far": Table({"id": "INT"}, [(2,)])}, TOP, inference="rich",
    ),
]  # fmt: skip
