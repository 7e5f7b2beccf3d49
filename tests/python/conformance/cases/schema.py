"""What `schema(configuration)` may return, and what it must not."""

from case import Case, Table

ONE = {"declared": Table({"id": "INT"}, [(1,)])}


def form(name, source, tables=None, **more):
    """A whole connector around a schema function."""
    return Case(f"schema_{name}", source=HEAD + source + UPDATE, tables=tables if tables is not None else ONE, **more)


HEAD = "from fivetran_connector_sdk import Connector, Logging as log, Operations as op\n"
UPDATE = """
def update(configuration, state):
    op.upsert("declared", {"id": 1})

connector = Connector(update=update, schema=schema)
"""


def refused(name, expression, *words):
    return form(name, f"def schema(configuration):\n    return {expression}\n", {}, fails="SDK-013", words=words)


def column(kind):
    return f"[{{'table': 'declared', 'primary_key': ['id'], 'columns': {{'v': {kind}}}}}]"


def clamped(name, precision, scale, kind):
    declared = f"{{'type': 'DECIMAL', 'precision': {precision}, 'scale': {scale}}}"
    return form(
        f"decimal_{name}", f"def schema(configuration):\n    return {column(declared)}\n",
        {"declared": Table({"id": "INT", "v": kind}, [(1, None)])}, words=(f"DECIMAL({precision},{scale})", kind),
    )  # fmt: skip


CASES = [
    form("tuple", "def schema(configuration):\n    return ({'table': 'declared', 'primary_key': ('id',)},)\n"),
    form("generator", "def schema(configuration):\n    yield {'table': 'declared', 'primary_key': (name for name in ['id'])}\n"),
    form("other_parameter_name", "def schema(anything):\n    return [{'table': 'declared', 'primary_key': ['id']}]\n"),
    form("other_keys_are_ignored", "def schema(configuration):\n    return [{'table': 'declared', 'primary_key': ['id'], 'comment': object()}]\n"),
    form("sees_the_configuration", "def schema(configuration):\n    return [{'table': configuration['name'], 'primary_key': ['id']}]\n", configuration={"name": "declared"}),
    form("empty_list", "def schema(configuration):\n    return []\n", {"declared": Table({"id": "INT"}, [(1,)], keyless=True)}),
    Case("schema_absent_infers_all", "op.upsert('inferred_all', {'id': 1, 'v': 'x'})", None, {"inferred_all": Table({"id": "INT", "v": "STRING"}, [(1, "x")], keyless=True)}),
    form("types_in_any_case", f"def schema(configuration):\n    return {column(repr('nAiVe_DaTe'))}\n", {"declared": Table({"id": "INT", "v": "NAIVE_DATE"}, [(1, None)])}),
    clamped("precision_is_clamped", 50, 10, "DECIMAL(38,10)"),
    clamped("scale_is_clamped", 60, 60, "DECIMAL(38,37)"),
    refused("none", "None", "schema()"),
    refused("one_dict", "{'table': 'declared'}", "dict"),
    refused("text", "'declared'", "str"),
    refused("number", "5", "int"),
    refused("entry_is_no_dict", "['declared']", "str"),
    refused("entry_without_table", "[{'primary_key': ['id']}]", "table"),
    refused("blank_table", "[{'table': '  '}]"),
    refused("table_is_no_text", "[{'table': 5}]"),
    refused("primary_key_is_one_text", "[{'table': 'declared', 'primary_key': 'id'}]", "primary_key", "declared"),
    refused("primary_key_is_none", "[{'table': 'declared', 'primary_key': None}]", "primary_key"),
    refused("primary_key_of_numbers", "[{'table': 'declared', 'primary_key': [1]}]"),
    refused("columns_is_none", "[{'table': 'declared', 'columns': None}]", "columns"),
    refused("columns_is_a_list", "[{'table': 'declared', 'columns': ['id']}]", "columns"),
    refused("column_name_is_no_text", "[{'table': 'declared', 'columns': {1: 'INT'}}]"),
    refused("unknown_type", column(repr("TEXT")), "TEXT", "v"),
    refused("plain_decimal", column(repr("DECIMAL"))),
    refused("naive_time", column(repr("NAIVE_TIME"))),
    refused("type_is_none", column("None")),
    refused("decimal_without_precision", column("{'type': 'DECIMAL', 'scale': 2}"), "precision"),
    refused("decimal_without_scale", column("{'type': 'DECIMAL', 'precision': 2}"), "scale"),
    refused("decimal_negative", column("{'type': 'DECIMAL', 'precision': -1, 'scale': 2}")),
    refused("decimal_text_precision", column("{'type': 'DECIMAL', 'precision': '10', 'scale': '2'}")),
    refused("other_dict_type", column("{'type': 'STRING'}")),
    refused("duplicate_table", "[{'table': 'declared'}, {'table': 'declared'}]", "declared"),
    refused("duplicate_table_in_a_schema", "[{'table': 'declared', 'schema': 's'}, {'table': 'declared', 'schema': 's'}]"),
    refused("blank_schema", "[{'table': 'declared', 'schema': ' '}]", "schema"),
    refused("schema_is_no_text", "[{'table': 'declared', 'schema': 5}]", "schema"),
    form("that_raises", "def schema(configuration):\n    raise RuntimeError('no schema today')\n", {}, fails="SDK-001", words=("no schema today",)),
    Case(
        "schema_key_columns_come_first", "op.upsert('key_first', {'b': 1, 'z': 'x', 'id': 2, 'a': 3})",
        "[{'table': 'key_first', 'columns': {'z': 'STRING', 'id': 'LONG', 'a': 'INT', 'b': 'INT'}, 'primary_key': ['a', 'id']}]",
        {"key_first": Table({"a": "INT", "id": "LONG", "z": "STRING", "b": "INT"}, [(3, 2, "x", 1)], ordered=True)},
    ),
]  # fmt: skip
