"""Which values a column accepts, and what they become: inference for undeclared columns, the wider of the original's
versions for declared ones. Knows nothing of rows.
"""

import re

from . import lattice, moments

BIG_INTEGER = "DECIMAL(38,0)"
OUT_OF_CALENDAR = "in UTC the moment is outside of the years 1 to 9999"
# No column holds the digits of a longer one.
EXPONENT_CHARACTERS_MAX = 9
# What Unicode calls white space.
SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
FLOAT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?|inf|infinity|nan)", re.IGNORECASE | re.ASCII)
WHOLE = re.compile(r"[+-]?[0-9]+", re.ASCII)
NUMBER = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]+))?", re.ASCII)
KINDS = {
    "null": "null", "bool": "bool", "int": "int", "digits": "int", "float": "float", "str": "str", "bytes": "bytes", "json": "JSON value",
    "date": "date", "micros": "datetime", "utc": "datetime", "decimal": "Decimal", "text": "value of another type",
}  # fmt: skip


class Problem(Exception):
    """The value does not fit; the text goes on where the column's name stands."""

    def __init__(self, text):
        super().__init__(text)
        self.text = text


def wrong(expected, tag):
    return Problem(f"column {{}} is {expected} and does not accept a {KINDS[tag]}")


def malformed(expected, problem):
    return Problem(f"a value of column {{}} is not a valid {expected}: {problem}")


def accept(tag, value, declared, inference):
    """(form, cell, type) of a value that is not NULL: the cell in its own smallest type."""
    if declared is None:
        return infer_strictly(tag, value) if inference == "strict" else infer(tag, value)
    return BY_TYPE[declared.partition("(")[0]](tag, value, declared)


def infer(tag, value):
    if tag == "int":
        return value, narrowest(value, "INT")
    if tag == "digits":
        number = parse_decimal(value)
        return (number[0], BIG_INTEGER) if number and number[2] == 0 else (value, "STRING")
    if tag == "utc":
        if not moments.in_calendar(value):
            raise malformed("UTC_DATETIME", OUT_OF_CALENDAR)
        return value, "UTC_DATETIME"
    if tag == "decimal":
        return decimal_or_text(value)
    return value, INFERRED[tag]


INFERRED = {
    "bool": "BOOLEAN", "float": "DOUBLE", "str": "STRING", "text": "STRING", "bytes": "BINARY", "json": "JSON", "date": "NAIVE_DATE",
    "micros": "NAIVE_DATETIME",
}  # fmt: skip


def infer_strictly(tag, value):
    """As the original: every float has 32 bits, and what is no 64-bit integer without -2^63 is a float."""
    if tag == "digits":
        double = to_double(value)
        if abs(double) == float("inf"):
            raise malformed("FLOAT", "the integer is too large")
        return lattice.to_float32(double), "FLOAT"
    if tag == "float" or tag == "int" and value == -(2**63):
        return lattice.to_float32(float(value)), "FLOAT"
    return infer(tag, value)


def narrowest(value, least):
    if least == "SHORT" and -(2**15) <= value < 2**15:
        return "SHORT"
    return "INT" if least != "LONG" and -(2**31) <= value < 2**31 else "LONG"


def boolean(tag, value, expected):
    if tag in ("bool", "int", "float"):
        return bool(value), expected
    if tag == "digits":
        return True, expected
    if tag != "str":
        raise wrong(expected, tag)
    if value not in ("0", "1"):
        raise malformed(expected, 'text is "0" or "1"')
    return value == "1", expected


def integer(tag, value, expected):
    if tag == "bool":
        return int(value), expected
    if tag == "int":
        return value, narrowest(value, expected)
    if tag == "digits":
        return infer(tag, value)
    if tag == "float":
        if value != value or abs(value) == float("inf") or not value.is_integer():
            raise malformed(expected, "the number is not whole")
        return integer_text(str(int(value)), expected)
    answer = integer_text(value.strip(SPACE) if tag == "str" else value, expected) if tag in ("str", "text") else None
    if answer is None:
        raise malformed(expected, "the text is not a whole number") if tag == "str" else wrong(expected, tag)
    return answer


def integer_text(text, expected):
    if not WHOLE.fullmatch(text):
        return None
    number = parse_decimal(text)
    if number is None:
        return text, "STRING"
    whole = number[0]
    return (whole, narrowest(whole, expected)) if -(2**63) <= whole < 2**63 else (whole, BIG_INTEGER)


def decimal(tag, value, expected):
    if tag in ("str", "text", "digits"):
        return decimal_or_text(value)
    if tag == "int":
        return decimal_or_text(str(value))
    if tag != "float":
        raise wrong(expected, tag)
    if value != value or abs(value) == float("inf"):
        raise malformed(expected, "the number is not finite")
    return decimal_or_text(lattice.float_text(value, False))


def decimal_or_text(text):
    number = parse_decimal(text)
    return (number[0], lattice.decimal(*number[1:]) or BIG_INTEGER) if number else (text, "STRING")


def floating(tag, value, expected):
    if tag in ("bool", "int", "float"):
        double = float(value)
    elif tag in ("digits", "str", "text"):
        double = to_double(value.strip(SPACE) if tag == "str" else value)
        if double is None:
            raise wrong(expected, tag) if tag == "text" else malformed(expected, "the text is not a number")
    else:
        raise wrong(expected, tag)
    if expected == "FLOAT" and lattice.fits_float(double):
        return lattice.to_float32(double), "FLOAT"
    return double, "DOUBLE"


def to_double(text):
    return float(text) if FLOAT.fullmatch(text) else None


FORMS = {
    "NAIVE_DATE": "the text is not YYYY-MM-DD",
    "NAIVE_DATETIME": "the text is not YYYY-MM-DDTHH:MM:SS without a zone, to microseconds",
    "UTC_DATETIME": "the text is not YYYY-MM-DDTHH:MM:SS with a zone, to microseconds",
}


def moment(tag, value, expected):
    if tag == "micros" and not moments.in_calendar(value):
        raise malformed(expected, OUT_OF_CALENDAR)
    if tag == "str":
        parsed = moments.parsed(value, expected)
        if parsed is None:
            raise malformed(expected, FORMS[expected])
        return parsed, expected
    if tag == "date":
        return (value if expected == "NAIVE_DATE" else value * moments.MICROS_PER_DAY), expected
    if tag != "micros":
        raise wrong(expected, tag)
    return (value // moments.MICROS_PER_DAY if expected == "NAIVE_DATE" else value), expected


def plain(*tags):
    def check(tag, value, expected):
        if tag not in tags:
            raise wrong(expected, tag)
        return value, expected

    return check


BY_TYPE = {
    "BOOLEAN": boolean, "SHORT": integer, "INT": integer, "LONG": integer, "DECIMAL": decimal, "FLOAT": floating, "DOUBLE": floating,
    "NAIVE_DATE": moment, "NAIVE_DATETIME": moment, "UTC_DATETIME": moment, "BINARY": plain("bytes"), "XML": plain("str"),
    "JSON": plain("json"), "STRING": plain("str", "text"),
}  # fmt: skip


def parse_decimal(text):
    """(digits as a whole number, precision, scale) without trailing zeros behind the point; None for no or a too long number."""
    match = NUMBER.fullmatch(text.strip(SPACE))
    if match is None or not (match[2] or match[3]):
        return None
    sign, integer_part, fraction = match[1], match[2], match[3] or ""
    if len(match[4] or "") > EXPONENT_CHARACTERS_MAX:
        return None
    exponent = int(match[4] or 0)
    digits = (integer_part + fraction).lstrip("0")
    significant = digits.rstrip("0")
    exponent += len(digits) - len(significant) - len(fraction)
    if not significant:
        return 0, 1, 0
    scale, zeros = max(0, -exponent), max(0, exponent)
    precision = max(len(significant) + zeros, scale)
    if scale > lattice.SCALE_MAX or zeros >= lattice.PRECISION_MAX or precision > lattice.PRECISION_MAX:
        return None
    return int(sign + significant) * 10**zeros, precision, scale
