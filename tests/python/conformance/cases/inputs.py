"""What a connector is given: configuration, state, environment; and how its functions are called."""

from case import Case, Table, own_table

KEYED = "[{'table': 'seen', 'primary_key': ['id']}]"
MODELS = {"debug": "local_debug", "agent": "hybrid_cloud"}


def seen(columns, *row):
    return {"seen": Table(columns, [row])}


def environment(path):
    names = ["FIVETRAN_CONNECTION_ID", "FIVETRAN_DEPLOYMENT_MODEL", "FIVETRAN_GROUP_ID", "FIVETRAN_CONNECTION_NAME"]
    return Case(
        f"inputs_environment_{path}",
        f"op.upsert('seen', {{'id': 1, 'model': BEFORE['FIVETRAN_DEPLOYMENT_MODEL'], 'all': all(BEFORE.values()), 'same': BEFORE == now()}})",
        KEYED, seen({"id": "INT", "model": "STRING", "all": "BOOLEAN", "same": "BOOLEAN"}, 1, MODELS[path], True, True),
        f"import os\ndef now():\n    return {{name: os.environ[name] for name in {names}}}\nBEFORE = now()\n", only=path,
    )  # fmt: skip


CASES = [
    environment("debug"),
    environment("agent"),
    Case(
        "inputs_configuration_is_text",
        "op.upsert('seen', {'id': 1, 'n': configuration['number'], 't': configuration['truth'], 'j': configuration['json'], 'size': len(configuration)})",
        KEYED, seen({"id": "INT", "n": "STRING", "t": "STRING", "j": "STRING", "size": "INT"}, 1, "5", "true", '{"a": [1]}', 4),
        configuration={"number": "5", "truth": "true", "json": '{"a": [1]}'},
    ),
    Case(
        "inputs_state_is_an_empty_object_at_first",
        "op.upsert('seen', {'id': 1, 'type': type(state).__name__, 'size': len(state)})",
        KEYED, seen({"id": "INT", "type": "STRING", "size": "INT"}, 1, "dict", 0), state={},
    ),
    Case(
        "inputs_state_goes_round_as_json",
        """
        if sync == 1:
            op.checkpoint({"t": (1, 2), 3: "int key", "f": 1.5, "n": None, "u": "ü😀", "b": True, "deep": {"a": [{}]}})
        else:
            op.upsert("seen", {"id": 1, "state": state})
        """,
        KEYED,
        seen({"id": "INT", "state": "JSON"}, 1, '{"t": [1, 2], "3": "int key", "f": 1.5, "n": null, "u": "\\u00fc\\ud83d\\ude00", "b": true, "deep": {"a": [{}]}}'),
        syncs=2, state={"t": [1, 2], "3": "int key", "f": 1.5, "n": None, "u": "ü😀", "b": True, "deep": {"a": [{}]}},
    ),
    Case(
        "inputs_state_is_the_last_checkpoint",
        "for i in range(3):\n    op.upsert('seen', {'id': i})\n    op.checkpoint({'at': i})",
        KEYED, {"seen": Table({"id": "INT"}, [(0,), (1,), (2,)])}, state={"at": 2},
    ),
    Case(
        "inputs_state_without_a_checkpoint_stays",
        "if sync == 1:\n    op.checkpoint({'at': 1})\nelse:\n    op.upsert('seen', {'id': 1})",
        KEYED, seen({"id": "INT"}, 1), state={"at": 1}, syncs=2,
    ),
    Case(
        "inputs_changed_state_object_does_not_count",
        "state['mine'] = 1\nop.upsert('seen', {'id': 1})\nop.checkpoint({'kept': 1})\nstate['more'] = 2",
        KEYED, seen({"id": "INT"}, 1), state={"kept": 1},
    ),
    Case("inputs_state_may_be_a_list", "op.upsert('seen', {'id': 1})\nop.checkpoint([1, 2])", KEYED, seen({"id": "INT"}, 1), state=[1, 2], words=("state",)),
    Case("inputs_state_that_is_no_json_fails", "op.upsert('seen', {'id': 1})\nop.checkpoint({'x': object()})", KEYED, {}, fails="SDK-005"),
    Case(
        "inputs_state_error_may_be_caught",
        "try:\n    op.checkpoint({'x': {1, 2}})\nexcept TypeError:\n    op.upsert('seen', {'id': 1})\nop.checkpoint({'x': 1})",
        KEYED, seen({"id": "INT"}, 1), state={"x": 1},
    ),
    Case("inputs_state_beyond_10_mib_fails", "op.checkpoint({'x': 'a' * (10 * 1024 * 1024)})", KEYED, {}, fails="SDK-006"),
    Case(
        "inputs_state_of_9_mib_warns",
        "op.checkpoint({'x': 'a' * (9 * 1024 * 1024)})\nop.upsert('seen', {'id': 1})\nop.checkpoint({'x': 1})",
        KEYED, seen({"id": "INT"}, 1), state={"x": 1}, words=("state is ",),
    ),
    Case(
        "inputs_large_state_comes_back",
        "if sync == 1:\n    op.checkpoint({'x': 'b' * 1_000_000})\nelse:\n    op.upsert('seen', {'id': 1, 'n': len(state['x'])})\n    op.checkpoint({'x': 1})",
        KEYED, seen({"id": "INT", "n": "INT"}, 1, 1_000_000), syncs=2, state={"x": 1},
    ),
    Case(
        "inputs_rows_without_a_checkpoint_are_delivered",
        "op.upsert('seen', {'id': 1})\nop.checkpoint({'at': 1})\nop.upsert('seen', {'id': 2})",
        KEYED, {"seen": Table({"id": "INT"}, [(1,), (2,)])}, state={"at": 1},
    ),
    Case(
        "inputs_update_by_keyword",
        source="""
        from fivetran_connector_sdk import Connector, Operations as op
        def update(state, configuration):
            op.upsert("seen", {"id": 1, "sync": configuration["sync"], "state": state})
        connector = Connector(update=update)
        """,
        tables={"seen": Table({"id": "INT", "sync": "STRING", "state": "JSON"}, [(1, "1", "{}")], keyless=True)},
    ),
    Case(
        "inputs_update_with_keyword_arguments",
        source="""
        from fivetran_connector_sdk import Connector, Operations as op
        def update(**given):
            op.upsert("seen", {"id": 1, "names": ",".join(sorted(given))})
        connector = Connector(update=update)
        """,
        tables={"seen": Table({"id": "INT", "names": "STRING"}, [(1, "configuration,state")], keyless=True)},
    ),
    Case(
        "inputs_update_with_other_names_fails",
        source="""
        from fivetran_connector_sdk import Connector, Operations as op
        def update(config, cursor):
            op.upsert("seen", {"id": 1})
        connector = Connector(update=update)
        """,
        fails="SDK-001", words=("TypeError",),
    ),
    Case(
        "inputs_generator_is_run_to_its_end",
        "op.upsert('seen', {'id': 1})\nyield op.upsert('seen', {'id': 2})\nyield op.checkpoint({'at': 2})\nop.upsert('seen', {'id': 3})\nyield 5",
        KEYED, {"seen": Table({"id": "INT"}, [(1,), (2,), (3,)])}, state={"at": 2},
    ),
    Case("inputs_result_of_update_is_ignored", "op.upsert('seen', {'id': 1})\nreturn [1, 2]", KEYED, seen({"id": "INT"}, 1), alone=True),
    Case(
        "inputs_operations_return_none",
        "r = [op.upsert('seen', {'id': 1}), op.update('seen', {'id': 1, 'v': 1}), op.delete('seen', {'id': 2}), op.truncate('other'), op.checkpoint({}), op.warning('w')]\n"
        "op.upsert('seen', {'id': 3, 'v': len([x for x in r if x is None])})",
        KEYED, {"seen": Table({"id": "INT", "v": "INT"}, [(1, 1), (3, 6)])}, alone=True,
    ),
    Case(
        "inputs_operations_by_keyword",
        "op.upsert(table='seen', data={'id': 1, 'v': 1})\nop.upsert(table='seen', data={'id': 2, 'v': 1})\nop.update(table='seen', modified={'id': 1, 'v': 2})\n"
        "op.delete(table='seen', keys={'id': 2})\nop.checkpoint(state={'k': 1})",
        KEYED, {"seen": Table({"id": "INT", "v": "INT"}, [(1, 2)], [(2, 1)])}, state={"k": 1},
    ),
    Case(
        "inputs_wrong_calls_raise",
        """
        calls = [
            (TypeError, lambda: op.upsert(5, {"id": 1})), (ValueError, lambda: op.upsert(" ", {"id": 1})),
            (TypeError, lambda: op.upsert("seen", {1: 2})), (TypeError, lambda: op.upsert("seen", {None: 2})),
            (AttributeError, lambda: op.upsert("seen", None)), (TypeError, lambda: op.delete("seen", key={"id": 1})),
            (ValueError, lambda: op.upsert("seen", {"id": 1}, schema="")), (TypeError, lambda: op.upsert("seen", {"id": 1}, schema=5)),
            (TypeError, lambda: op.truncate(None)), (TypeError, lambda: op.error(5)), (ValueError, lambda: op.error(" ")),
            (TypeError, lambda: op.error("x", trace=5)), (TypeError, lambda: op.warning(None)), (ValueError, lambda: op.warning("")),
            (UnicodeEncodeError, lambda: op.upsert("seen", {"\\ud800": 1})),
        ]
        wrong = []
        for number, (kind, call) in enumerate(calls):
            try:
                call()
                wrong.append(f"{number}: nothing was raised")
            except Exception as error:
                if not isinstance(error, kind):
                    wrong.append(f"{number}: {type(error).__name__}: {error}")
        op.upsert("seen", {"id": 1, "wrong": "; ".join(wrong)})
        """,
        KEYED, seen({"id": "INT", "wrong": "STRING"}, 1, ""), alone=True,
    ),
    Case(
        "inputs_a_row_is_taken_at_once",
        "row = {'id': 1, 'v': [1]}\nop.upsert('seen', row)\nrow['v'].append(2)\nrow['id'] = 2\nop.upsert('seen', row)",
        KEYED, {"seen": Table({"id": "INT", "v": "JSON"}, [(1, "[1]"), (2, "[1, 2]")])}, alone=True,
    ),
    Case(
        "inputs_threads",
        """
        import threading
        def work(number):
            for i in range(500):
                op.upsert("seen", {"id": number * 1000 + i, "v": 0})
                op.upsert("seen", {"id": number * 1000 + i, "v": i})
        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        op.checkpoint({"done": True})
        """,
        KEYED, {"seen": Table({"id": "INT", "v": "INT"}, [(n * 1000 + i, i) for n in range(4) for i in range(500)])}, state={"done": True},
    ),
]  # fmt: skip

CASES = [own_table(case) for case in CASES]
