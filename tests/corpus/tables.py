"""A run's tables as the JSON that the corpus compares: {"table": {"rows": [{column: value}], "deleted": [...]}}.

Rows that a sync marked as deleted are apart, and the columns that the product adds are left out. So are tables that hold
nothing: a declared table exists from the first sync on, and a corpus only knows tables that got a row.
"""

import base64

LOCAL_SCHEMA = "tester"
ADDED_COLUMNS = {"_fivetran_synced", "_fivetran_deleted", "_fivetran_id"}


def warehouse_tables(path):
    """The tables of a local run."""
    import duckdb

    with duckdb.connect(str(path), read_only=True) as connection:
        connection.execute("set timezone = 'UTC'")
        names = connection.execute(
            "select table_schema, table_name from information_schema.tables order by 1, 2"
        ).fetchall()
        found = {table_name(schema, table): warehouse_table(connection, schema, table) for schema, table in names}
        return with_rows(found)


def lake_tables(lake, connection_name):
    """The tables of one connection, as DuckDB reads them out of their Delta logs."""
    import duckdb
    from duckdb_extensions import import_extension

    found = {}
    with duckdb.connect() as connection:
        import_extension("delta", con=connection)
        connection.execute("set timezone = 'UTC'")
        for log in sorted(lake.glob(f"{connection_name}*/*/_delta_log")):
            folder = log.parent
            source = "delta_scan('" + str(folder).replace("'", "''") + "')"
            name = table_name(folder.parent.name, folder.name, connection_name)
            found[name] = read_table(connection, source)
    return with_rows(found)


def with_rows(tables):
    return {name: table for name, table in tables.items() if table["rows"] or table["deleted"]}


def warehouse_table(connection, schema, table):
    return read_table(connection, f"{quoted(schema)}.{quoted(table)}")


def read_table(connection, source):
    described = connection.execute(f"describe select * from {source}").fetchall()
    columns = [(name, kind) for name, kind, *_ in described]
    chosen = ", ".join(selected(name, kind) for name, kind in columns)
    cursor = connection.execute(f"select {chosen} from {source}")
    return split([name for name, _ in columns], cursor.fetchall())


def selected(name, kind):
    """Times and decimals as text: Python's own types hold fewer of them. Instants in the form that APIs send."""
    if kind in ("BOOLEAN", "SMALLINT", "INTEGER", "BIGINT", "FLOAT", "DOUBLE", "VARCHAR", "BLOB"):
        return quoted(name)
    text = f"cast({quoted(name)} as varchar)"
    return f"replace(replace({text}, ' ', 'T'), '+00', 'Z')" if kind == "TIMESTAMP WITH TIME ZONE" else text


def split(columns, rows):
    """Live and deleted rows apart."""
    found = {"rows": [], "deleted": []}
    for row in rows:
        named = dict(zip(columns, row))
        kind = "deleted" if named.get("_fivetran_deleted") else "rows"
        found[kind].append({name: plain(value) for name, value in named.items() if name not in ADDED_COLUMNS})
    return found


def plain(value):
    return base64.b64encode(value).decode() if isinstance(value, (bytes, bytearray)) else value


def table_name(schema, table, connection_name=LOCAL_SCHEMA):
    """`table`, or `schema.table` where the connector named a schema."""
    own = schema.removeprefix(connection_name).lstrip("_")
    return f"{own}.{table}" if own else table


def quoted(name):
    return '"' + name.replace('"', '""') + '"'
