"""A destination for what the original runtime sends: records of several syncs become tables, by the rules of its public
documentation, where it leaves them open by ours. The platform itself cannot be run here, so this says nothing about it.

Cells keep the value that came; a column's type is the join of all it got, and cells are written in it at the end.
"""

import base64
import copy
import decimal
import re
import struct
import unicodedata

from case import DELETED, EPOCH, ID, MICROSECOND, SYNCED, Found, arrow_type, cell, row_id

OWN = {"_fivetran_synced", "_fivetran_deleted", "_fivetran_id", "_fivetran_start", "_fivetran_end", "_fivetran_active", "_fivetran_batch", "_fivetran_index"}
# Beyond what decomposition spells in ASCII; only what the cases use.
SPELLED = {"ß": "ss", "日": "Ri", "本": "Ben"}
RANK = {"SHORT": 5, "INT": 10, "LONG": 19}
EXACT = 1 << 53


class Refused(Exception):
    """The destination cannot take a record: the sync fails."""


class Table:
    def __init__(self, key=()):
        self.key = list(key)
        self.types = {}  # column → type, in the order of appearance
        self.names = []  # all columns that were declared or seen, keys first
        self.rows = {}  # identity → {column: (kind, value)}
        self.marks = {}  # identity → (deleted, window)


class Destination:
    def __init__(self, naming):
        self._renamed = words if naming == "FIVETRAN" else (lambda name, table=False: name)
        self._tables, self._committed = {}, {}
        self.state, self._window = {}, 0

    def sync(self, said):
        """Takes what one sync said. Returns whether it succeeded."""
        self._declared = said["schema"] or []
        try:
            self._declare()
            for event in said["events"]:
                if event[0] == "CHECKPOINT":
                    self.state = event[1]
                    self._commit()
                else:
                    self._record(*event)
        except Refused:
            self._tables = copy.deepcopy(self._committed)
            return False
        # The original's stream ends with the rows since the last checkpoint, also after an exception; only a task is
        # where its reader stops.
        if said["ended"] != "TASK":
            self._commit()
        self._tables = copy.deepcopy(self._committed)
        return said["ended"] == "OK"

    def _commit(self):
        self._window += 1
        self._committed = copy.deepcopy(self._tables)

    def _declare(self):
        for schema, name, columns in self._declared:
            table = self._tables.setdefault(self._name(schema, name), Table())
            key = [self._renamed(column) for column, _, is_key, *_ in columns if is_key]
            if OWN & set(key) or table.rows and sorted(key) != sorted(table.key):
                raise Refused
            table.key = key
            for column, kind, _, precision, scale in columns:
                column = self._renamed(column)
                if column not in table.names:
                    table.names.append(column)
                if kind == "DECIMAL":
                    precision, scale = min(precision, 38), min(scale, 37)
                    kind = f"DECIMAL({precision},{scale})"
                if kind != "UNSPECIFIED":
                    table.types[column] = join(table.types.get(column, kind), kind, True)

    def _name(self, schema, table):
        table = self._renamed(table, table=True)
        return f"{self._renamed(schema, table=True)}.{table}" if schema else table

    def _record(self, op, schema, name, cells):
        name = self._name(schema, name)
        table = self._tables.get(name)
        if op == "TRUNCATE":
            if table:
                self._truncate(name, table)
            return
        table = self._tables.setdefault(name, Table())
        row = {self._renamed(column): typed(*value) for column, value in cells.items()}
        row = {column: value for column, value in row.items() if column not in OWN}
        if any(row.get(column) is None for column in table.key) or not table.key and op == "UPDATE":
            raise Refused
        if op == "DELETE" and table.key:
            row = {column: row[column] for column in table.key}
        self._learn(table, row)
        self._fold(table, op, row)

    def _learn(self, table, row):
        for column, value in row.items():
            if column not in table.names and value is not None:
                table.names.append(column)
            if value is not None:
                kind = smallest(*value)
                exact = all(abs(v[1]) <= EXACT for v in [value, *(r.get(column) for r in table.rows.values())] if v and v[0] in RANK)
                table.types[column] = join(table.types.get(column, kind), kind, exact)

    def _fold(self, table, op, row):
        identity = tuple(rendered(row[column]) for column in table.key) if table.key else self._hash(row)
        there = identity in table.rows
        if op == "UPSERT":
            table.rows[identity], table.marks[identity] = row, (False, self._window)
        elif op == "UPDATE" and there and not table.marks[identity][0]:
            table.rows[identity] = {**table.rows[identity], **row}
            table.marks[identity] = (False, self._window)
        elif op == "DELETE" and there:
            table.marks[identity] = (True, self._window)

    def _hash(self, row):
        present = [(column, value) for column, value in row.items() if value is not None]
        kinds = ["JSON" if value[0] == "JSON" else "STRING" for _, value in present]
        return row_id([column for column, _ in present], kinds, [rendered(value) for _, value in present])

    def _truncate(self, name, table):
        """Rows that are committed are marked; pending ones are dropped."""
        before = self._committed.get(name) or Table()
        table.rows = copy.deepcopy(before.rows)
        table.marks = {identity: (True, window) for identity, (_, window) in before.marks.items()}

    def found(self):
        """Every table with a column, as the suite's readers find tables."""
        return {name: exported(table) for name, table in self._tables.items() if table.types}


def exported(table):
    key = [name for name in table.key if name in table.types]
    names = key + [name for name in table.names if name in table.types and name not in key]
    columns = {name: arrow_type(table.types[name]) for name in names}
    columns |= {SYNCED: "timestamp[us, tz=UTC]", DELETED: "bool", **({} if table.key else {ID: "string"})}
    rows = []
    for identity, row in table.rows.items():
        deleted, window = table.marks[identity]
        cells = [written(row.get(name), table.types[name]) for name in names]
        synced = f"T:2024-01-01T00:00:{window:02d}.000000Z"
        rows.append([*cells, synced, "b:true" if deleted else "b:false", *([] if table.key else [f"s:{identity}"])])
    return Found(columns, rows, {name: table.types[name] for name in names})


# ---- values ---------------------------------------------------------------------------------------------------------

KINDS = {"bool": "BOOLEAN", "short": "SHORT", "int": "INT", "long": "LONG", "decimal": "DECIMAL", "float": "FLOAT", "double": "DOUBLE",
         "naive_date": "NAIVE_DATE", "naive_datetime": "NAIVE_DATETIME", "utc_datetime": "UTC_DATETIME", "binary": "BINARY",
         "string": "STRING", "json": "JSON", "xml": "XML"}  # fmt: skip


def typed(kind, value):
    """None for NULL, else (kind, value); a decimal that is none is text."""
    if kind == "null":
        return None
    kind = KINDS[kind]
    if kind in ("FLOAT", "DOUBLE"):
        value = float(value)
    elif kind == "BINARY":
        value = bytes.fromhex(value)
    elif kind == "DECIMAL":
        try:
            value = decimal.Decimal(value)
            kind = kind if value.is_finite() else "STRING"
        except decimal.InvalidOperation:
            kind = "STRING"
    return kind, value


def smallest(kind, value):
    """The type of one value. The platform narrows integers by value, never below INT."""
    if kind in ("INT", "LONG"):
        return "INT" if -(2**31) <= value < 2**31 else "LONG"
    if kind == "SHORT":
        return kind if -(2**15) <= value < 2**15 else smallest("LONG", value)
    if kind == "DECIMAL":
        with decimal.localcontext(prec=400):
            _, digits, exponent = value.normalize().as_tuple()
        scale = max(0, -exponent)
        precision = max(len(digits) + max(0, exponent), scale, 1)
        return f"DECIMAL({precision},{scale})" if precision <= 38 and scale <= 37 else "STRING"
    return kind


def join(a, b, exact):
    """The smallest type that holds both."""
    if a == b:
        return a
    a, b = sorted((a, b), key=lambda kind: (kind.startswith("DECIMAL"), kind in ("FLOAT", "DOUBLE"), RANK.get(kind, 0)))
    if a in RANK and b in RANK:
        return max(a, b, key=RANK.get)
    if b.startswith("DECIMAL") and (a in RANK or a.startswith("DECIMAL")):
        p, s = parameters(a) if a not in RANK else (RANK[a], 0)
        q, t = parameters(b)
        digits, scale = max(p - s, q - t), max(s, t)
        return f"DECIMAL({digits + scale},{scale})" if digits + scale <= 38 and scale <= 37 else "STRING"
    floats = [kind for kind in (a, b) if kind in ("FLOAT", "DOUBLE")]
    other = [kind for kind in (a, b) if kind not in floats]
    if len(floats) == 2 or floats and other[0] in RANK and (other[0] != "LONG" or exact):
        return "DOUBLE"
    if floats and other[0].startswith("DECIMAL") and parameters(other[0])[0] <= 15:
        return "DOUBLE"
    return "NAIVE_DATETIME" if {a, b} == {"NAIVE_DATE", "NAIVE_DATETIME"} else "STRING"


def parameters(kind):
    return tuple(int(number) for number in re.findall(r"\d+", kind))


def written(value, kind):
    """A cell in its column's type, in canonical form."""
    if value is None:
        return None
    if kind == "STRING":
        return f"s:{rendered(value)}"
    own, held = value
    if own == "NAIVE_DATE":
        held = (EPOCH + held * MICROSECOND).date()
    if kind in ("NAIVE_DATETIME", "UTC_DATETIME"):
        held = EPOCH + value[1] * MICROSECOND
    return cell(held, kind)


def rendered(value):
    """The text of a value that moved to a column of text."""
    if value is None:
        return None
    kind, held = value
    if kind == "BOOLEAN":
        return "true" if held else "false"
    if kind == "DECIMAL":
        text = f"{held:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    if kind in ("FLOAT", "DOUBLE"):
        return floating(held, kind == "FLOAT")
    if kind == "NAIVE_DATE":
        return (EPOCH + held * MICROSECOND).date().isoformat()
    if kind in ("NAIVE_DATETIME", "UTC_DATETIME"):
        moment = EPOCH + held * MICROSECOND
        spec = "seconds" if not moment.microsecond else "microseconds" if moment.microsecond % 1000 else "milliseconds"
        return moment.isoformat(timespec=spec) + ("Z" if kind == "UTC_DATETIME" else "")
    return base64.b64encode(held).decode() if kind == "BINARY" else str(held)


def floating(held, short):
    if held != held or held in (float("inf"), float("-inf")):
        return "NaN" if held != held else "Infinity" if held > 0 else "-Infinity"
    if held.is_integer() and abs(held) < 1e15:
        return str(int(held))
    if not short:
        return repr(held)
    narrow = struct.pack("f", held)
    return next(text for digits in range(1, 10) for text in [f"{held:.{digits}g}"] if struct.pack("f", float(text)) == narrow)


def words(name, table=False):
    """FIVETRAN_NAMING."""
    spelled = "".join(SPELLED.get(letter, letter) for letter in name)
    ascii_only = "".join(c for c in unicodedata.normalize("NFKD", spelled) if not unicodedata.combining(c))
    joined = re.sub(r"[^A-Za-z0-9]+", "_", ascii_only)
    parts = re.findall(r"_|[A-Z]+[a-z]*|[a-z]+|[0-9]+", joined)
    text = ""
    for part in parts:
        text += ("" if not text or text.endswith("_") or part == "_" else "_") + part.lower()
    text = text or "_"
    if text[0].isdigit():
        text = "_" + text
    return text[1:] if table and re.match(r"_[a-z]", text) else text


