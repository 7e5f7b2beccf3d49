"""Columns that nothing declares: the type comes from the Python value, in the mode `compatible`."""

from decimal import Decimal

from case import Case, Table

HUGE = 10**38 - 1


def value(name, expression, kind, expected, top=""):
    """One value of an undeclared column; a NULL row beside it shows that the value made the column."""
    table = f"inferred_{name}"
    return Case(
        f"inferred_{name}",
        f"op.upsert({table!r}, {{'id': 1, 'v': {expression}}})\nop.upsert({table!r}, {{'id': 2, 'v': None}})",
        f"[{{'table': {table!r}, 'primary_key': ['id']}}]",
        {table: Table({"id": "INT", "v": kind}, [(1, expected), (2, None)])},
        top,
    )


def nothing(name, expression):
    """A value that makes no column."""
    table = f"inferred_{name}"
    return Case(
        f"inferred_{name}",
        f"op.upsert({table!r}, {{'id': 1, 'v': {expression}}})",
        f"[{{'table': {table!r}, 'primary_key': ['id']}}]",
        {table: Table({"id": "INT"}, [(1,)])},
    )


NUMPY = """
class Scalar:
    def __init__(self, text, number):
        self.text, self.number = text, number
    def __str__(self):
        return self.text
    def __int__(self):
        return int(self.number)
    def __float__(self):
        return float(self.number)
    def __index__(self):
        return int(self.number)
"""
SUBCLASSES = """
import collections, enum
class Code(str): pass
class Whole(int): pass
class Real(float): pass
class Raw(bytes): pass
class Colour(enum.IntEnum):
    RED = 7
class Kind(str, enum.Enum):
    A = "letter"
"""

CASES = [
    nothing("none_makes_no_column", "None"),
    value("true", "True", "BOOLEAN", True),
    value("false", "False", "BOOLEAN", False),
    value("zero", "0", "INT", 0),
    value("small_int_is_int_never_short", "5", "INT", 5),
    value("int_max", "2**31 - 1", "INT", 2**31 - 1),
    value("int_min", "-2**31", "INT", -(2**31)),
    value("long_from_33_bits", "2**31", "LONG", 2**31),
    value("long_below", "-2**31 - 1", "LONG", -(2**31) - 1),
    value("long_max", "2**63 - 1", "LONG", 2**63 - 1),
    value("minus_2_63_is_long", "-2**63", "LONG", -(2**63)),
    value("beyond_64_bits_is_decimal", "2**63", "DECIMAL(38,0)", 2**63),
    value("below_64_bits_is_decimal", "-2**63 - 1", "DECIMAL(38,0)", -(2**63) - 1),
    value("digits_38", "10**38 - 1", "DECIMAL(38,0)", HUGE),
    value("digits_38_negative", "1 - 10**38", "DECIMAL(38,0)", -HUGE),
    value("digits_39_is_text", "10**38", "STRING", str(10**38)),
    value("digits_300_is_text", "-(10**300)", "STRING", str(-(10**300))),
    value("float_keeps_64_bits", "0.1", "DOUBLE", 0.1),
    value("whole_float_is_double", "3.0", "DOUBLE", 3.0),
    value("float_nan", "float('nan')", "DOUBLE", float("nan")),
    value("float_infinity", "float('inf')", "DOUBLE", float("inf")),
    value("float_minus_infinity", "float('-inf')", "DOUBLE", float("-inf")),
    value("float_smallest", "5e-324", "DOUBLE", 5e-324),
    value("float_largest", "1.7976931348623157e308", "DOUBLE", 1.7976931348623157e308),
    value("float_minus_zero", "-0.0", "DOUBLE", -0.0),
    value("text", "'hello'", "STRING", "hello"),
    value("empty_text_is_not_null", "''", "STRING", ""),
    value("text_of_digits_stays_text", "'42'", "STRING", "42"),
    value("text_of_a_date_stays_text", "'2024-01-02'", "STRING", "2024-01-02"),
    value("text_of_an_instant_stays_text", "'2024-01-02T03:04:05Z'", "STRING", "2024-01-02T03:04:05Z"),
    value("text_true_stays_text", "'true'", "STRING", "true"),
    value("text_of_json_stays_text", "'{\"a\": 1}'", "STRING", '{"a": 1}'),
    value("text_verbatim", "' \\t\\r\\n\\x00\\\\ü😀 '", "STRING", " \t\r\n\x00\\ü😀 "),
    value("bytes", "b'\\x00\\xff'", "BINARY", b"\x00\xff"),
    value("empty_bytes", "b''", "BINARY", b""),
    value("dict_is_json", "{'b': 1, 'a': [True, None, 1.5]}", "JSON", '{"b": 1, "a": [true, null, 1.5]}'),
    value("empty_dict_is_json", "{}", "JSON", "{}"),
    value("list_is_json", "[1, 'ü', {'x': []}]", "JSON", '[1, "\\u00fc", {"x": []}]'),
    value("json_bare_nan", "{'a': float('nan'), 'b': float('-inf')}", "JSON", '{"a": NaN, "b": -Infinity}'),
    value("json_tuple_inside_is_a_list", "{'a': (1, 2)}", "JSON", '{"a": [1, 2]}'),
    value("json_int_keys_become_text", "{1: 'a', True: 'b', None: 'c'}", "JSON", '{"1": "b", "null": "c"}'),
    value("json_floats_as_python_writes_them", "[1e16, 1e-7, 0.1, 1e22, 123456789.0]", "JSON", "[1e+16, 1e-07, 0.1, 1e+22, 123456789.0]"),
    value("json_big_integer", "[2**70]", "JSON", f"[{2**70}]"),
    value("json_escapes", "['\\x00\\x1f\\x7f\"\\\\/😀']", "JSON", '["\\u0000\\u001f\\u007f\\"\\\\/\\ud83d\\ude00"]'),
    value("tuple_is_text", "(1, 2)", "STRING", "(1, 2)"),
    value("set_is_text", "{1}", "STRING", "{1}"),
    value("bytearray_is_text", "bytearray(b'ab')", "STRING", "bytearray(b'ab')"),
    value("decimal_is_text", "Decimal('1.10')", "STRING", "1.10", "from decimal import Decimal"),
    value("decimal_exponent_is_text", "Decimal('1E+5')", "STRING", "1E+5", "from decimal import Decimal"),
    value("datetime_is_text", "datetime(2024, 1, 2, 3, 4, 5)", "STRING", "2024-01-02 03:04:05", "from datetime import *"),
    value("aware_datetime_is_text", "datetime(2024, 1, 2, tzinfo=timezone.utc)", "STRING", "2024-01-02 00:00:00+00:00", "from datetime import *"),
    value("date_is_text", "date(2024, 1, 2)", "STRING", "2024-01-02", "from datetime import *"),
    value("time_is_text", "time(3, 4)", "STRING", "03:04:00", "from datetime import *"),
    value("timedelta_is_text", "timedelta(hours=1)", "STRING", "1:00:00", "from datetime import *"),
    value("uuid_is_text", "uuid.UUID(int=1)", "STRING", "00000000-0000-0000-0000-000000000001", "import uuid"),
    value("fraction_is_text", "Fraction(1, 3)", "STRING", "1/3", "from fractions import Fraction"),
    value("complex_is_text", "1j", "STRING", "1j"),
    value("range_is_text", "range(3)", "STRING", "range(0, 3)"),
    value("numpy_like_integer_is_text", "Scalar('5', 5)", "STRING", "5", NUMPY),
    value("numpy_like_float_is_text", "Scalar('0.1', 0.1)", "STRING", "0.1", NUMPY),
    value("other_object_is_text", "Named()", "STRING", "named", "class Named:\n    def __str__(self):\n        return 'named'\n"),
    value("str_subclass_is_its_text", "Code('x')", "STRING", "x", SUBCLASSES),
    value("str_enum_is_its_value", "Kind.A", "STRING", "letter", SUBCLASSES),
    value("int_subclass_is_int", "Whole(3)", "INT", 3, SUBCLASSES),
    value("int_enum_is_its_number", "Colour.RED", "INT", 7, SUBCLASSES),
    value("float_subclass_is_double", "Real(0.5)", "DOUBLE", 0.5, SUBCLASSES),
    value("bytes_subclass_is_binary", "Raw(b'r')", "BINARY", b"r", SUBCLASSES),
    value("dict_subclass_is_json", "collections.OrderedDict(z=1, a=2)", "JSON", '{"z": 1, "a": 2}', SUBCLASSES),
    value("named_tuple_is_text", "collections.namedtuple('P', 'x')(1)", "STRING", "P(x=1)", SUBCLASSES),
    Case(
        "inferred_json_with_a_decimal_inside_raises",
        """
        from decimal import Decimal
        try:
            op.upsert("inferred_json_refusal", {"id": 1, "v": {"a": Decimal("1")}})
        except TypeError:
            op.upsert("inferred_json_refusal", {"id": 2, "v": {"a": 1}})
        """,
        "[{'table': 'inferred_json_refusal', 'primary_key': ['id']}]",
        {"inferred_json_refusal": Table({"id": "INT", "v": "JSON"}, [(2, '{"a": 1}')])},
    ),
    Case(
        "inferred_column_appears_at_its_first_value",
        """
        if sync == 1:
            op.upsert("inferred_late", {"id": 1, "late": None})
        else:
            op.upsert("inferred_late", {"id": 2, "late": "now"})
        """,
        "[{'table': 'inferred_late', 'primary_key': ['id']}]",
        {"inferred_late": Table({"id": "INT", "late": "STRING"}, [(1, None), (2, "now")])},
        syncs=2,
    ),
    Case(
        "inferred_key_types",
        "op.upsert('inferred_keys', {'a': 'x', 'b': 2**40, 'c': True, 'v': 1})",
        "[{'table': 'inferred_keys', 'primary_key': ['a', 'b', 'c']}]",
        {"inferred_keys": Table({"a": "STRING", "b": "LONG", "c": "BOOLEAN", "v": "INT"}, [("x", 2**40, True, 1)], ordered=True)},
    ),
    Case(
        "inferred_mapping_with_items_is_a_row",
        """
        class Row:
            def items(self):
                return iter([("id", 1), (b"v", "bytes name")])
        op.upsert("inferred_mapping", Row())
        """,
        "[{'table': 'inferred_mapping', 'primary_key': ['id']}]",
        {"inferred_mapping": Table({"id": "INT", "v": "STRING"}, [(1, "bytes name")])},
    ),
]  # fmt: skip

assert Decimal(HUGE)  # the numbers above are exact
