"""Owns the peers of `bench.py lake`: peer.py NAME TABLE BATCH, NAME one of
deltalake-create, deltalake-merge, deltalake-append, duckdb-create, duckdb-rewrite, deltalake-read."""

import sys
from pathlib import Path

import duckdb
import pyarrow.dataset
import pyarrow.parquet
from deltalake import DeltaTable, write_deltalake


def deltalake_create(table, base):
    write_deltalake(table, pyarrow.dataset.dataset(base).scanner().to_reader())


def deltalake_merge(table, batch):
    rows = pyarrow.parquet.read_table(batch)
    merger = DeltaTable(table).merge(rows, "target.id = source.id", source_alias="source", target_alias="target")
    merger.when_matched_update_all().when_not_matched_insert_all().execute()


def deltalake_append(table, batch):
    write_deltalake(table, pyarrow.parquet.read_table(batch), mode="append")


def duckdb_create(table, base):
    Path(table).mkdir()
    duckdb.execute(f"COPY (FROM read_parquet('{base}/*.parquet')) TO '{table}/0.parquet' (COMPRESSION zstd, COMPRESSION_LEVEL 1)")


def duckdb_rewrite(table, batch):
    kept = f"FROM read_parquet('{table}/0.parquet') AS old ANTI JOIN read_parquet('{batch}') AS new USING (id)"
    both = f"{kept} UNION ALL FROM read_parquet('{batch}')"
    duckdb.execute(f"COPY ({both}) TO '{table}/1.parquet' (COMPRESSION zstd, COMPRESSION_LEVEL 1)")


def deltalake_read(table, _batch):
    """Every value of the table is decoded."""
    files = DeltaTable(table).file_uris()
    total = sum(pyarrow.parquet.read_table(file).num_rows for file in files)
    print(f"rows {total}")


if __name__ == "__main__":
    name, *paths = sys.argv[1:]
    globals()[name.replace("-", "_")](*paths)
