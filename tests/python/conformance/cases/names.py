"""Names at the destination: the word rule, collisions, schemas, and SOURCE naming."""

from case import Case, Table

COLUMNS = {
    "userID": "user_id", "HTTPServer": "httpserver", "hs_v2_date_x": "hs_v_2_date_x", "7d_click": "_7_d_click",
    "trailing_": "trailing_", "_bool": "_bool", "__double__under__": "_double_under_", "": "_", "user.name": "user_name",
    "Ünïcode": "unicode", "Größe": "grosse", "naïve Café": "naive_cafe", "A1": "a_1", "S3Bucket": "s_3_bucket",
    "createdAt(UTC)": "created_at_utc_", "x-y": "x_y", "ABcD": "abc_d", "2024": "_2024", "v2": "v_2", "$price": "_price",
}  # fmt: skip
TABLES = {
    "OrderLines": "order_lines", "_hidden": "hidden", "__twice": "twice", "$Dollar": "dollar", "9lives": "_9_lives",
    "HTTPLog": "httplog", "with space": "with_space", "Straße": "strasse", "tbl_v2": "tbl_v_2", "Dotted.Name": "dotted_name",
}  # fmt: skip


def named_columns():
    row = {name: i for i, name in enumerate(COLUMNS)}
    expected = {renamed: "INT" for renamed in COLUMNS.values()}
    return Case(
        "names_of_columns", f"op.upsert('name_columns', {{'id': 0, **{row!r}}})",
        "[{'table': 'name_columns', 'primary_key': ['id']}]",
        {"name_columns": Table({"id": "INT", **expected}, [(0, *range(len(COLUMNS)))])},
    )  # fmt: skip


def named_tables():
    schema = [{"table": name, "primary_key": ["id"]} for name in TABLES]
    body = "\n".join(f"op.upsert({name!r}, {{'id': {i}}})" for i, name in enumerate(TABLES))
    return Case("names_of_tables", body, repr(schema), {name: Table({"id": "INT"}, [(i,)]) for i, name in enumerate(TABLES.values())})


SPELLINGS = "[{'table': 'merged', 'primary_key': ['id']}]"
CASES = [
    named_columns(),
    named_tables(),
    *[
        Case(
            f"name_of_column_{number}", f"op.upsert('name_column_{number}', {{'id': 1, {name!r}: 'x'}})",
            f"[{{'table': 'name_column_{number}', 'primary_key': ['id']}}]",
            {f"name_column_{number}": Table({"id": "INT", renamed: "STRING"}, [(1, "x")])},
        )
        for number, (name, renamed) in enumerate({"userData": "user_data", "日本": "ri_ben", "!!!": "_", "ID2": "id_2", "a__b": "a_b"}.items())
    ],
    Case(
        "names_that_collide_are_one_column",
        "op.upsert('merged', {'id': 1, 'userData': 'a', 'user.data': 'b'})\nop.upsert('merged', {'id': 2, 'user.data': 'c'})\nop.upsert('merged', {'id': 3, 'user_data': None, 'UserData': 'd'})",
        SPELLINGS,
        {"merged": Table({"id": "INT", "user_data": "STRING"}, [(1, "b"), (2, "c"), (3, "d")])},
    ),
    Case(
        "names_that_collide_warn",
        "op.upsert('merged', {'id': 1, 'userData': 'a', 'user.data': 'b'})", SPELLINGS,
        {"merged": Table({"id": "INT", "user_data": "STRING"}, [(1, "b")])}, words=("userData", "user.data"),
    ),
    Case(
        "names_that_collide_in_a_row_the_last_none_wins",
        "op.upsert('merged_null', {'id': 1, 'userData': 'a', 'user.data': None})",
        "[{'table': 'merged_null', 'primary_key': ['id']}]",
        {"merged_null": Table({"id": "INT", "user_data": "STRING"}, [(1, None)])},
    ),
    Case(
        "names_of_tables_that_collide_are_one_table",
        "op.upsert('twoWords', {'id': 1})\nop.upsert('two_words', {'id': 2})\nop.upsert('two words', {'id': 2, 'v': 'last'})",
        "[{'table': 'twoWords', 'primary_key': ['id']}]",
        {"two_words": Table({"id": "INT", "v": "STRING"}, [(1, None), (2, "last")])},
    ),
    Case(
        "names_of_declared_tables_that_collide_fail",
        schema="[{'table': 'twoWords', 'primary_key': ['id']}, {'table': 'two_words'}]", fails="SDK-013",
    ),
    Case(
        "names_renamed_key",
        "op.upsert('renamed_key', {'orderID': 1, 'v': 1})\nop.update('renamed_key', {'order_id': 1, 'v': 2})",
        "[{'table': 'renamed_key', 'primary_key': ['orderID']}]",
        {"renamed_key": Table({"order_id": "INT", "v": "INT"}, [(1, 2)])},
    ),
    Case(
        "names_of_its_own_with_the_system_prefix",
        "op.upsert('own_prefix', {'_fivetran_synced_key': 'k', 'v': 1})",
        "[{'table': 'own_prefix', 'primary_key': ['_fivetran_synced_key']}]",
        {"own_prefix": Table({"_fivetran_synced_key": "STRING", "v": "INT"}, [("k", 1)])},
    ),
    Case(
        "names_of_the_system_are_dropped",
        "op.upsert('system_names', {'id': 1, '_fivetran_synced': 'x', '_fivetran_deleted': True, '_fivetran_start': 1, 'v': 1})",
        "[{'table': 'system_names', 'primary_key': ['id']}]",
        {"system_names": Table({"id": "INT", "v": "INT"}, [(1, 1)])}, words=("_fivetran_synced", "_fivetran_start"),
    ),
    Case(
        "names_of_the_system_in_a_key_fail",
        schema="[{'table': 'system_key', 'primary_key': ['_fivetran_id']}]", fails="SDK-013", words=("_fivetran_id",),
    ),
    Case(
        "names_verbatim_by_source_naming",
        "op.upsert('OrderLines', {'lineID': 1, 'a b': 'x', 'Größe': 2, '_x': 3})",
        "[{'table': 'OrderLines', 'primary_key': ['lineID']}]",
        {"OrderLines": Table({"lineID": "INT", "a b": "STRING", "Größe": "INT", "_x": "INT"}, [(1, "x", 2, 3)])},
        naming="SOURCE",
    ),
    Case(
        "names_that_differ_in_source_naming_stay_apart",
        "op.upsert('T', {'id': 1, 'userData': 'a', 'user_data': 'b'})\nop.upsert('_T', {'id': 2})",
        "[{'table': 'T', 'primary_key': ['id']}, {'table': '_T', 'primary_key': ['id']}]",
        {"T": Table({"id": "INT", "userData": "STRING", "user_data": "STRING"}, [(1, "a", "b")]), "_T": Table({"id": "INT"}, [(2,)])},
        naming="SOURCE",
    ),
    Case(
        "schema_of_a_table_is_part_of_its_name",
        "op.upsert('orders', {'id': 1}, schema='northEU')\nop.upsert('orders', {'id': 2}, schema='south')\nop.upsert('orders', {'id': 3})",
        "[{'table': 'orders', 'schema': 'northEU', 'primary_key': ['id']}, {'table': 'orders', 'schema': 'south', 'primary_key': ['id']}, {'table': 'orders', 'primary_key': ['id']}]",
        {"north_eu.orders": Table({"id": "INT"}, [(1,)]), "south.orders": Table({"id": "INT"}, [(2,)]), "orders": Table({"id": "INT"}, [(3,)])},
        alone=True,
    ),
    Case(
        "schema_of_an_operation_alone",
        "op.upsert('orders', {'id': 1, 'v': 1}, schema='east')\nop.update('orders', {'id': 1, 'v': 2}, schema='east')\nop.upsert('orders', {'id': 2, 'v': 1}, schema='east')\nop.delete('orders', {'id': 2}, schema='east')\nop.checkpoint({})\nop.truncate('lines', schema='east')",
        "[{'table': 'orders', 'schema': 'east', 'primary_key': ['id']}]",
        {"east.orders": Table({"id": "INT", "v": "INT"}, [(1, 2)], [(2, 1)])}, alone=True,
    ),
]  # fmt: skip
