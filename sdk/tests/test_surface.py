"""Names, signatures and checks of the import surface: what connectors and tools find, and what they are told when they
are wrong."""

import shutil
import textwrap
import unittest

import peer

PRELUDE = "from fivetran_connector_sdk import Connector, Logging as log, Operations as op\n"


class Base(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sdk = peer.staged_sdk()
        cls.addClassCleanup(shutil.rmtree, cls.sdk)

    def run_code(self, code, **start):
        """Runs the module; what it raises fails the test with its own traceback."""
        run = peer.Run(self.sdk, textwrap.dedent(code), **start)
        self.assertEqual(run.payloads(peer.FAILED), [], run.output)
        return run

    def update(self, body, schema="None", **start):
        lines = textwrap.indent(textwrap.dedent(body), "    ")
        code = f"def update(configuration, state):\n{lines}\nconnector = Connector(update=update, schema={schema})"
        return peer.Run(self.sdk, PRELUDE + code, **start)


class SurfaceTest(Base):
    def test_names_that_can_be_imported(self):
        self.run_code(
            """
            from fivetran_connector_sdk import *
            assert "Connector" not in globals()
            import fivetran_connector_sdk as sdk
            assert sdk.__all__ == ["ByteStream", "FileUpload", "Logging", "Operations", "ConfigurationForm", "Test", "form_field"]
            assert all(name in globals() for name in sdk.__all__)
            from fivetran_connector_sdk import configuration_form, constants, file_upload, form_field, operations, test
            assert configuration_form.ConfigurationForm is ConfigurationForm and file_upload.FileUpload is FileUpload
            assert operations.Operations is Operations and test.Test is Test and callable(sdk.main)
            from fivetran_connector_sdk_common import constants, helpers, logger
            import fivetran_connector_sdk_common
            assert logger.Logging is Logging and helpers.PromptMode is sdk.PromptMode
            assert sdk.__version__ == fivetran_connector_sdk_common.__version__
            assert sdk.__version__.startswith("2.13.1+inshore.")
            connector = sdk.Connector(update=lambda configuration, state: None)
            assert type(connector).__module__ == "fivetran_connector_sdk" and type(connector).__name__ == "Connector"
            """
        )

    def test_what_is_left_out_says_so(self):
        self.run_code(
            """
            import importlib
            for name in ("operation_stream", "schema_processing", "type_coercion", "protos", "protos.common_pb2", "cli", "plugin"):
                try:
                    importlib.import_module("fivetran_connector_sdk." + name)
                except ImportError as error:
                    assert "internal to the original SDK" in str(error), error
                else:
                    raise AssertionError(name)
            try:
                from fivetran_connector_sdk import common_pb2
            except ImportError as error:
                assert "internal to the original SDK" in str(error), error
            else:
                raise AssertionError("common_pb2")
            try:
                import fivetran_connector_sdk.no_such_module
            except ModuleNotFoundError:
                pass
            from fivetran_connector_sdk import Connector
            connector = Connector(lambda configuration, state: None)
            """
        )

    def test_a_connector_is_checked_by_nobody_before_it_runs(self):
        self.run_code(
            """
            from fivetran_connector_sdk import Connector
            strange = Connector(update=None, schema=5, configuration_form="x")
            assert (strange.update_method, strange.schema_method, strange.configuration_form_method) == (None, 5, "x")
            assert (strange.configuration, strange.state, strange.project_path) == (None, None, None)
            for wrong in ({"updates": None}, {}, {"update": None, "form": None}):
                try:
                    Connector(**wrong)
                except TypeError:
                    continue
                raise AssertionError(wrong)
            connector = Connector(lambda configuration, state: None, None, None)
            """
        )

    def test_update_by_keyword_schema_by_position(self):
        run = self.run_code(
            """
            from fivetran_connector_sdk import Connector, Operations as op
            def schema(anything, /):
                return ({"table": "t", "primary_key": ("id", "id"), "other": 1} for _ in range(1))
            def update(**given):
                assert sorted(given) == ["configuration", "state"]
                op.upsert("t", {"id": 1, "text": given["configuration"]["text"], "cursor": given["state"]["cursor"]})
            connector = Connector(schema=schema, update=update)
            """,
            configuration={"text": "x"},
            state={"cursor": 3},
        )
        (table,) = run.payloads(peer.SCHEMA)[0]["tables"]
        self.assertEqual((table["name"], table["key"]), ({"schema": "shop", "table": "t"}, ["id"]))
        self.assertEqual(run.values(), [{"id": 1, "text": "x", "cursor": 3}])

    def test_call_shapes(self):
        run = self.update(
            """
            op.upsert("a", {"id": 1})
            op.upsert(table="a", data={"id": 2})
            op.upsert("a", data={"id": 3}, schema=None, file=None)
            op.update(table="a", modified={"id": 1}, file=None)
            op.delete(table="a", keys={"id": 2, "other": 5})
            op.truncate(table="b")
            op.truncate("b", schema="north")
            op.truncate("b", deferred=False)
            op.checkpoint(state={"n": 1})
            op.checkpoint({"n": 2})
            for call in (
                lambda: op.delete(table="a", key={"id": 1}),
                lambda: op.upsert("a", {"id": 1}, "north"),
                lambda: op.upsert("a"),
                lambda: op.truncate("a", "north"),
                lambda: op.checkpoint(),
                lambda: op.upsert(tabel="a", data={}),
            ):
                try:
                    call()
                except TypeError:
                    continue
                raise AssertionError(call.__code__.co_firstlineno)
            """,
            "lambda c: [{'table': 'a', 'primary_key': ['id']}]",
        )
        self.assertEqual(run.payloads(peer.FAILED), [])
        truncated = [payload["table"] for payload in run.payloads(peer.TRUNCATE)]
        self.assertEqual([(t["schema"], t["table"]) for t in truncated], [("shop", "b"), ("shop_north", "b"), ("shop", "b")])
        self.assertEqual([payload["state"] for payload in run.payloads(peer.CHECKPOINT)], [{"n": 1}, {"n": 2}])

    def test_arguments_are_checked_in_their_order_and_nothing_is_kept(self):
        run = self.update(
            """
            import collections
            from fivetran_connector_sdk import FileUpload
            bad_file = FileUpload("", None)
            cases = [
                (TypeError, lambda: op.upsert(5, None, schema=5, file=5)),
                (ValueError, lambda: op.upsert("  ", None, schema=5, file=5)),
                (TypeError, lambda: op.upsert("t", None, schema=5, file=5)),
                (ValueError, lambda: op.upsert("t", None, schema=" ", file=5)),
                (TypeError, lambda: op.upsert("t", None, file=5)),
                (ValueError, lambda: op.upsert("t", None, file=bad_file)),
                (AttributeError, lambda: op.upsert("t", None)),
                (AttributeError, lambda: op.update("t", [("a", 1)])),
                (TypeError, lambda: op.delete(None, {"a": 1})),
                (ValueError, lambda: op.truncate("")),
                (TypeError, lambda: op.truncate(b"t")),
                (TypeError, lambda: op.upsert("t", {1: 1})),
                (TypeError, lambda: op.upsert("t", {None: 1})),
                (UnicodeEncodeError, lambda: op.upsert("t", {"\\ud800": 1})),
                (UnicodeEncodeError, lambda: op.upsert("t", {"a": "\\ud800"})),
                (ValueError, lambda: op.upsert("t", {b"\\xff": 1})),
                (TypeError, lambda: op.checkpoint({1, 2})),
                (TypeError, lambda: op.checkpoint({"a": float("nan")})),
                (ValueError, lambda: op.checkpoint("x" * (11 << 20))),
                (TypeError, lambda: op.warning(None)),
                (ValueError, lambda: op.warning(" ")),
                (TypeError, lambda: op.error(5)),
                (ValueError, lambda: op.error("")),
                (TypeError, lambda: op.error("x", trace=5)),
            ]
            for number, (expected, call) in enumerate(cases):
                try:
                    call()
                except Exception as error:
                    assert type(error) is expected, (number, error)
                else:
                    raise AssertionError(number)
            assert op.upsert("t", collections.ChainMap({"a": 1}, {b"b": 2, "": 3})) is None
            assert op.checkpoint({}) is None
            """
        )
        self.assertEqual(run.payloads(peer.FAILED), [], run.output)
        self.assertEqual([sorted(row.values()) for row in run.values()], [[1, 2, 3]])
        self.assertEqual(len(run.payloads(peer.CHECKPOINT)), 1)
        self.assertEqual((run.payloads(peer.ERROR), run.payloads(peer.WARNING)), ([], []))

    def test_what_user_code_lets_through_names_the_failure(self):
        cases = [
            ("op.checkpoint({1})", "state_type"),
            ("op.checkpoint('x' * (11 << 20))", "state_size"),
            ("import io\nfrom fivetran_connector_sdk import FileUpload\nop.upsert('t', {}, file=FileUpload('a', io.BytesIO()))", "file"),
            ("op.upsert('', {})", "raised"),
        ]
        for body, kind in cases:
            with self.subTest(body=body):
                self.assertEqual(self.update(body).failure()["kind"], kind)

    def test_a_generator_runs_to_its_end(self):
        run = self.update("for i in range(3):\n    yield op.upsert('t', {'i': i})\nyield op.checkpoint({'i': i})")
        self.assertEqual(run.payloads(peer.FAILED), [])
        self.assertEqual(run.values(), [{"i": 0}, {"i": 1}, {"i": 2}])
        run = self.update("yield op.upsert('t', {'i': 1})\nraise ValueError('late')")
        self.assertIn("late", run.failure()["trace"])
        self.assertEqual(run.rows(), [])

    def test_other_results_are_ignored_and_an_async_update_warns(self):
        self.assertEqual(self.update("return [op.upsert('t', {'a': 1})]").payloads(peer.END), [{"exit": "finished"}])
        code = "async def update(configuration, state):\n    op.upsert('t', {'a': 1})\nconnector = Connector(update)"
        run = self.run_code(PRELUDE + code)
        self.assertIn("async", run.payloads(peer.WARNING)[0]["message"])

    def test_an_error_for_a_person_does_not_stop_the_code(self):
        run = self.update("assert op.error('look', trace='here') is None\nop.upsert('t', {'a': 1})\nop.warning('too')")
        kinds = [kind for kind, _ in run.frames]
        self.assertEqual(run.payloads(peer.ERROR), [{"message": "look", "trace": "here"}])
        self.assertLess(kinds.index(peer.ERROR), kinds.index(peer.ROWS))
        self.assertEqual(run.payloads(peer.WARNING), [{"message": "too", "topic": "connector"}])

    def test_system_columns_are_dropped_with_one_warning_each(self):
        body = "for i in range(3):\n    op.upsert('t', {'a': i, '_fivetran_synced': 1, '_fivetran_id': 'x'})"
        run = self.update(body)
        self.assertEqual([column["name"] for column in run.rows()[0]["schema"]["columns"]], ["a"])
        self.assertEqual([warning["topic"] for warning in run.payloads(peer.WARNING)], ["columns", "columns"])


class SchemaTest(Base):
    """The rules of what schema() returns."""

    def test_results_that_are_refused(self):
        cases = [
            "None", "{'table': 't'}", "'t'", "5", "['t']", "[{}]", "[{'table': ' '}]", "[{'table': 5}]",
            "[{'table': 't', 'primary_key': 'id'}]", "[{'table': 't', 'primary_key': None}]",
            "[{'table': 't', 'primary_key': [1]}]", "[{'table': 't', 'primary_key': ['_fivetran_id']}]",
            "[{'table': 't', 'columns': None}]", "[{'table': 't', 'columns': ['a']}]",
            "[{'table': 't', 'columns': {'a': 'DECIMAL'}}]", "[{'table': 't', 'columns': {'a': 'NAIVE_TIME'}}]",
            "[{'table': 't', 'columns': {'a': 'TEXT'}}]", "[{'table': 't', 'columns': {'a': None}}]",
            "[{'table': 't', 'columns': {'a': {'type': 'DECIMAL'}}}]",
            "[{'table': 't', 'columns': {'a': {'type': 'STRING'}}}]", "[{'table': 't', 'columns': {1: 'INT'}}]",
            "[{'table': 't', 'schema': ''}]", "[{'table': 't', 'schema': 5}]", "[{'table': 't'}, {'table': 't'}]",
            "[{'table': 't', 'schema': 'a'}, {'table': 't', 'schema': 'a'}]",
        ]  # fmt: skip
        code = PRELUDE + textwrap.dedent("""
            import sys
            sys.path.insert(0, configuration_path)
            from inshore_schema import SchemaError, declared
            for case in cases:
                try:
                    declared(eval(case), print)
                except SchemaError:
                    continue
                raise AssertionError(case)
            connector = Connector(lambda configuration, state: None)
            """)
        self.run_code(f"cases = {cases!r}\nconfiguration_path = {self.sdk!r}\n{code}")
        # One of them through a whole sync: the kind names the page.
        self.assertEqual(self.update("pass", "lambda c: [{'table': 't', 'primary_key': 'id'}]").failure()["kind"], "schema")

    def test_order_of_columns_and_schemas(self):
        tables = [
            {"table": "t", "primary_key": ["b", "c"], "columns": {"a": "int", "b": "String"}},
            {"table": "t", "schema": "North East"},
        ]
        run = self.update("op.upsert('t', {'b': 'x', 'c': 1}, schema='North East')", f"lambda c: {tables!r}")
        plain, qualified = run.payloads(peer.SCHEMA)[0]["tables"]
        self.assertEqual(plain["key"], ["b", "c"])
        self.assertEqual([c["name"] for c in plain["columns"]][:1], ["b"])
        self.assertEqual(qualified["name"], {"schema": "shop_north_east", "table": "t"})
        self.assertEqual(run.rows()[0]["schema"]["name"], qualified["name"])

    def test_schema_runs_before_update_in_the_same_process(self):
        run = self.run_code(
            """
            import os
            from fivetran_connector_sdk import Connector, Operations as op
            seen = []
            def schema(configuration):
                seen.append(os.getpid())
                return []
            def update(configuration, state):
                assert seen == [os.getpid()]
            connector = Connector(update, schema)
            """
        )
        self.assertEqual(run.payloads(peer.SCHEMA), [{"tables": []}])


if __name__ == "__main__":
    unittest.main()
