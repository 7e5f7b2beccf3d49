"""Values of the real numpy and pandas, in each inference mode and in declared columns."""

from case import Case, Table

# The newest that each interpreter has.
REQUIREMENTS = """
numpy==2.4.6; python_version >= "3.11"
pandas==3.1.1; python_version >= "3.11"
numpy==2.2.6; python_version < "3.11"
pandas==2.3.3; python_version < "3.11"
"""
TOP = "import numpy as np\nimport pandas as pd\nfrom datetime import datetime, timezone\n"
FILES = {"requirements.txt": REQUIREMENTS}


def each(name, values, inference="compatible", declared=()):
    """Column → (expression, type, expected); NULL where the type is None."""
    table = f"numpy_{name}"
    row = ", ".join(f"{column!r}: {expression}" for column, (expression, *_) in values.items())
    columns = {column: kind for column, (_, kind, _) in values.items() if kind}
    schema = [{"table": table, "primary_key": ["id"], "columns": {column: values[column][1] for column in declared}}]
    return Case(
        table, f"op.upsert({table!r}, {{'id': 1, {row}}})", repr(schema),
        {table: Table({"id": "INT", **columns}, [(1, *(expected for _, kind, expected in values.values() if kind))])},
        TOP, files=FILES, inference=inference,
    )  # fmt: skip


UNDECLARED = {
    "whole": ("np.int64(5)", "STRING", "5"), "small": ("np.uint8(200)", "STRING", "200"), "half": ("np.float32(0.1)", "STRING", "0.1"),
    "flag": ("np.bool_(True)", "STRING", "True"), "double": ("np.float64(0.1)", "DOUBLE", 0.1), "nan": ("np.nan", "DOUBLE", float("nan")),
    "text": ("np.str_('x')", "STRING", "x"), "raw": ("np.bytes_(b'x')", "BINARY", b"x"), "list": ("np.array([1, 2])", "STRING", "[1 2]"),
    "moment": ("np.datetime64('2024-01-02T03:04:05')", "STRING", "2024-01-02T03:04:05"), "na": ("pd.NA", "STRING", "<NA>"),
    "stamp": ("pd.Timestamp('2024-01-02 03:04:05')", "STRING", "2024-01-02 03:04:05"), "nat": ("pd.NaT", "STRING", "NaT"),
    "aware": ("pd.Timestamp('2024-01-02', tz='UTC')", "STRING", "2024-01-02 00:00:00+00:00"),
    "span": ("pd.Timedelta(hours=1)", "STRING", "0 days 01:00:00"), "plain": ("np.int64(5).item()", "INT", 5),
}  # fmt: skip
RICH = UNDECLARED | {
    "whole": ("np.int64(5)", "INT", 5), "small": ("np.uint8(200)", "INT", 200), "half": ("np.float32(0.1)", "DOUBLE", 0.10000000149011612),
    "flag": ("np.bool_(True)", "BOOLEAN", True), "scalar": ("np.array(7)", "INT", 7), "nat": ("pd.NaT", None, None),
    "stamp": ("pd.Timestamp('2024-01-02 03:04:05')", "NAIVE_DATETIME", "2024-01-02T03:04:05"),
    "aware": ("pd.Timestamp('2024-01-02', tz='Asia/Kolkata')", "UTC_DATETIME", "2024-01-01T18:30:00"),
    "long": ("np.uint64(2**64 - 1)", "DECIMAL(38,0)", 2**64 - 1),
}  # fmt: skip
DECLARED = {
    "b": ("np.bool_(True)", "BOOLEAN", True), "s": ("np.int8(7)", "SHORT", 7), "i": ("np.int32(-7)", "INT", -7), "l": ("np.int64(2**62)", "LONG", 2**62),
    "f": ("np.float32(0.5)", "FLOAT", 0.5), "d": ("np.float32(0.1)", "DOUBLE", 0.10000000149011612), "whole": ("np.int64(3)", "DOUBLE", 3.0),
    "text": ("np.int64(5)", "STRING", "5"), "at": ("pd.Timestamp('2024-01-02 03:04:05.000006')", "NAIVE_DATETIME", "2024-01-02T03:04:05.000006"),
    "utc": ("pd.Timestamp('2024-01-02', tz='Asia/Kolkata')", "UTC_DATETIME", "2024-01-01T18:30:00"),
    "day": ("pd.Timestamp('2024-01-02 23:00')", "NAIVE_DATE", "2024-01-02"),
}  # fmt: skip

REFUSED = """
refused = []
for column, value in [("at", pd.NaT), ("utc", pd.NaT), ("day", pd.NaT), ("i", np.float64(1.5)), ("i", np.datetime64("2024-01-01")),
                      ("b", np.array([1, 2])), ("l", pd.NA), ("j", [np.int64(1)]), ("x", np.bytes_(b"x"))]:
    try:
        op.upsert("numpy_refused", {"id": 9, column: value})
        refused.append(f"{column} takes a {type(value).__name__}")
    except (TypeError, ValueError):
        pass
op.upsert("numpy_refused", {"id": 1, "wrong": "; ".join(refused)})
"""
KINDS = {"at": "NAIVE_DATETIME", "utc": "UTC_DATETIME", "day": "NAIVE_DATE", "i": "INT", "b": "BOOLEAN", "l": "LONG", "j": "JSON", "x": "DOUBLE"}

CASES = [
    each("undeclared", UNDECLARED),
    each("undeclared_strict", UNDECLARED | {"double": ("np.float64(0.1)", "FLOAT", 0.1), "nan": ("np.nan", "FLOAT", float("nan"))}, "strict"),
    each("undeclared_rich", RICH, "rich"),
    each("declared", DECLARED, declared=tuple(DECLARED)),
    Case(
        "numpy_declared_decimal",
        "op.upsert('numpy_declared_decimal', {'id': 1, 'd': np.int64(5)})\nop.upsert('numpy_declared_decimal', {'id': 2, 'd': np.float64(2.5)})",
        "[{'table': 'numpy_declared_decimal', 'primary_key': ['id'], 'columns': {'d': {'type': 'DECIMAL', 'precision': 10, 'scale': 2}}}]",
        {"numpy_declared_decimal": Table({"id": "INT", "d": "DECIMAL(10,2)"}, [(1, "5"), (2, "2.5")])}, TOP, files=FILES,
    ),
    Case(
        "numpy_refused", REFUSED, repr([{"table": "numpy_refused", "primary_key": ["id"], "columns": KINDS}]),
        {"numpy_refused": Table({"id": "INT", **KINDS, "wrong": "STRING"}, [(1, *[None] * len(KINDS), "")])}, TOP, files=FILES,
    ),
    Case(
        "numpy_rows_of_a_data_frame",
        """
        frame = pd.DataFrame({"id": [1, 2], "name": ["a", "b"], "size": [0.5, np.nan], "on": pd.to_datetime(["2024-01-02", None])})
        for row in frame.to_dict("records"):
            op.upsert("numpy_frame", row)
        """,
        "[{'table': 'numpy_frame', 'primary_key': ['id'], 'columns': {'id': 'LONG'}}]",
        {"numpy_frame": Table({"id": "LONG", "name": "STRING", "size": "DOUBLE", "on": "STRING"},
                       [(1, "a", 0.5, "2024-01-02 00:00:00"), (2, "b", float("nan"), "NaT")])}, TOP, files=FILES,
    ),
]  # fmt: skip
