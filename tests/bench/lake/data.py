"""Owns the rows of `bench.py lake`: data.py FOLDER --rows N --key int64|uuid

A table of N rows in key order (of an `int64` key) in base/, and batches to upsert: `scattered` and `recent` hold a tenth
as many rows, nine of ten with existing keys, over the whole table or in its last tenth; `small` has 1,000 existing rows;
`fresh` a tenth of new ones. Every row of a batch has `source` "batch".
"""

import argparse
import uuid
from pathlib import Path

import numpy
import pyarrow
import pyarrow.compute
import pyarrow.parquet

FILE_ROWS = 1_000_000
WORDS = ["harbour", "lantern", "compass", "anchor", "current", "shallow", "beacon", "channel"]
START_US, YEAR_US = 1_735_689_600_000_000, 31_536_000_000_000


def texts(numbers):
    """A text of 36 characters per number, in no order of the numbers."""
    mixed = numbers.astype(numpy.uint64) * numpy.uint64(0x9E3779B97F4A7C15)
    halves = zip(mixed.tolist(), numbers.tolist(), strict=True)
    return pyarrow.array([str(uuid.UUID(int=high << 64 | low)) for high, low in halves])


def rows(numbers, source, key, generator):
    count = len(numbers)
    words = pyarrow.array(WORDS)
    picks = generator.integers(0, len(WORDS), (3, count))
    parts = [words.take(pyarrow.array(pick)) for pick in picks]
    note = pyarrow.compute.binary_join_element_wise(*parts, pyarrow.array(numbers).cast(pyarrow.string()), "-")
    moments = START_US + generator.integers(0, YEAR_US, count)
    return pyarrow.table({
        "id": texts(numbers) if key == "uuid" else pyarrow.array(numbers, pyarrow.int64()),
        "customer": pyarrow.array(generator.integers(0, 1_000_000, count), pyarrow.int64()),
        "quantity": pyarrow.array(generator.integers(1, 100, count), pyarrow.int32()),
        "price": pyarrow.array(generator.random(count) * 1_000),
        "active": pyarrow.array(generator.random(count) < 0.5),
        "status": words.take(pyarrow.array(generator.integers(0, len(WORDS), count))),
        "note": note,
        "updated_at": pyarrow.array(moments, pyarrow.timestamp("us", "UTC")),
        "source": pyarrow.array([source]).take(pyarrow.array(numpy.zeros(count, numpy.int64))),
    })


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--key", choices=["int64", "uuid"], required=True)
    arguments = parser.parse_args()
    total, size, generator = arguments.rows, arguments.rows // 10, numpy.random.default_rng(seed=7)
    (arguments.folder / "base").mkdir(parents=True)

    def write(numbers, source, name):
        table = rows(numbers, source, arguments.key, generator)
        pyarrow.parquet.write_table(table, arguments.folder / name, compression="zstd", compression_level=1)

    for part, first in enumerate(range(0, total, FILE_ROWS)):
        write(numpy.arange(first, min(total, first + FILE_ROWS)), "base", f"base/{part:05}.parquet")
    for name, first in (("scattered", 0), ("recent", total - size)):
        known = first + generator.choice(total - first, size * 9 // 10, replace=False)
        batch = numpy.concatenate([known, numpy.arange(total, total + size - len(known))])
        generator.shuffle(batch)
        write(batch, "batch", f"{name}.parquet")
    write(generator.choice(total, min(1_000, total), replace=False), "batch", "small.parquet")
    write(numpy.arange(total, total + size), "batch", "fresh.parquet")


if __name__ == "__main__":
    main()
