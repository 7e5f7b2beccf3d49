"""Checks what a connector's schema() returned and turns it into plain tuples for the native module.

Owns the rules of a declaration (required keys, types, duplicates); renaming and building tables is the native side's.
"""

DECIMAL_PRECISION_MAX = 38
DECIMAL_SCALE_MAX = 37
TYPES = frozenset(
    "BOOLEAN SHORT INT LONG FLOAT DOUBLE NAIVE_DATE NAIVE_DATETIME UTC_DATETIME BINARY XML STRING JSON".split()
)
HINTS = {
    "DECIMAL": ": write {'type': 'DECIMAL', 'precision': 15, 'scale': 2}",
    "NAIVE_TIME": ": a time of day is declared as STRING",
}
# As in the native module: any other name is the connector's own, whatever it begins with.
SYSTEM_COLUMNS = frozenset(
    f"_fivetran_{name}" for name in ("id", "deleted", "synced", "active", "start", "end", "batch", "index")
)


class SchemaError(ValueError):
    """The declaration is wrong; the message says which table and what to change."""


def declared(result, warn):
    """Returns [(schema or None, table, [key], [(column, type or None)])]; key columns come first, in the given order."""
    if result is None or isinstance(result, (dict, str, bytes)):
        raise SchemaError(f"schema() must return a list of dicts, not {type(result).__name__}")
    try:
        entries = iter(result)
    except TypeError as cause:
        raise SchemaError(f"schema() must return a list of dicts, not {type(result).__name__}") from cause
    tables, seen = [], set()
    for entry in entries:
        table = _table(entry, warn)
        if table[:2] in seen:
            raise SchemaError(f"schema() declares table {table[1]!r} twice")
        seen.add(table[:2])
        tables.append(table)
    return tables


def _table(entry, warn):
    if not isinstance(entry, dict):
        raise SchemaError(f"schema() must return a list of dicts; one entry is a {type(entry).__name__}")
    table = entry.get("table")
    if not isinstance(table, str) or not table.strip():
        raise SchemaError("an entry of schema() has no 'table' name")
    schema = entry.get("schema")
    if schema is not None and (not isinstance(schema, str) or not schema.strip()):
        raise SchemaError(f"'schema' of table {table!r} must be a non-blank str")
    key = _key(table, entry.get("primary_key", ()))
    columns = entry.get("columns", {})
    if not isinstance(columns, dict):
        raise SchemaError(f"'columns' of table {table!r} must be a dict of name to type, not {type(columns).__name__}")
    types = {_name(table, name): _type(table, name, kind, warn) for name, kind in columns.items()}
    ordered = list(dict.fromkeys([*key, *types]))
    return schema, table, key, [(name, types.get(name)) for name in ordered]


def _key(table, key):
    if isinstance(key, (str, bytes)):
        raise SchemaError(f"'primary_key' of table {table!r} must be a list of column names, not one string")
    try:
        names = list(key)
    except TypeError as cause:
        raise SchemaError(f"'primary_key' of table {table!r} must be a list of column names") from cause
    names = list(dict.fromkeys(_name(table, name) for name in names))
    reserved = [name for name in names if name in SYSTEM_COLUMNS]
    if reserved:
        raise SchemaError(f"'primary_key' of table {table!r} names the system column {reserved[0]!r}")
    return names


def _name(table, name):
    if not isinstance(name, str):
        raise SchemaError(f"table {table!r} has a column name that is a {type(name).__name__}, not a str")
    return name


def _type(table, column, kind, warn):
    if isinstance(kind, dict):
        return _decimal(table, column, kind, warn)
    if not isinstance(kind, str) or kind.upper() not in TYPES:
        hint = HINTS.get(kind.upper(), "") if isinstance(kind, str) else ""
        raise SchemaError(f"column {column!r} of table {table!r} has the unknown type {kind!r}{hint}")
    return kind.upper()


def _decimal(table, column, kind, warn):
    precision, scale = kind.get("precision"), kind.get("scale")
    if str(kind.get("type")).upper() != "DECIMAL":
        raise SchemaError(f"column {column!r} of table {table!r}: only DECIMAL is given as a dict")
    if not all(type(number) is int and number >= 0 for number in (precision, scale)):
        raise SchemaError(f"column {column!r} of table {table!r}: DECIMAL needs whole 'precision' and 'scale'")
    fitted = min(max(precision, 1), DECIMAL_PRECISION_MAX)
    fitted_scale = min(scale, DECIMAL_SCALE_MAX, fitted)
    if (fitted, fitted_scale) != (precision, scale):
        warn(f"DECIMAL({precision},{scale}) of {table}.{column} becomes DECIMAL({fitted},{fitted_scale})")
    return f"DECIMAL({fitted},{fitted_scale})"
