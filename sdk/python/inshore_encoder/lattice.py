"""Column types: which holds two others without loss, how cells move to it, and the text of a cell.

A type is its name, as `DECIMAL(10,2)`. Cells are Python values: whole numbers for decimals (their digits), dates (days)
and datetimes (microseconds); None is NULL.
"""

import base64
import functools
import re
import struct

from . import moments

EXACT_DOUBLE_MAX = 1 << 53
PRECISION_MAX, SCALE_MAX = 38, 37
INTEGER_DIGITS = {"SHORT": 5, "INT": 10, "LONG": 19}
FLOATS = ("FLOAT", "DOUBLE")


@functools.lru_cache(1024)
def decimal_parts(kind):
    """(precision, scale), or None for another type."""
    match = re.fullmatch(r"DECIMAL\(([0-9]+), ?([0-9]+)\)", kind)
    return (int(match[1]), int(match[2])) if match else None


def decimal(precision, scale):
    """The type, or None when it is out of range."""
    fits = 1 <= precision <= PRECISION_MAX and 0 <= scale <= SCALE_MAX and scale <= precision
    return f"DECIMAL({precision},{scale})" if fits else None


def join(a, b, long_fits_double):
    """The smallest type that holds every value of both."""
    if a == b:
        return a
    if a in INTEGER_DIGITS and b in INTEGER_DIGITS:
        return max(a, b, key=INTEGER_DIGITS.get)
    if a in FLOATS and b in FLOATS:
        return "DOUBLE"
    decimals = [decimal_parts(kind) or ((INTEGER_DIGITS[kind], 0) if kind in INTEGER_DIGITS else None) for kind in (a, b)]
    if all(decimals):
        digits, scale = max(p - s for p, s in decimals), max(s for _, s in decimals)
        return decimal(digits + scale, scale) or "STRING"
    if a in FLOATS or b in FLOATS:
        other = b if a in FLOATS else a
        parts = decimal_parts(other)
        exact = other in ("SHORT", "INT") or other == "LONG" and long_fits_double or parts is not None and parts[0] <= 15
        return "DOUBLE" if exact else "STRING"
    return "NAIVE_DATETIME" if {a, b} == {"NAIVE_DATE", "NAIVE_DATETIME"} else "STRING"


def cast(cells, before, after):
    """The cells of a column that widens."""
    move = mover(before, after)
    return [None if cell is None else move(cell) for cell in cells]


def mover(before, after):
    if after == "STRING":
        return lambda cell: text_of(cell, before)
    if after == "DOUBLE":
        parts = decimal_parts(before)
        return (lambda cell: float(cell) / 10.0 ** parts[1]) if parts else float
    if decimal_parts(after):
        zeros = decimal_parts(after)[1] - (decimal_parts(before) or (0, 0))[1]
        return lambda cell: cell * 10**zeros
    if (before, after) == ("NAIVE_DATE", "NAIVE_DATETIME"):
        return lambda cell: cell * moments.MICROS_PER_DAY
    return lambda cell: cell


def text_of(cell, kind):
    """What a column of text shows."""
    if kind == "BOOLEAN":
        return "true" if cell else "false"
    if kind in FLOATS:
        return float_text(cell, kind == "FLOAT")
    if kind == "NAIVE_DATE":
        return moments.date_text(cell)
    if kind == "NAIVE_DATETIME":
        return moments.datetime_text(cell)
    if kind == "UTC_DATETIME":
        return moments.datetime_text(cell) + "Z"
    if kind == "BINARY":
        return base64.b64encode(cell).decode()
    parts = decimal_parts(kind)
    if parts and parts[1]:
        digits = f"{abs(cell):0{parts[1] + 1}d}"
        fraction = digits[-parts[1] :].rstrip("0")
        return ("-" if cell < 0 else "") + digits[: -parts[1]] + ("." + fraction if fraction else "")
    return str(cell)


def float_text(value, narrow):
    """The shortest digits that read back; an exponent only far from 1, and no fraction of zero."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    negative = struct.pack("<d", value)[7] & 0x80
    digits, point = shortest(abs(value), narrow)
    fixed_max, fixed_min = (13, -6) if narrow else (16, -5)
    if len(digits) <= point <= fixed_max:
        text = digits.ljust(point, "0")
    elif 0 < point <= fixed_max:
        text = f"{digits[:point]}.{digits[point:]}"
    elif fixed_min < point <= 0:
        text = "0." + "0" * -point + digits
    else:
        text = digits[0] + ("." + digits[1:] if len(digits) > 1 else "") + f"e{point - 1}"
    return ("-" if negative else "") + text


def shortest(value, narrow):
    """Digits without trailing zeros, and where the point is among them."""
    if value == 0:
        return "0", 1
    texts = (f"{value:.{precision}e}" for precision in range(9 if narrow else 17))
    text = next(text for text in texts if (to_float32(float(text)) if narrow else float(text)) == value)
    mantissa, _, exponent = text.partition("e")
    return mantissa.replace(".", "").rstrip("0"), int(exponent) + 1


def to_float32(value):
    """Rounded to 32 bits; infinite beyond them."""
    try:
        return struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def fits_float(value):
    return value != value or abs(value) == float("inf") or abs(to_float32(value)) != float("inf")
