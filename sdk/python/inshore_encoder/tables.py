"""Rows of one table on their way to a frame: one builder per table of a sync. NULL never creates a column; a row counts
from `end` on, and one that fails leaves no trace, neither values nor types.
"""

import json
import struct

from . import accepting, arrow, lattice, naming
from .values import marked

ROW_BYTES_MAX = 40 << 20
# Tables of one sync, columns of one table.
TABLES_MAX = COLUMNS_MAX = 20_000
UPSERT, UPDATE, DELETE = range(3)
NO_SET = 0xFFFFFFFF
SYSTEM_COLUMNS = {
    "_fivetran_id", "_fivetran_deleted", "_fivetran_synced", "_fivetran_active", "_fivetran_start", "_fivetran_end", "_fivetran_batch",
    "_fivetran_index",
}  # fmt: skip
TEXTS = ("STRING", "XML", "JSON")
# Type → kind of Arrow type, its fields, how cells are packed.
FIXED = {
    "SHORT": (arrow.INT, {0: ("i", 16), 1: ("B", 1)}, "h"), "INT": (arrow.INT, {0: ("i", 32), 1: ("B", 1)}, "i"),
    "LONG": (arrow.INT, {0: ("i", 64), 1: ("B", 1)}, "q"), "FLOAT": (arrow.FLOAT, {0: ("h", 1)}, "f"),
    "DOUBLE": (arrow.FLOAT, {0: ("h", 2)}, "d"), "NAIVE_DATE": (arrow.DATE, {0: ("h", 0)}, "i"),
    "NAIVE_DATETIME": (arrow.TIMESTAMP, {0: ("h", arrow.MICROSECOND)}, "q"),
    "UTC_DATETIME": (arrow.TIMESTAMP, {0: ("h", arrow.MICROSECOND), 1: "UTC"}, "q"),
}  # fmt: skip
DECIMAL_BYTES = 16


class Column:
    def __init__(self, name):
        self.name, self.kind, self.cells = name, None, []
        self.declared = self.is_key = False
        self.fits_double = True

    def set_kind(self, kind):
        self.kind, self.cells = kind, []

    def go_to(self, rows):
        """Exactly `rows` long, so that the next cell is that of the current row."""
        if self.kind is not None:
            del self.cells[rows:]
            self.cells.extend([None] * (rows - len(self.cells)))

    def takes(self, tag, value):
        """The cell of a value that already is of the column's type; None when rules are needed."""
        kind = self.kind
        if tag == "int":
            if kind == "INT" and -(2**31) <= value < 2**31 or kind == "SHORT" and -(2**15) <= value < 2**15:
                return value
            return value if kind == "LONG" and (not self.fits_double or abs(value) <= lattice.EXACT_DOUBLE_MAX) else None
        if tag == "float" and kind == "FLOAT":
            return lattice.to_float32(value) if lattice.fits_float(value) else None
        if tag == "micros" and kind in ("NAIVE_DATETIME", "UTC_DATETIME"):
            return value if lattice.moments.in_calendar(value) else None
        if tag in ("str", "bytes", "json", "text") and size_of(value) > ROW_BYTES_MAX:
            return None
        return value if kind in SAME.get(tag, ()) else None


SAME = {
    "float": ("DOUBLE",), "str": ("STRING",), "text": ("STRING",), "json": ("JSON",), "bytes": ("BINARY",), "bool": ("BOOLEAN",),
    "date": ("NAIVE_DATE",),
}  # fmt: skip


def size_of(cell):
    return len(cell) if isinstance(cell, bytes) or cell.isascii() else len(cell.encode())


class Builder:
    """`key` and `declared` hold raw names; `name` is (schema, table) as the destination has them."""

    def __init__(self, name, key, declared, names, inference):
        self.name, self.inference, self._naming = name, inference, names
        self.key, self.declared, self.bytes = [], {}, 0
        self._slots, self._columns, self._by_name, self._typed, self._keys = {}, [], {}, [], []
        self._ops, self._sets, self._set_ids, self.warnings = [], [], {}, []
        for raw in key:
            column = self.slot(raw)
            if column is not None and column not in self._keys:
                column.is_key = True
                self._keys.append(column)
                self.key.append(column.name)
        for raw, kind in declared:
            column = self.slot(raw)
            if column is None:
                continue
            self.declared[raw], column.declared = kind, True
            if column.kind is None:
                self._typed.append(column)
            column.set_kind(kind if column.kind is None else lattice.join(column.kind, kind, True))

    def spelled(self):
        return f"{self.name[0]}.{self.name[1]}"

    def slot(self, raw):
        """The column of a raw name; None for names that belong to the system."""
        if raw in self._slots:
            return self._slots[raw]
        renamed, column = naming.column_name(raw, self._naming), None
        if renamed in SYSTEM_COLUMNS:
            self.warnings.append(f"column {quoted(raw)} of {self.spelled()} is left out: the name belongs to the system")
        else:
            column = self._by_name.get(renamed)
            if column is None:
                column = self._by_name[renamed] = Column(renamed)
                self._columns.append(column)
            else:
                first = next((known for known, its in self._slots.items() if its is column), "")
                self.warnings.append(
                    f"{quoted(first)} and {quoted(raw)} are both column {renamed} of {self.spelled()}: within a row the last one wins"
                )
        self._slots[raw] = column
        return column

    def append(self, op, row):
        """A whole row of (raw name, tag, value); refused rows raise and leave nothing."""
        before, undo, carried = self.bytes, [], []
        try:
            null_key = False
            for raw, tag, value in row:
                null_key |= self._set(op, raw, tag, value, undo, carried)
            self._check(op, before, null_key)
        except BaseException:
            self._abandon(before, undo)
            raise
        self._ops.append(op)
        self._sets.append(self._intern(carried) if op == UPDATE else NO_SET)
        self.bytes += 5

    def _set(self, op, raw, tag, value, undo, carried):
        """Returns whether a key column was given NULL."""
        if raw not in self._slots and len(self._columns) >= COLUMNS_MAX:
            raise too_many(f"table {self.spelled()} has {COLUMNS_MAX} columns, which is the limit")
        column = self.slot(raw)
        if column is None:
            return False
        declared = self.declared.get(raw)
        if op != UPSERT and not column.is_key:
            if op == DELETE and self._keys:
                return False
            if op == UPDATE:
                carried.append(column)
        column.go_to(len(self._ops))
        if tag == "float":
            if column.is_key:
                value += 0.0  # of the sum of both zeros the sign is plus
            if self.inference == "strict" and declared is None:
                value = lattice.to_float32(value)
        if tag == "null":
            return column.is_key
        cell = column.takes(tag, value) if declared is None or declared == column.kind else None
        if cell is None:
            cell = self._set_slowly(column, tag, value, declared, undo)
        column.cells.append(cell)
        self.bytes += self._width(column, cell)
        return False

    def _set_slowly(self, column, tag, value, declared, undo):
        try:
            cell, kind = accepting.accept(tag, value, declared, self.inference)
        except accepting.Problem as problem:
            raise marked(ValueError(problem.text.format(column.name)), "value") from None
        if kind in lattice.INTEGER_DIGITS and abs(cell) > lattice.EXACT_DOUBLE_MAX and column.fits_double:
            column.fits_double = False
            undo.append(lambda: setattr(column, "fits_double", True))
        joined = kind if column.kind is None else lattice.join(column.kind, kind, column.fits_double)
        if joined != column.kind:
            self._widen(column, joined, undo)
        return cell if kind == joined else lattice.mover(kind, joined)(cell)

    def _widen(self, column, joined, undo):
        kind, cells = column.kind, column.cells
        if kind is None:
            self._typed.append(column)
        column.kind, column.cells = joined, [] if kind is None else lattice.cast(cells, kind, joined)
        column.go_to(len(self._ops))

        def back():
            column.kind, column.cells = kind, cells
            if kind is None:
                self._typed.remove(column)

        undo.append(back)

    def _width(self, column, cell):
        kind = column.kind
        if kind in FIXED:
            return struct.calcsize(FIXED[kind][2])
        if kind == "BOOLEAN":
            return 1
        if kind not in TEXTS and kind != "BINARY":
            return DECIMAL_BYTES
        size = size_of(cell)
        if size > ROW_BYTES_MAX:
            raise marked(ValueError(f"a value of column {column.name} passes the limit of {ROW_BYTES_MAX >> 20} MiB"), "value")
        return size + 4

    def _check(self, op, before, null_key):
        if self.bytes - before > ROW_BYTES_MAX:
            raise marked(ValueError(f"a row of {self.spelled()} passes the limit of {ROW_BYTES_MAX >> 20} MiB"), "value")
        if not self._keys and op == UPDATE:
            raise marked(ValueError(f"{self.spelled()} has no key: rows cannot be updated"), "key_required")
        missing = next((column for column in self._keys if len(column.cells) <= len(self._ops)), None)
        if missing is None:
            return
        if op == UPSERT or null_key:
            raise marked(ValueError(f"key column {missing.name} of {self.spelled()} is null"), "key_null")
        text = f"key column {missing.name} of {self.spelled()} is missing: update and delete need the whole key"
        raise marked(ValueError(text), "key_partial")

    def _abandon(self, before, undo):
        for back in reversed(undo):
            back()
        for column in self._columns:
            del column.cells[len(self._ops) :]
        self.bytes = before

    def _intern(self, carried):
        places = tuple(sorted({self._columns.index(column) for column in carried}))
        return self._set_ids.setdefault(places, len(self._set_ids))

    def schema(self):
        columns = [{"name": column.name, "data_type": column.kind, "declared": column.declared} for column in self._typed]
        return {"name": {"schema": self.name[0], "table": self.name[1]}, "key": self.key, "columns": columns}

    def finish(self):
        """The payload of a frame with the rows so far; None when there are none. The builder goes on with its columns."""
        rows = len(self._ops)
        if not rows:
            return None
        columns = []
        for column in self._typed:
            column.go_to(rows)
            columns.append(encoded(column))
        columns.append(("#op", 0, arrow.INT, {0: ("i", 8), 1: ("B", 0)}, [bytes(self._ops)], None))
        sets, untyped = self._positions()
        if sets:
            columns.append(("#set", 0, arrow.INT, {0: ("i", 32), 1: ("B", 0)}, [struct.pack(f"<{rows}I", *self._sets)], None))
        header = json.dumps({"schema": self.schema(), "sets": sets, "untyped": untyped}).encode()
        # Spaces after it, so that the values of the stream lie aligned in the frame.
        header += b" " * (-(4 + len(header)) % 64)
        self.drop()
        return struct.pack("<I", len(header)) + header + arrow.stream(columns, rows)

    def drop(self):
        """Forgets the rows, keeps what is known of the columns."""
        self._ops, self._sets, self._set_ids, self.bytes = [], [], {}, 0
        for column in self._columns:
            column.cells = []

    def _positions(self):
        """Sets by column become sets by position in the batch; columns without a type come behind all others."""
        untyped, sets = [], []
        for places in self._set_ids:
            positions = []
            for column in (self._columns[place] for place in places):
                if column in self._typed:
                    positions.append(self._typed.index(column))
                    continue
                if column not in untyped:
                    untyped.append(column)
                positions.append(len(self._typed) + untyped.index(column))
            sets.append(sorted(positions))
        return sets, [column.name for column in untyped]


def encoded(column):
    """The column as `arrow.stream` takes it."""
    cells, kind = column.cells, column.kind
    valid = [cell is not None for cell in cells] if None in cells else None
    if kind in FIXED:
        which, parts, form = FIXED[kind]
        data = [struct.pack(f"<{len(cells)}{form}", *(0 if cell is None else cell for cell in cells))]
    elif kind == "BOOLEAN":
        which, parts, data = arrow.BOOL, {}, [arrow.bits(cells)]
    elif kind == "BINARY" or kind in TEXTS:
        which, parts = (arrow.BINARY if kind == "BINARY" else arrow.TEXT), {}
        texts = [b"" if cell is None else cell if isinstance(cell, bytes) else cell.encode() for cell in cells]
        ends = [0]
        for text in texts:
            ends.append(ends[-1] + len(text))
        data = [struct.pack(f"<{len(ends)}i", *ends), b"".join(texts)]
    else:
        precision, scale = lattice.decimal_parts(kind)
        which, parts = arrow.DECIMAL, {0: ("i", precision), 1: ("i", scale), 2: ("i", 128)}
        data = [b"".join((cell or 0).to_bytes(DECIMAL_BYTES, "little", signed=True) for cell in cells)]
    return column.name, 1, which, parts, data, valid


def too_many(text):
    return marked(ValueError(text), "too_many")


def quoted(name):
    return json.dumps(name, ensure_ascii=False)
