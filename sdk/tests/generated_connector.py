"""A connector that emits whatever a seed gives: every type, odd values, declared and undeclared, several windows.

What the operations refuse goes into the state: type and words of each error, in order.
"""

import collections
import datetime
import decimal
import enum
import fractions
import random
import struct
import uuid

from fivetran_connector_sdk import Connector
from fivetran_connector_sdk import Operations as op

UTC = datetime.timezone.utc
EAST = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
WEST = datetime.timezone(-datetime.timedelta(hours=11, seconds=30, microseconds=7))


class Code(str):
    pass


class Whole(int):
    pass


class Real(float):
    pass


class Raw(bytes):
    pass


class Colour(enum.IntEnum):
    RED = 7


class Indexed:
    def __index__(self):
        return 12

    def __str__(self):
        return "twelve"


class Floating:
    def __float__(self):
        return 0.25

    def __str__(self):
        return "a quarter"


class Broken:
    def __str__(self):
        raise KeyError("no text")


class Emitting:
    """A value whose own code uses the operations."""

    def __str__(self):
        op.upsert("emitted", {"id": 1})
        return "emitted"


def scalar(name, held, text):
    kind = type(name, (), {"item": lambda self: held, "ndim": 0, "__str__": lambda self: text, "__float__": lambda self: float(held)})
    kind.__module__ = "numpy"
    return kind()


def whole(rng):
    size = rng.choice([4, 8, 15, 16, 31, 32, 52, 53, 54, 62, 63, 64, 100, 126, 127, 200])
    number = rng.choice([2**size, 2**size - 1, 2**size + 1, rng.getrandbits(size), 10 ** (size // 4)])
    return rng.choice([number, -number])


def real(rng):
    bits = struct.pack("<Q", rng.getrandbits(64))
    return rng.choice([
        0.1, -0.0, 0.0, 1.0, 3.0, 1e15, 1e16, 1e17, 1e22, 1e-4, 1e-5, 1e-6, 1e-7, 5e-324, 1.7976931348623157e308, 3.4028235e38, 3.5e38,
        float("inf"), float("-inf"), float("nan"), float(rng.randint(-10**9, 10**9)), rng.random(), rng.uniform(-1e6, 1e6),
        struct.unpack("<d", bits)[0], struct.unpack("<f", bits[:4])[0], 2.0**53, 2.0**63, 16777217.0, 123456789012345680.0,
    ])  # fmt: skip


def text(rng):
    return rng.choice([
        "", "a", "0", "1", "42", " 7 ", "-5", "+5", "1.10", "-0.050", "1e5", "1E-3", ".5", "5.", "1e400", "0x10", "1_000", "nan", "Infinity",
        "+nan", "١٢", "true", "null", "9" * 18, "9" * 19, "9" * 38, "9" * 39, "0." + "0" * 36 + "1", "0." + "0" * 38 + "1", "000123.4500",
        "2024-01-02", "2024-1-2", "2024-02-30", "0001-01-01", "9999-12-31", "2024-01-02T03:04:05", "2024-01-02 03:04:05.1",
        "2024-01-02T03:04:05.123456", "2024-01-02T03:04:05Z", "2024-01-02T03:04:05+05:30", "2024-01-02 03:04:05.5-0530", "2024-01-02T24:00:00",
        "9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+01:00", "2024-01-02T03:04:05.1234567", "2024-01-02T03:04", "\x1c5\x1c", "\u00a05",
        "ü😀", "\ud800", "\x00", "line\nline", "<a/>", '{"a": 1}', "x" * rng.randint(0, 300), str(rng.randint(-10**20, 10**20)), str(rng.random()),
    ])  # fmt: skip


def moment(rng):
    day = datetime.datetime(rng.choice([1, 2, 1600, 1969, 1970, 2024, 9998, 9999]), rng.randint(1, 12), rng.randint(1, 28), rng.randint(0, 23))
    day = day.replace(microsecond=rng.choice([0, 1, 1000, 500_000, 999_999]), second=rng.randint(0, 59))
    return rng.choice([day, day.replace(tzinfo=UTC), day.replace(tzinfo=EAST), day.replace(tzinfo=WEST), day.date(), day.date()])


def number_text(rng):
    places = rng.randint(0, 12)
    digits = rng.randint(-10 ** rng.randint(1, 25), 10 ** rng.randint(1, 25))
    return decimal.Decimal(digits).scaleb(-places, decimal.Context(prec=60))


def nested(rng, depth=3):
    if depth == 0 or rng.random() < 0.3:
        return rng.choice([None, True, 1, -(2**70), 0.1, float("nan"), 1e16, "ü\x1f\"\\", "", "\ud83d"])
    if rng.random() < 0.5:
        return [nested(rng, depth - 1) for _ in range(rng.randint(0, 3))]
    return {rng.choice(["a", "b", "ö", 1, None, True, 2.5]): nested(rng, depth - 1) for _ in range(rng.randint(0, 3))}


def odd(rng):
    return rng.choice([
        (1, 2), {1}, frozenset({"x"}), bytearray(b"ab"), 1j, range(3), uuid.UUID(int=5), fractions.Fraction(1, 3),
        datetime.time(3, 4), datetime.timedelta(hours=1), Code("code"), Whole(5), Whole(2**65), Real(0.5), Raw(b"raw"), Colour.RED, Indexed(),
        Floating(), Broken(), Emitting(), object, collections.OrderedDict(z=1), {"a": decimal.Decimal(1)}, [{1, 2}], {(1, 2): 3},
        decimal.Decimal("NaN"), decimal.Decimal("1E+5"), decimal.Decimal("1E+50"), decimal.Decimal("1E+500"), decimal.Decimal("-0.0"),
        decimal.Decimal("1E-38"), scalar("int64", 5, "5"), scalar("float32", 0.1, "0.1"), scalar("bool_", True, "True"), scalar("str_", "s", "s"),
        scalar("datetime64", 17, "2024-01-01"), b"\xff", b"", b"<a/>", b"text",
    ])  # fmt: skip


def number(rng):
    return rng.choice([rng.randint(-5, 5), rng.randint(-(2**33), 2**33), rng.choice([True, False]), whole(rng)])


MAKERS = [whole, number, real, text, moment, number_text, nested, odd, lambda rng: rng.choice([True, False]), lambda rng: rng.randbytes(5)]
DECLARED = {
    "Bool": "BOOLEAN", "Short": "SHORT", "Int": "INT", "Long": "LONG", "float": "FLOAT", "double": "DOUBLE", "date": "NAIVE_DATE",
    "naive": "NAIVE_DATETIME", "utc": "UTC_DATETIME", "binary": "BINARY", "xml": "XML", "string": "STRING", "json": "JSON",
    "dec": {"type": "DECIMAL", "precision": 12, "scale": 3}, "wide": {"type": "DECIMAL", "precision": 38, "scale": 10},
    "userAge": "INT", "other_age": "DOUBLE",
}  # fmt: skip
FITTING = {
    "Bool": number, "Short": number, "Int": number, "Long": whole, "float": real, "double": real, "date": moment, "naive": moment, "utc": moment,
    "dec": number_text, "wide": number_text, "string": odd, "json": nested, "userAge": number, "user_age": number, "otherAge": real,
}  # fmt: skip
NAMES = ["a", "B", "camelCase", "camel_case", "Straße", "日本", "_x", "7d", "", "_fivetran_id", "c1", "c2", "c3", "c4", "c5", "c6"]


def schema(configuration):
    return [
        {"table": "declared", "primary_key": ["id"], "columns": DECLARED},
        {"table": "TypedKey", "primary_key": ["k", "Part"], "columns": {"k": "DOUBLE"}},
        {"table": "keyed", "primary_key": ["id"]},
    ]


def update(configuration, state):
    rng, errors = random.Random(int(configuration["seed"])), []
    # Most columns keep to one kind of value for a while: only then do types widen step by step.
    habits = {}
    for count in range(int(configuration["rows"])):
        table = rng.choice(["declared", "declared", "TypedKey", "keyed", "keyless"])
        call, table, row, more = operation(rng, table, habits)
        attempt(errors, count, call, table, row, **more)
        if rng.random() < 0.02:
            op.checkpoint({"errors": errors})
    op.checkpoint({"errors": errors})


REFUSALS = (TypeError, ValueError, AttributeError, OverflowError, KeyError, RecursionError)
KEYS = ("id", "k", "Part")


def attempt(errors, count, call, table, row, **more):
    """Of a row with several faults either may be told: each value is tried again alone, and there the words count."""
    try:
        call(table, row, **more)
        return
    except REFUSALS as error:
        if not isinstance(row, dict) or len(row) <= 1:
            errors.append(f"{count} {type(error).__name__}: {error}")
            return
        errors.append(f"{count} is refused")
    whole = {name: value for name, value in row.items() if name in KEYS}
    for name, value in row.items():
        try:
            call(table, {**({} if name in KEYS else whole), name: value}, **more)
        except REFUSALS as error:
            faulty = len(whole) > 1 and name not in KEYS and refused(call, table, whole, more)
            errors.append(f"{count} {name!r}" + ("" if faulty else f" {type(error).__name__}: {error}"))


def refused(call, table, row, more):
    try:
        call(table, row, **more)
    except REFUSALS:
        return True
    return False


def operation(rng, table, habits):
    if table == "declared":
        names = rng.sample([*DECLARED, "user_age", "otherAge", "free"], rng.randint(1, 8))
        row = {name: FITTING.get(name, text)(rng) if rng.random() < 0.8 else rng.choice(MAKERS)(rng) for name in names}
        row["id"] = rng.randint(0, 50)
    else:
        row = {}
        for name in rng.sample(NAMES, rng.randint(1, 8)):
            if rng.random() < 0.05 or (table, name) not in habits:
                habits[table, name] = rng.choice(MAKERS)
            row[name] = None if rng.random() < 0.15 else habits[table, name](rng)
        if table != "keyless" and rng.random() < 0.97:
            row["id"] = rng.choice([1, 2, 3, 2**40, "x", None]) if rng.random() < 0.3 else rng.randint(0, 9)
            row["k"] = rng.choice([0.0, -0.0, float("nan"), 1, "2.5"])
            row["Part"] = rng.choice(["p", "q"])
    more = {"schema": rng.choice([None, None, None, "otherSchema"])}
    kind = rng.random()
    if kind < 0.96:
        return op.upsert if kind < 0.75 else op.update if kind < 0.87 else op.delete, table, row, more
    if kind < 0.98:
        return truncate, table, rng.random() < 0.5, more
    wrong = rng.choice([None, 5, [("a", 1)], {5: 1}, {b"b": 1}, {b"\xff": 1}, {"\ud800": 1}])
    return op.upsert, rng.choice(["", " ", 5, None, table]), wrong, {}


def truncate(table, deferred, schema):
    op.truncate(table, schema=schema, deferred=deferred)


connector = Connector(update=update, schema=schema)
