"""What surprises whoever knows the platform only by its documentation: one case each, here or in another theme.

SURPRISES names the case of each; the runner refuses a name that no case has. Three surprises of the contract concern
gRPC peers and function connectors, which this product does not run yet: an empty `state_json`, `hasMore: "false"` and
backslashes in CSV files.
"""

from case import Case, Table

SURPRISES = {
    "update is called by keyword, schema with one positional argument": ("inputs_update_by_keyword", "schema_other_parameter_name"),
    "schema runs before update, in the same process": ("surprise_schema_and_update_share_a_process",),
    "sys.exit is a success": ("ends_by_exit_0", "ends_by_exit_none"),
    "floats have 32 bits there, 64 here": ("inferred_float_keeps_64_bits",),
    "Decimal, datetime, tuple and numpy become text": (
        "inferred_decimal_is_text", "inferred_datetime_is_text", "inferred_tuple_is_text", "inferred_numpy_like_integer_is_text",
    ),
    "-2^63 is a float there, a LONG here": ("inferred_minus_2_63_is_long",),
    "text is never parsed": ("inferred_text_of_digits_stays_text", "inferred_text_of_a_date_stays_text", "inferred_text_true_stays_text"),
    "an upsert makes omitted columns NULL": ("table_upsert_makes_absent_columns_null",),
    "DECIMAL takes text only there, numbers too here": ("declared_decimal",),
    "a text in a JSON column is encoded twice": ("declared_json",),
    "a dict in a STRING column is its repr": ("declared_string",),
    "an aware datetime shifts to UTC as NAIVE_DATETIME, not as NAIVE_DATE": ("declared_naive_datetime", "declared_naive_date"),
    "primary_key as one text": ("schema_primary_key_is_one_text",),
    "no debug lines in production": ("surprise_debug_lines_in_production", "surprise_debug_lines_in_debug"),
    "op.error does not stop": ("error_does_not_stop_the_code",),
    "no state advances after an exception": ("ends_by_an_exception",),
    "a checkpoint spans all threads": ("surprise_checkpoint_spans_threads",),
    "a truncate is bounded in time": ("table_truncate_marks_earlier_rows", "table_truncate_twice"),
    "v2 becomes v_2, tables lose a leading _": ("names_of_columns", "names_of_tables"),
    "undeclared columns of NULL do not exist, declared empty ones do": ("inferred_none_makes_no_column", "declared_column_that_is_always_null_exists"),
    "the environment is there before the import": ("inputs_environment_debug", "inputs_environment_agent"),
    "two spellings of a log line's origin": ("surprise_log_origin_has_two_spellings",),
    "lib, include and hidden files never ship": ("surprise_ignored_folders_do_not_ship",),
}  # fmt: skip

KEYED = "[{'table': 'seen', 'primary_key': ['id']}]"
LEVELS = "log.debug('a debug line')\nlog.fine('a fine line')\nlog.info('an info line')\nop.upsert('seen', {'id': 1})"
SEEN = {"seen": Table({"id": "INT"}, [(1,)])}

CASES = [
    Case(
        "surprise_schema_and_update_share_a_process",
        source="""
        from fivetran_connector_sdk import Connector, Operations as op
        import os
        CALLS = []
        def schema(configuration):
            CALLS.append(os.getpid())
            return [{"table": "seen", "primary_key": ["id"]}]
        def update(configuration, state):
            op.upsert("seen", {"id": 1, "same": CALLS == [os.getpid()]})
        connector = Connector(update=update, schema=schema)
        """,
        tables={"seen": Table({"id": "INT", "same": "BOOLEAN"}, [(1, True)])},
    ),
    Case(
        "surprise_checkpoint_spans_threads",
        """
        import threading
        ready, go = threading.Event(), threading.Event()
        def work():
            op.upsert("seen", {"id": 1})
            ready.set()
            go.wait(20)
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        ready.wait(20)
        op.checkpoint({"at": 1})
        go.set()
        thread.join()
        raise ValueError("the other thread's row is safe")
        """,
        KEYED, SEEN, state={"at": 1}, fails="SDK-001",
    ),
    Case("surprise_debug_lines_in_production", LEVELS, KEYED, SEEN, only="agent", words=("an info line",), unsaid=("a debug line", "a fine line")),
    Case("surprise_debug_lines_in_debug", LEVELS, KEYED, SEEN, only="debug", words=("an info line", "a debug line", "a fine line")),
    Case(
        "surprise_log_origin_has_two_spellings",
        """
        import json
        for origin in ("message_origin", "message-origin"):
            print(json.dumps({"level": "WARNING", "message": "spelled " + origin, origin: "connector_sdk"}), flush=True)
        print("no JSON at all", flush=True)
        op.upsert("seen", {"id": 1})
        """,
        KEYED, SEEN, words=("spelled message_origin", "spelled message-origin", "no JSON at all"), unsaid=('{"level"',),
    ),
    Case("surprise_log_level_is_public", "log.LOG_LEVEL = log.Level.WARNING\nlog.info('too low')\nlog.warning('high enough')\nop.upsert('seen', {'id': 1})", KEYED, SEEN, words=("high enough",), unsaid=("too low",)),
    Case(
        "surprise_star_import_has_no_connector",
        source="""
        from fivetran_connector_sdk import *
        try:
            Connector
        except NameError:
            from fivetran_connector_sdk import Connector
            def update(configuration, state):
                Operations.upsert("seen", {"id": 1})
            connector = Connector(update=update)
        """,
        tables={"seen": Table({"id": "INT"}, [(1,)], keyless=True)},
    ),
    Case(
        "surprise_modules_beside_the_connector_are_found",
        """
        import helper
        from package.part import VALUE
        op.upsert("seen", {"id": helper.ID, "v": VALUE, "where": os.path.isfile("connector.py")})
        """,
        KEYED, {"seen": Table({"id": "INT", "v": "STRING", "where": "BOOLEAN"}, [(1, "part", True)])}, "import os\n",
        files={"helper.py": "ID = 1\n", "package/__init__.py": "", "package/part.py": "VALUE = 'part'\n"},
    ),
    Case(
        "surprise_ignored_folders_do_not_ship",
        """
        there = [name for name in ("lib/a.txt", "sub/include/b.txt", ".hidden", "kept/c.txt") if os.path.exists(name)]
        op.upsert("seen", {"id": 1, "there": ",".join(there)})
        """,
        KEYED, {"seen": Table({"id": "INT", "there": "STRING"}, [(1, "kept/c.txt")])}, "import os\n",
        files={"lib/a.txt": "", "sub/include/b.txt": "", ".hidden": "", "kept/c.txt": "kept"}, only="agent",
    ),
    Case(
        "surprise_a_module_of_our_name_is_not_taken",
        "op.upsert('seen', {'id': 1})", KEYED, SEEN,
        files={"fivetran_connector_sdk.py": "raise RuntimeError('not this one')\n", "_inshore.py": "raise RuntimeError('nor this')\n"},
    ),
]  # fmt: skip
