"""Runs one query of a DuckDB file and writes its rows to stdout.

Reads one JSON object from stdin: {"warehouse": path, "query": text, "format": "table" | "json" | "jsonl" | "csv",
"rows_max": number}. The file is opened for reading only. `rows_max` cuts the table for people; the other formats have
every row.
"""

import base64
import csv
import json
import math
import os
import sys
from datetime import date, datetime, time, timedelta
from decimal import Decimal

import duckdb

ROWS_PER_FETCH = 1_000
CELL_CHARACTERS_MAX = 60
NUMBERS = (int, float, Decimal)


def plain(value):
    """As JSON can hold it without loss: decimals and times are texts."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (date, datetime, time)):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value)


def rows_of(cursor):
    while rows := cursor.fetchmany(ROWS_PER_FETCH):
        yield from rows


def cell(value):
    """One line of a table for people."""
    if value is None:
        return "NULL"
    if isinstance(value, (datetime, date, time, timedelta, Decimal)):
        text = str(value)
    else:
        value = plain(value)
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = "".join(character if character.isprintable() else " " for character in text)
    return text if len(text) <= CELL_CHARACTERS_MAX else text[: CELL_CHARACTERS_MAX - 1] + "…"


def write_table(names, cursor, rows_max):
    rows = []
    more = 0
    for row in rows_of(cursor):
        if len(rows) < rows_max:
            rows.append(row)
        else:
            more += 1
    cells = [names, *[[cell(value) for value in row] for row in rows]]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    right = [all(row[column] is None or is_number(row[column]) for row in rows) for column in range(len(names))]
    ruled = [cells[0], ["─" * width for width in widths], *cells[1:]]
    for line in ruled:
        aligned = (
            text.rjust(width) if to_right else text.ljust(width) for text, width, to_right in zip(line, widths, right)
        )
        print("  ".join(aligned).rstrip())
    if more:
        print(f"… {more} more rows; --rows shows more, -o csv all of them")


def is_number(value):
    return isinstance(value, NUMBERS) and not isinstance(value, bool)


def write_json(names, cursor):
    separator = "[\n"
    for row in rows_of(cursor):
        print(separator, json.dumps(dict(zip(names, map(plain, row))), ensure_ascii=False), sep="", end="")
        separator = ",\n"
    print("[]" if separator == "[\n" else "\n]")


def write_jsonl(names, cursor):
    for row in rows_of(cursor):
        print(json.dumps(dict(zip(names, map(plain, row))), ensure_ascii=False))


def write_csv(names, cursor):
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    for row in rows_of(cursor):
        values = ("" if value is None else plain(value) for value in row)
        writer.writerow([value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values])


def main():
    request = json.load(sys.stdin)
    sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    with duckdb.connect(request["warehouse"], read_only=True) as connection:
        cursor = connection.execute(request["query"])
        names = [column[0] for column in cursor.description or []]
        if not names:
            sys.exit("the text holds no statement")
        if request["format"] == "table":
            write_table(names, cursor, request["rows_max"])
        else:
            {"json": write_json, "jsonl": write_jsonl, "csv": write_csv}[request["format"]](names, cursor)
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        # Whoever read the rows has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (duckdb.Error, OSError) as error:
        sys.exit(str(error).strip())
