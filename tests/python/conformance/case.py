"""What a case is: a tiny connector, and what its tables, its state and its ending must be.

A case gives the body of `update(configuration, state)` and, if it has one, the expression that `schema(configuration)`
returns; `Connector`, `log` and `op` are imported, and `sync` is the number of the sync, from 1. Types and values of
the expected tables are those of the contract, not of a reader. Nothing here shares code with the product.
"""

import dataclasses
import datetime
import decimal
import hashlib
import json
import re
import struct
import textwrap

from read_tables import canonical, sort_key, timestamp

ARROW = {
    "BOOLEAN": "bool", "SHORT": "int16", "INT": "int32", "LONG": "int64", "FLOAT": "float", "DOUBLE": "double",
    "NAIVE_DATE": "date32[day]", "NAIVE_DATETIME": "timestamp[us]", "UTC_DATETIME": "timestamp[us, tz=UTC]",
    "BINARY": "binary", "XML": "string", "STRING": "string", "JSON": "string",
}  # fmt: skip
EPOCH = datetime.datetime(1970, 1, 1)
MICROSECOND = datetime.timedelta(microseconds=1)
SYNCED, DELETED, ID = "_fivetran_synced", "_fivetran_deleted", "_fivetran_id"
UNCHECKED = object()

HEAD = "from fivetran_connector_sdk import Connector, Logging as log, Operations as op\n"


@dataclasses.dataclass(frozen=True)
class Table:
    """A table as it must be in the end. `rows` and `deleted` hold the values of `columns`, in their order."""

    columns: dict
    rows: list = ()
    deleted: list = ()
    keyless: bool = False
    ordered: bool = False  # whether the order of the columns is part of the rule


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    name: str
    update: str = "pass"
    schema: str = None
    tables: dict = dataclasses.field(default_factory=dict)  # None: `check` alone judges them
    top: str = ""  # what stands before the functions
    source: str = None  # a whole connector.py, instead of update and schema
    files: dict = dataclasses.field(default_factory=dict)
    configuration: dict = dataclasses.field(default_factory=dict)
    naming: str = "FIVETRAN"
    inference: str = "compatible"
    syncs: int = 1
    state: object = UNCHECKED
    fails: str = None  # the code that the last sync fails with
    words: tuple = ()  # what the log of the last sync must say
    unsaid: tuple = ()  # what it must not say
    check: object = None  # found tables → sentences about what is wrong
    alone: bool = False
    only: str = None  # "debug" or "agent", for what the two are meant to do differently

    @property
    def together(self):
        """Whether the case may share a connector with others: nothing in it concerns the whole run."""
        whole = (
            self.alone, self.source, self.files.keys() - {"requirements.txt"}, self.configuration, self.state is not UNCHECKED, self.fails,
            self.words, self.unsaid, self.only, self.naming != "FIVETRAN",
        )  # fmt: skip
        return not any(whole)

    def module(self):
        """The connector's text."""
        if self.source is not None:
            return textwrap.dedent(self.source)
        text = HEAD + textwrap.dedent(self.top) + "\n"
        if self.schema is not None:
            text += f"def schema(configuration):\n    sync = int(configuration['sync'])\n    return {self.schema}\n\n"
        body = textwrap.indent(textwrap.dedent(self.update).strip("\n"), "    ")
        text += f"def update(configuration, state):\n    sync = int(configuration['sync'])\n{body}\n\n"
        return text + f"connector = Connector(update=update{', schema=schema' if self.schema is not None else ''})\n"


def own_table(case, table="seen"):
    """The case with a table name of its own, so that it may share a connector."""
    renamed = case.name if case.tables and list(case.tables) == [table] else None
    if renamed is None or not case.alone or case.check:
        return case
    texts = {name: getattr(case, name).replace(f"'{table}'", f"'{renamed}'").replace(f'"{table}"', f'"{renamed}"') for name in ("update", "schema")}
    return dataclasses.replace(case, tables={renamed: case.tables[table]}, alone=False, **texts)


# ---- expected values ------------------------------------------------------------------------------------------------


def cell(value, kind):
    """A Python value as a column of this type shows it, in the canonical form of read_tables."""
    if value is None:
        return None
    if kind in ("NAIVE_DATETIME", "UTC_DATETIME"):
        if isinstance(value, str):
            value = datetime.datetime.fromisoformat(value)
        return timestamp((value - EPOCH) // MICROSECOND, kind == "UTC_DATETIME")
    if kind == "NAIVE_DATE" and isinstance(value, str):
        value = datetime.date.fromisoformat(value)
    if kind.startswith("DECIMAL"):
        scale = int(kind.rpartition(",")[2].rstrip(")"))
        with decimal.localcontext(prec=80):
            value = decimal.Decimal(value).quantize(decimal.Decimal(1).scaleb(-scale))
    if kind == "FLOAT":
        value = struct.unpack("f", struct.pack("f", value))[0]
    if kind == "DOUBLE":
        value = float(value)
    return canonical(value)


def arrow_type(kind):
    match = re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", kind)
    return f"decimal128({match[1]}, {match[2]})" if match else ARROW[kind]


def row_id(names, kinds, row):
    """The `_fivetran_id` of a row: SHA-256 over its non-NULL columns in byte order of their names."""
    digest = hashlib.sha256()
    for name, kind, value in sorted(zip(names, kinds, row), key=lambda part: part[0].encode()):
        if value is not None:
            for text in (name.encode(), id_text(value, kind).encode()):
                digest.update(struct.pack("<I", len(text)) + text)
    return digest.hexdigest()


def id_text(value, kind):
    if kind == "JSON":
        return json.dumps(json.loads(value), sort_keys=True, separators=(",", ":"))
    if kind == "BOOLEAN":
        return "true" if value else "false"
    if kind == "DOUBLE":
        return str(int(value)) if float(value).is_integer() else repr(float(value))
    if kind in ("UTC_DATETIME", "NAIVE_DATETIME"):
        return value + ("Z" if kind == "UTC_DATETIME" else "")
    if kind == "BINARY":
        import base64

        return base64.b64encode(value).decode()
    return str(value)


def expected_rows(table):
    """Rows of canonical cells: the case's columns, then `_fivetran_deleted`, then `_fivetran_id` if there is one."""
    kinds = list(table.columns.values())
    rows = []
    for deleted, values in [(False, row) for row in table.rows] + [(True, row) for row in table.deleted]:
        row = [cell(value, kind) for value, kind in zip(values, kinds, strict=True)] + [canonical(deleted)]
        if table.keyless:
            row.append("s:" + row_id(list(table.columns), kinds, values))
        rows.append(row)
    return sorted(rows, key=sort_key)


# ---- comparison -----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Found:
    """A table as a reader found it: arrow types and canonical cells; `marks` are the types the destination notes."""

    columns: dict
    rows: list
    marks: dict = None

    def column(self, name):
        index = list(self.columns).index(name)
        return [row[index] for row in self.rows]


def differences(case, found):
    """What is wrong with the tables of a case, as sentences. `found` holds every table of the case."""
    if case.tables is None:
        return case.check(found)
    problems = [f"table {name} should not be there" for name in sorted(found.keys() - case.tables.keys())]
    for name, table in case.tables.items():
        if name not in found:
            problems.append(f"table {name} is missing")
        else:
            problems += [f"{name}: {problem}" for problem in table_differences(table, found[name])]
    if not problems and case.check:
        problems += case.check(found)
    return problems


def table_differences(table, found):
    wanted = {name: arrow_type(kind) for name, kind in table.columns.items()}
    system = {DELETED: "bool", **({ID: "string"} if table.keyless else {})}
    there = {name: kind for name, kind in found.columns.items() if name != SYNCED}
    if there != wanted | system:
        return [f"columns {there}, expected {wanted | system}"]
    if found.columns.get(SYNCED) != "timestamp[us, tz=UTC]":
        return [f"{SYNCED} is {found.columns.get(SYNCED)}"]
    if table.ordered and [name for name in found.columns if name in wanted] != list(wanted):
        return [f"columns in the order {list(found.columns)}, expected {list(wanted)}"]
    marks = {name: mark for name, mark in (found.marks or {}).items() if name in wanted and mark}
    wrong = {name: mark for name, mark in marks.items() if mark != table.columns[name]}
    if wrong:
        return [f"the destination notes the types {wrong}, expected {table.columns}"]
    order = [list(found.columns).index(name) for name in [*wanted, *system]]
    rows = sorted(([row[index] for index in order] for row in found.rows), key=sort_key)
    expected = expected_rows(table)
    if rows != expected:
        return [f"rows {rows[:8]}, expected {expected[:8]}"]
    bad = [value for value in found.column(SYNCED) if not re.fullmatch(r"T:\d{4}-\d\d-\d\dT[\d:]{8}\.\d{3}000Z", value or "")]
    return [f"{SYNCED} is {bad[0]}: not an instant in milliseconds"] if bad else []
