"""Dates and instants as text, both ways: the forms that declared columns take, and the one that columns of text show."""

import datetime
import re

EPOCH_ORDINAL = 719_163
MICROS_PER_SECOND = 1_000_000
MICROS_PER_DAY = 86_400 * MICROS_PER_SECOND
YEAR_1, YEAR_10_000 = -719_162 * MICROS_PER_DAY, 2_932_897 * MICROS_PER_DAY

DATE = r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})"
CLOCK = r"[T ]([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?:\.([0-9]{1,6}))?"
ZONE = r"(?:Z|([+-])([0-9]{2}):?([0-9]{2}))"
FORMS = {
    "NAIVE_DATE": re.compile(DATE),
    "NAIVE_DATETIME": re.compile(DATE + CLOCK),
    "UTC_DATETIME": re.compile(DATE + CLOCK + ZONE),
}


def parsed(text, kind):
    """Days or microseconds since the epoch; None for text that is not of the column's form."""
    match = FORMS[kind].fullmatch(text)
    if match is None:
        return None
    part = match.groups()
    try:
        days = datetime.date(*map(int, part[:3])).toordinal() - EPOCH_ORDINAL
    except ValueError:
        return None
    if kind == "NAIVE_DATE":
        return days
    hour, minute, second = map(int, part[3:6])
    if hour > 23 or minute > 59 or second > 59:
        return None
    micros = ((days * 24 + hour) * 60 + minute) * 60 * MICROS_PER_SECOND + second * MICROS_PER_SECOND
    micros += int((part[6] or "0").ljust(6, "0"))
    if kind == "NAIVE_DATETIME" or part[7] is None:
        return micros
    hours, minutes = int(part[8]), int(part[9])
    if hours > 23 or minutes > 59:
        return None
    micros -= (hours * 60 + minutes) * 60 * MICROS_PER_SECOND * (-1 if part[7] == "-" else 1)
    return micros if in_calendar(micros) else None


def in_calendar(micros):
    return YEAR_1 <= micros < YEAR_10_000


def date_text(days):
    return datetime.date.fromordinal(days + EPOCH_ORDINAL).isoformat()


def datetime_text(micros):
    """With three or six fractional digits when they are needed."""
    days, rest = divmod(micros, MICROS_PER_DAY)
    seconds, fraction = divmod(rest, MICROS_PER_SECOND)
    text = f"{date_text(days)}T{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    if fraction:
        text += f".{fraction:06}" if fraction % 1000 else f".{fraction // 1000:03}"
    return text
