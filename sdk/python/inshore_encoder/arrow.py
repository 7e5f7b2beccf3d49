"""Arrow IPC streams of one batch, written byte by byte: the types that columns have, and nothing else of the format.

A flatbuffer is written from its root on: whatever a table refers to comes behind it, so all offsets point forward.
"""

import struct
from collections import deque

CONTINUATION = b"\xff\xff\xff\xff"
VERSION_5 = 4
SCHEMA, RECORD_BATCH = 1, 3
INT, FLOAT, BINARY, TEXT, BOOL, DECIMAL, DATE, TIME, TIMESTAMP = range(2, 11)
MICROSECOND = 2


def stream(columns, rows):
    """`columns`: (name, nullable, kind of type, fields of the type, values or packed bytes, nulls or None)."""
    fields = [field(name, nullable, kind, parts) for name, nullable, kind, parts, *_ in columns]
    schema = Table({1: Vector(fields)})
    nodes, buffers, body = [], [], bytearray()
    for _, _, _, _, data, valid in columns:
        nodes.append((rows, 0 if valid is None else valid.count(False)))
        for part in [b"" if valid is None else bits(valid), *data]:
            buffers.append((len(body), len(part)))
            body += part
            body += bytes(-len(body) % 8)
    batch = Table({0: Scalar("q", rows), 1: Pairs(nodes), 2: Pairs(buffers)})
    return message(SCHEMA, schema, b"") + message(RECORD_BATCH, batch, bytes(body)) + CONTINUATION + bytes(4)


def field(name, nullable, kind, parts):
    described = Table({slot: Text(part) if isinstance(part, str) else Scalar(*part) for slot, part in parts.items()})
    return Table({0: Text(name), 1: Scalar("B", nullable), 2: Scalar("B", kind), 3: described, 5: Vector([])})


def message(kind, header, body):
    root = Table({0: Scalar("h", VERSION_5), 1: Scalar("B", kind), 2: header, 3: Scalar("q", len(body))})
    metadata = flatbuffer(root)
    metadata += bytes(-len(metadata) % 8)
    return CONTINUATION + struct.pack("<i", len(metadata)) + metadata + body


def bits(flags):
    packed = bytearray((len(flags) + 7) // 8)
    for place, flag in enumerate(flags):
        if flag:
            packed[place >> 3] |= 1 << (place & 7)
    return bytes(packed)


# ---- flatbuffers ----------------------------------------------------------------------------------------------------


def flatbuffer(root):
    out, waiting = bytearray(4), deque([(0, root)])
    while waiting:
        place, part = waiting.popleft()
        start = part.write(out, waiting)
        struct.pack_into("<I", out, place, start - place)
    return bytes(out)


def align(out, size, ahead=0):
    """Pads so that what comes `ahead` bytes later is at a multiple of `size`."""
    out += bytes(-(len(out) + ahead) % size)


class Scalar:
    def __init__(self, form, value):
        self.form, self.value = "<" + form, value
        self.size = struct.calcsize(self.form)


class Table:
    """Slot → Scalar, or what is written elsewhere."""

    def __init__(self, slots):
        self._slots = slots

    def write(self, out, waiting):
        count = max(self._slots, default=-1) + 1
        offsets, size = [0] * count, 4
        for slot, part in self._slots.items():
            width = part.size if isinstance(part, Scalar) else 4
            size += -size % width
            offsets[slot] = size
            size += width
        vtable = struct.pack(f"<HH{count}H", 4 + 2 * count, size, *offsets)
        align(out, 8, len(vtable))
        out += vtable
        start = len(out)
        out += struct.pack("<i", len(vtable)) + bytes(size - 4)
        for slot, part in self._slots.items():
            place = start + offsets[slot]
            if isinstance(part, Scalar):
                struct.pack_into(part.form, out, place, part.value)
            else:
                waiting.append((place, part))
        return start


class Text:
    def __init__(self, text):
        self._bytes = text.encode()

    def write(self, out, waiting):
        align(out, 4)
        start = len(out)
        out += struct.pack("<I", len(self._bytes)) + self._bytes + b"\0"
        return start


class Vector:
    """Of tables."""

    def __init__(self, parts):
        self._parts = parts

    def write(self, out, waiting):
        align(out, 4)
        start = len(out)
        out += struct.pack("<I", len(self._parts)) + bytes(4 * len(self._parts))
        waiting.extend((start + 4 + 4 * place, part) for place, part in enumerate(self._parts))
        return start


class Pairs:
    """Of structs of two 64-bit numbers."""

    def __init__(self, pairs):
        self._pairs = pairs

    def write(self, out, waiting):
        align(out, 8, 4)
        start = len(out)
        out += struct.pack("<I", len(self._pairs)) + b"".join(struct.pack("<qq", *pair) for pair in self._pairs)
        return start
