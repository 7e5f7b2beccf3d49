"""One Python value → one value for a column, as (tag, value). Runs the value's own code, so never under a lock.

Which tag a value gets depends on the declared type of its column, and for undeclared ones on the inference mode.
"""

import datetime
import decimal
import json

from .moments import EPOCH_ORDINAL, MICROS_PER_DAY, MICROS_PER_SECOND

LONGS = range(-(2**63), 2**63)
DECIMAL_ZEROS_MAX = 100
NULL = ("null", None)


def converted(item, declared, inference):
    """(tag, value); tags: null bool int digits float str bytes json date micros utc decimal text."""
    if item is None:
        return NULL
    if declared is None:
        return rich(item) if inference == "rich" else inferred(item)
    return BY_TYPE[declared.partition("(")[0]](item)


def inferred(item):
    if isinstance(item, (dict, list)):
        return as_json(item)
    return base(item) or ("text", text_of(item))


def rich(item):
    """What has a type of its own keeps it; numpy's scalars count as the Python values they hold."""
    if isinstance(item, decimal.Decimal):
        return "decimal", plain_decimal(item)
    if not isinstance(item, str) and isinstance(item, datetime.datetime):
        # pandas' NaT is a datetime that equals nothing: a missing value.
        if item != item:
            return NULL
        return ("micros" if item.utcoffset() is None else "utc"), micros(item)
    if not isinstance(item, str) and isinstance(item, datetime.date):
        return "date", days(item)
    kind = type(item)
    if kind.__module__ == "numpy" and kind.__name__ not in ("datetime64", "timedelta64") and getattr(item, "ndim", None) == 0:
        item = item.item()
        if item is None:
            return NULL
    return inferred(item)


def base(item):
    """Subclasses count as their base: bool, int, float, str, bytes. None for all others."""
    if isinstance(item, bool):
        return "bool", bool(item)
    if isinstance(item, int):
        return integer(item)
    if isinstance(item, float):
        return "float", float.__float__(item)
    if isinstance(item, str):
        return "str", checked(item)
    if isinstance(item, bytes):
        return "bytes", memoryview(item).tobytes()
    return None


def integer(item):
    number = int.__int__(item)
    return ("int", number) if number in LONGS else ("digits", int.__repr__(item))


def judged(item, wanted):
    value = base(item)
    if value is not None and value[0] == "bytes":
        raise unfit(item, wanted)
    return value


def boolean(item):
    value = judged(item, "a boolean")
    if value is None and is_numpy_bool(item):
        value = "bool", bool(item)
    if value is None:
        raise unfit(item, "a boolean")
    return value


def whole(item):
    """numpy's integers offer `__index__`. A Decimal or another fraction is refused: its digits may not survive."""
    value = judged(item, "a whole number")
    if value is None and hasattr(item, "__index__"):
        value = integer(item.__index__())
    if value is None:
        raise unfit(item, "a whole number")
    return value


def number(item):
    value = judged(item, "a number")
    if value is None and hasattr(item, "__index__"):
        value = integer(item.__index__())
    if value is None and hasattr(item, "__float__"):
        value = "float", float(item.__float__())
    if value is None:
        raise unfit(item, "a number")
    return value


def is_numpy_bool(item):
    kind = type(item)
    return kind.__module__ == "numpy" and kind.__name__ in ("bool", "bool_")


def as_decimal(item):
    if isinstance(item, decimal.Decimal):
        return "str", plain_decimal(item)
    value = base(item)
    if value is not None and value[0] in ("int", "digits", "str", "float", "bool"):
        return value  # the column refuses a bool
    if value is None and not is_numpy_bool(item):
        return number(item)
    raise unfit(item, "a decimal number")


def plain_decimal(item):
    """Without an exponent, unless that takes more zeros than any column holds digits."""
    text = text_of(item)
    if "E" not in text or abs(item.adjusted()) > DECIMAL_ZEROS_MAX:
        return text
    return item.__format__("f")


def as_text(item):
    return ("str", checked(item)) if isinstance(item, str) else ("text", text_of(item))


def as_json(item):
    return "json", json.dumps(item)


def xml(item):
    value = base(item)
    if value is not None and value[0] == "bytes":
        try:
            return "str", value[1].decode()
        except UnicodeDecodeError:
            raise unfit(item, "XML text in UTF-8") from None
    if value is None or value[0] != "str":
        raise unfit(item, "XML text")
    return value


def binary(item):
    value = base(item)
    if value is not None and value[0] == "bytes":
        return value
    if isinstance(item, bytearray):
        return "bytes", bytes(item)
    raise unfit(item, "bytes")


def date(item):
    if isinstance(item, str):
        return "str", checked(item)
    if isinstance(item, datetime.date):
        return "date", days(item)
    raise unfit(item, "a date or its text")


def moment(item):
    if isinstance(item, str):
        return "str", checked(item)
    if isinstance(item, datetime.datetime):
        return "micros", micros(item)
    if isinstance(item, datetime.date):
        return "micros", days(item) * MICROS_PER_DAY
    raise unfit(item, "a datetime or its text")


BY_TYPE = {
    "BOOLEAN": boolean, "SHORT": whole, "INT": whole, "LONG": whole, "FLOAT": number, "DOUBLE": number,
    "DECIMAL": as_decimal, "STRING": as_text, "JSON": as_json, "XML": xml, "BINARY": binary, "NAIVE_DATE": date,
    "NAIVE_DATETIME": moment, "UTC_DATETIME": moment,
}  # fmt: skip


def days(item):
    return item.toordinal() - EPOCH_ORDINAL


def micros(item):
    """A naive datetime counts as UTC; an aware one is shifted there."""
    clock = (item.hour * 60 + item.minute) * 60 + item.second
    local = days(item) * MICROS_PER_DAY + clock * MICROS_PER_SECOND + item.microsecond
    offset = item.utcoffset()
    if offset is None:
        return local
    return local - (offset.days * MICROS_PER_DAY + offset.seconds * MICROS_PER_SECOND + offset.microseconds)


def text_of(item):
    return checked(str(item))


def checked(text):
    """The text as a plain str; lone surrogates are refused as they are at the wire."""
    text.encode()
    return str.__str__(text)


def unfit(item, wanted):
    """The value itself is never in the text: it may be a row's content, and the text may be logged."""
    return marked(TypeError(f"a {type(item).__name__} is not {wanted}"), "value")


def marked(error, kind):
    """Marks an error with the failure kind the job reports when user code lets it through."""
    error.inshore_kind = kind
    return error
